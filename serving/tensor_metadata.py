"""A version as the Open Inference Protocol describes models: tensors of its schema, in and out, and a platform's name."""

from __future__ import annotations

from typing import Any

from registry.models import ModelVersion

_COLUMNS = {"double": "FP64", "long": "INT64", "boolean": "BOOL", "string": "BYTES", "datetime": "BYTES"}
_TENSORS = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL"}
# Names that clients of other servers know, where there are such.
_PLATFORMS = {
    "sklearn": "sklearn_joblib", "skops": "sklearn_skops", "xgboost": "xgboost_booster", "lightgbm": "lightgbm_booster",
    "onnx": "onnxruntime_onnx", "torchscript": "pytorch_libtorch", "torch_export": "pytorch_export",
}  # fmt: skip


def metadata(name: str, version: ModelVersion, versions: list[int]) -> dict[str, Any]:
    """The answer of GET v2/models/{name}; ``versions``: those that can be asked."""
    schema = version.schema or {}
    return {
        "name": name,
        "versions": [str(number) for number in sorted(versions)],
        "platform": _PLATFORMS.get(version.format, version.format),
        "inputs": inputs(schema),
        "outputs": outputs(schema.get("output") or {}, (version.profile or {}).get("answered")),
    }


def inputs(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """One tensor per column (a table also takes all of them as one), or the tensor."""
    tensor = schema.get("tensor")
    if tensor:
        return [{"name": "input", "datatype": _datatype(tensor), "shape": tensor["shape"]}]
    if schema.get("kind") == "json":
        named = [
            {"name": each["name"], "datatype": _datatype(each), "shape": each["shape"]}
            for each in schema.get("tensors") or []
        ]
        return named or [{"name": "input", "datatype": "BYTES", "shape": [-1]}]
    return [
        {"name": column["name"], "datatype": _COLUMNS[column["type"]], "shape": [-1, 1]}
        for column in schema.get("inputs") or []
    ]


def _datatype(tensor: dict[str, Any]) -> str:
    return _TENSORS.get(tensor["dtype"]) or str(tensor["dtype"]).upper()


def outputs(output: dict[str, Any], answered: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What it answers: labels by its classes, anything else as it was seen at validation (``answered``: datatype and shape)."""
    classes = output.get("classes") or []
    one_label = classes and not output.get("multilabel")
    seen = {"datatype": _of_labels(classes), "shape": [-1]} if one_label or not answered else answered
    found = [{"name": "predict", "datatype": seen["datatype"], "shape": seen["shape"]}]
    if output.get("probabilities"):
        found.append({"name": "predict_proba", "datatype": "FP64", "shape": [-1, len(classes) or -1]})
    return found


def _of_labels(classes: list[Any]) -> str:
    kinds = {type(label) for label in classes}
    if kinds == {str}:
        return "BYTES"
    return {frozenset((int,)): "INT64", frozenset((bool,)): "BOOL"}.get(frozenset(kinds), "FP64")
