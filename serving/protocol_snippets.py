"""The call of a deployment with other servers' clients, as people paste it: real column names, values of the example row."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import urlsplit

from serving.snippets import KEY_VARIABLE
from serving.tensor_metadata import inputs as tensors_of

_EMPTY = {"BYTES": "", "BOOL": False}


def others(url: str, name: str, schema: dict[str, Any], example: dict[str, Any], key: str = "") -> list[dict[str, str]]:
    """[{"label", "code"}]. ``url``: the deployment's address; ``example``: a native request."""
    secret = repr(key) if key else f'os.environ["{KEY_VARIABLE}"]'
    tensors = example_tensors(schema, example)
    return [
        {"label": "V2 (curl)", "code": _v2_curl(url, name, tensors, key)},
        {"label": "Triton client", "code": _triton(url, name, tensors, secret)},
        {"label": "MLflow client", "code": _mlflow(url, schema, example, secret)},
        {"label": "Explain (curl)", "code": _explain(url, example, key)},
    ]


def example_tensors(schema: dict[str, Any], example: dict[str, Any]) -> list[dict[str, Any]]:
    """The example's first row as tensors of the Open Inference Protocol."""
    row = _first(example)
    described = tensors_of(schema)
    if schema.get("kind") == "json":
        named = row if isinstance(row, dict) and schema.get("tensors") else {described[0]["name"]: json.dumps(row)}
        return [_tensor_of(each, named[each["name"]]) for each in described if each["name"] in named]
    if schema.get("kind") == "tensor" and isinstance(row, str):  # a picture
        tensor = {"name": described[0]["name"], "shape": [1], "datatype": "BYTES", "data": [row]}
        return [{**tensor, "parameters": {"content_type": "base64"}}]
    if schema.get("kind") == "tensor":
        shape, flat = _shape([row]), _flat([row])
        return [{"name": described[0]["name"], "shape": shape, "datatype": described[0]["datatype"], "data": flat}]
    values = list(row.values()) if isinstance(row, dict) else row
    names = [tensor["name"] for tensor in described]
    named = row if isinstance(row, dict) else dict(zip(names, values, strict=False))
    return [
        {"name": each["name"], "shape": [1, 1], "datatype": each["datatype"], "data": [named.get(each["name"])]}
        for each in described
    ]


def _tensor_of(described: dict[str, Any], value: Any) -> dict[str, Any]:
    return {
        "name": described["name"],
        "shape": _shape([value]),
        "datatype": described["datatype"],
        "data": _flat([value]),
    }


def _first(example: dict[str, Any]) -> Any:
    given = example.get("inputs")
    return given[0] if isinstance(given, list) and given else given


def _shape(value: Any) -> list[int]:
    return [len(value), *_shape(value[0])] if isinstance(value, list) and value else []


def _flat(value: Any) -> list[Any]:
    return [item for each in value for item in _flat(each)] if isinstance(value, list) else [value]


def _bearer(key: str) -> str:
    return f"Authorization: Bearer {key or f'${KEY_VARIABLE}'}"


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _v2_curl(url: str, name: str, tensors: list[dict[str, Any]], key: str) -> str:
    body = json.dumps({"inputs": tensors}, ensure_ascii=False)
    return f'curl {shlex.quote(f"{_root(url)}/v2/models/{name}/infer")} \\\n  -H "{_bearer(key)}" \\\n  -d {shlex.quote(body)}'


def _explain(url: str, example: dict[str, Any], key: str) -> str:
    body = json.dumps(example, ensure_ascii=False)
    return (
        f'curl {shlex.quote(f"{url}/explain")} \\\n  -H "{_bearer(key)}" \\\n  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )


def _triton(url: str, name: str, tensors: list[dict[str, Any]], secret: str) -> str:
    parts = urlsplit(url)
    lines = [
        f"    ({each['name']!r}, {each['datatype']!r}, {each['shape']!r}, {[_sendable(each, value) for value in each['data']]!r}),"
        for each in tensors
    ]
    secure = ", ssl=True" if parts.scheme == "https" else ""
    return "\n".join(
        [
            "# pip install tritonclient[http]",
            "import os",
            "",
            "import numpy as np",
            "import tritonclient.http as triton",
            "from tritonclient.utils import triton_to_np_dtype",
            "",
            f"key = {secret}",
            "nan = float('nan')",
            "columns = [",
            *lines,
            "]",
            "inputs = []",
            "for name, datatype, shape, values in columns:",
            "    tensor = triton.InferInput(name, shape, datatype)",
            "    tensor.set_data_from_numpy(np.array(values, dtype=triton_to_np_dtype(datatype)).reshape(shape))",
            "    inputs.append(tensor)",
            f"client = triton.InferenceServerClient({parts.netloc!r}{secure})",
            f'answer = client.infer({name!r}, inputs, headers={{"Authorization": f"Bearer {{key}}"}})',
            'print(answer.as_numpy("predict"))',
            "",
        ]
    )


def _sendable(tensor: dict[str, Any], value: Any) -> Any:
    """A missing value as a tensor can hold it."""
    return _EMPTY.get(tensor["datatype"], _Nan()) if value is None else value


class _Nan:
    def __repr__(self) -> str:
        return "nan"


def _mlflow(url: str, schema: dict[str, Any], example: dict[str, Any], secret: str) -> str:
    parts, row = urlsplit(url), _first(example)
    if schema.get("kind") == "tensor":
        imports, data = "import numpy as np", f"np.array({[row]!r})"
    elif schema.get("kind") == "json":
        imports, data = "import pandas as pd", f"pd.DataFrame({[row]!r})"
    else:
        names = [column["name"] for column in schema.get("inputs") or []]
        named = row if isinstance(row, dict) else dict(zip(names, row, strict=False))
        imports, data = "import pandas as pd", f"pd.DataFrame([{named!r}])"
    return "\n".join(
        [
            "# pip install mlflow",
            "import os",
            "",
            imports,
            "from mlflow.pyfunc.scoring_server.client import ScoringServerClient",
            "",
            f"key = {secret}",
            'client = ScoringServerClient("", "")',
            f'client.url_prefix = f"{parts.scheme}://key:{{key}}@{parts.netloc}{parts.path}"',
            f"print(client.invoke({data}).get_predictions())",
            "",
        ]
    )
