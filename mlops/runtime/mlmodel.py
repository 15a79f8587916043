"""MLflow's description of a model folder, read as data: which file is the model, what it takes, an example. Nothing in it is obeyed.

``loader_module``, ``model_class``, ``code`` and ``skops_trusted_types`` are never looked at: which library opens a file is seen from the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mlops.runtime.archives import ArchiveError, check_name
from mlops.runtime.bundle import STRONG, BundleError
from mlops.runtime.schema import SchemaError, validate_schema

MAX_BYTES = 256 << 10
MAX_EXAMPLE_BYTES = 5 << 20
_MAX_DEPTH, _MAX_EVENTS = 20, 50_000
_DATA = {"sklearn": "pickled_model", "xgboost": "data", "lightgbm": "data", "onnx": "data", "pytorch": "model_data"}
_TYPES = {
    "double": "double", "float": "double", "long": "long", "integer": "long",
    "boolean": "boolean", "string": "string", "datetime": "datetime",
}  # fmt: skip
_EXAMPLES = ("serving_input_example.json", "input_example.json")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class MLmodel:
    """What a folder of MLflow's says. ``schema`` is its signature in our words, None where we have none for it."""

    flavor: str
    version: str
    model: str
    signature: Any
    schema: dict[str, Any] | None


def read(raw: bytes, names: Sequence[str]) -> MLmodel:
    """``raw``: the MLmodel file; ``names``: the folder's files. Raises BundleError."""
    found = plain_yaml(raw, "MLmodel")
    flavors = found.get("flavors")
    if not isinstance(flavors, dict):
        raise _bad("MLmodel names no flavors", "Save the model again with mlflow.<library>.save_model.")
    flavor = next((name for name in _DATA if isinstance(flavors.get(name), dict)), None)
    if flavor is None:
        told = ", ".join(str(name)[:40] for name in list(flavors)[:5]) or "none"
        raise BundleError(
            "mlflow_flavor_unknown",
            f"The MLflow folder has only flavors that are not opened here: {told}.",
            "Log the model with its own library (mlflow.sklearn, xgboost, lightgbm, onnx, pytorch), or add a predict.py that opens the folder.",
        )
    signature = _signature(found.get("signature"))
    model = _file(flavors[flavor].get(_DATA[flavor]), names)
    return MLmodel(flavor, str(found.get("mlflow_version") or "")[:40], model, signature, schema_of(signature))


def plain_yaml(raw: bytes, name: str) -> dict[str, Any]:
    """A small YAML file of plain values. Raises BundleError for one that is large, deep, or refers to itself."""
    if len(raw) > MAX_BYTES:
        raise _bad(f"{name} is larger than {MAX_BYTES >> 10} kB", "Leave out what no model needs.")
    try:
        depth = 0
        for count, event in enumerate(yaml.parse(raw, Loader=_LOADER)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH or count > _MAX_EVENTS:
                raise _bad(f"{name} has aliases, or is too deep or too long", "Write it out plainly, as MLflow does.")
        found = yaml.load(raw, Loader=_LOADER)  # noqa: S506  a safe loader, the quick one where there is one
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise _bad(f"{name} is not YAML ({' '.join(str(error).split())[:160]})", "Save the model again.") from error
    if not isinstance(found, dict):
        raise _bad(f"{name} is not a list of names and values", "Save the model again.")
    return found


def _bad(what: str, hint: str) -> BundleError:
    return BundleError("bad_mlmodel", f"{what}.", hint)


def _file(given: Any, names: Sequence[str]) -> str:
    """The model's file: the one that is named, or the only model in the folder that is."""
    if not isinstance(given, str) or not given:
        raise _bad("MLmodel does not name the model's file", "Save the model again with mlflow.<library>.save_model.")
    try:
        check_name(given)
    except ArchiveError as error:
        raise _bad(
            f"MLmodel names a file outside its folder: {given[:120]!r}", "Paths in it are relative, inside the folder."
        ) from error
    if given in names:
        return given
    inside = [name for name in names if name.startswith(given.rstrip("/") + "/") and name.endswith(STRONG)]
    if len(inside) != 1:
        raise _bad(
            f"MLmodel names {given[:120]!r}, which is not in the folder", "Push the whole folder that MLflow wrote."
        )
    return inside[0]


def _signature(given: Any) -> Any:
    """The inputs of the signature: MLflow writes them as JSON inside the YAML."""
    inputs = given.get("inputs") if isinstance(given, dict) else None
    try:
        return json.loads(inputs) if isinstance(inputs, str) else None
    except (ValueError, RecursionError) as error:
        raise _bad(
            "MLmodel's signature is not JSON", "Save the model again with mlflow.models.infer_signature."
        ) from error


def schema_of(signature: Any) -> dict[str, Any] | None:
    """Columns, or one tensor, in the words of ``schema.py``; None for what has none (objects, maps, several tensors)."""
    if not isinstance(signature, list) or not signature or not all(isinstance(each, dict) for each in signature):
        return None
    try:
        if len(signature) == 1 and signature[0].get("type") == "tensor":
            spec = signature[0].get("tensor-spec") or {}
            tensor = {"dtype": spec.get("dtype"), "shape": spec.get("shape")}
            return validate_schema({"kind": "tensor", "tensor": tensor}, source="model")
        if any(each.get("type") not in _TYPES or not each.get("name") for each in signature):
            return None
        columns = [
            {
                "name": each["name"],
                "type": _TYPES[each["type"]],
                "nullable": not each.get("required", True) or bool(each.get("optional")),
            }
            for each in signature
        ]
        return validate_schema({"kind": "table", "inputs": columns}, source="model")
    except (SchemaError, TypeError, AttributeError):
        return None


def example(names: Sequence[str]) -> str | None:
    """The name of the example's file, the one for servers first."""
    return next((name for name in _EXAMPLES if name in names), None)


def rows_of_example(raw: bytes) -> Any:
    """The rows of an example as a sample would have them; None when it is nothing we know."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        split = found.get("dataframe_split") or (found if {"columns", "data"} <= found.keys() else None)
        if isinstance(split, dict):
            return _split(split)
        return next((found[key] for key in ("dataframe_records", "inputs", "instances") if key in found), None)
    return found if isinstance(found, list) and found else None


def _split(split: dict[str, Any]) -> Any:
    columns, data = split.get("columns"), split.get("data")
    if not isinstance(data, list) or not data or not all(isinstance(row, list) for row in data):
        return None
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        return data
    if any(len(row) != len(columns) for row in data):
        return None
    return [dict(zip(columns, row, strict=True)) for row in data]


def python_of(raw: bytes, name: str) -> str | None:
    """The Python it was saved with ("3.11"), as python_env.yaml or conda.yaml say."""
    found = plain_yaml(raw, name)
    told = str(found.get("python") or "")
    for each in _dependencies(found):
        if isinstance(each, str) and each.startswith("python="):
            told = each.partition("=")[2]
    version = re.match(r"=*(\d+\.\d+)", told)
    return version.group(1) if version else None


def pip_of(raw: bytes, name: str) -> str | None:
    """The pip packages of a conda.yaml as a requirements file."""
    for each in _dependencies(plain_yaml(raw, name)):
        if isinstance(each, dict) and isinstance(each.get("pip"), list):
            return "".join(f"{line}\n" for line in each["pip"] if isinstance(line, str))
    return None


def _dependencies(found: dict[str, Any]) -> list[Any]:
    told = found.get("dependencies")
    return told if isinstance(told, list) else []
