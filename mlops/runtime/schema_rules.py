"""What a valid schema is: names, types, bounds, tensor and output. The form is described in schema.py."""

from __future__ import annotations

import math
from typing import Any

from mlops.runtime.schema_error import MAX_ERRORS, SchemaError

TYPES = ("double", "long", "boolean", "string", "datetime")
KINDS = ("table", "tensor", "json")
TASKS = ("classifier", "regressor", "clusterer", "outlier_detector", "transformer", "ranker", "other")
LABELLING = frozenset(
    ("classifier", "clusterer", "outlier_detector")
)  # what they answer is one of a few, also when it is a number
SOURCES = ("given", "sample", "reference", "model")
ACTIVATIONS = ("softmax", "sigmoid", "none")
DTYPES = (
    "float32",
    "float64",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
SCALES = ("0..1", "0..255")
LAYOUTS = ("NCHW", "NHWC")
MAX_COLUMNS = 10_000
MAX_TENSORS = 100
MAX_LABEL_LISTS = 1_000
MAX_LEVELS = 50
MAX_NAME = 200
_RANK_OF_IMAGES, _CHANNELS = 4, (3, 1, 4)
_SYNONYMS = {
    "float": "double", "float32": "double", "float64": "double", "number": "double", "numeric": "double",
    "int": "long", "int32": "long", "int64": "long", "integer": "long",
    "bool": "boolean", "str": "string", "text": "string", "category": "string", "categorical": "string",
    "date": "datetime", "timestamp": "datetime",
}  # fmt: skip


def validate_schema(obj: Any, *, source: str = "given") -> dict[str, Any]:
    """The schema in its full form, or `SchemaError` listing everything wrong with it. Type synonyms (float, int, str) are accepted."""
    if not isinstance(obj, dict):
        raise _bad_schema([{"message": "A schema is a JSON object."}])
    errors: list[dict[str, Any]] = []
    unknown = sorted(set(obj) - {"kind", "inputs", "tensor", "tensors", "output", "source"})
    if unknown:
        errors.append({"message": f"Unknown keys: {', '.join(map(str, unknown))[:200]}."})
    kind = obj.get("kind") or _kind_meant(obj)
    if kind not in KINDS:
        errors.append({"message": f'"kind" is "table", "tensor" or "json", not {kind!r}.'})
    tensor = _tensor_part(obj.get("tensor"), errors) if kind == "tensor" else None
    inputs = _input_part(obj.get("inputs"), errors) if kind == "table" else []
    tensors = _tensors_part(obj.get("tensors"), errors) if kind == "json" else None
    output = _output_part(obj.get("output"), errors)
    said = obj.get("source", source)
    if said not in SOURCES:
        errors.append({"message": f'"source" is one of {", ".join(SOURCES)}.'})
    if errors:
        raise _bad_schema(errors)
    named = {"tensors": tensors} if tensors else {}
    return {"kind": kind, "inputs": inputs, "tensor": tensor, **named, "output": output, "source": said}


def answers_labels(schema: dict[str, Any] | None) -> bool:
    """Whether what a model of this schema answers is a label (a class, a cluster), not a quantity."""
    output = (schema or {}).get("output") or {}
    return output.get("task") in LABELLING or bool(output.get("classes"))


def _kind_meant(obj: dict[str, Any]) -> str:
    if obj.get("inputs"):
        return "table"
    return "tensor" if obj.get("tensor") else "json" if obj.get("tensors") else "table"


def _bad_schema(errors: list[dict[str, Any]]) -> SchemaError:
    return SchemaError(
        "The schema is not valid: " + errors[0]["message"],
        errors[:MAX_ERRORS],
        'A schema looks like {"inputs": [{"name": "age", "type": "double", "nullable": false}]}.',
        code="invalid_schema",
    )


def _input_part(given: Any, errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not given:
        errors.append({"message": '"inputs" is a list with at least one column.'})
        return []
    if len(given) > MAX_COLUMNS:
        errors.append({"message": f"{len(given):,} columns are more than {MAX_COLUMNS:,}."})
        return []
    seen: set[str] = set()
    columns = []
    for place, column in enumerate(given):
        checked = _column(column, place, errors)
        if checked is None:
            continue
        if checked["name"] in seen:
            errors.append({"column": checked["name"], "message": f"Column {checked['name']!r} appears twice."})
        seen.add(checked["name"])
        columns.append(checked)
    return columns


def _column(column: Any, place: int, errors: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not isinstance(column, dict):
        errors.append({"message": f"Column {place} is not an object with name and type."})
        return None
    name = column.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        errors.append({"message": f"Column {place} needs a name of 1 to {MAX_NAME} characters."})
        return None

    def wrong(text: str) -> None:
        errors.append({"column": name, "message": f"Column {name!r}: {text}"})

    kind = _SYNONYMS.get(str(column.get("type")), column.get("type"))
    if kind not in TYPES:
        wrong(f"the type is one of {', '.join(TYPES)}, not {column.get('type')!r}.")
        return None
    nullable = column.get("nullable", False)
    if not isinstance(nullable, bool):
        wrong("nullable is true or false.")
    extra = sorted(set(column) - {"name", "type", "nullable", "min", "max", "levels", "example"})
    if extra:
        wrong(f"unknown keys {', '.join(map(str, extra))[:200]}.")
    checked: dict[str, Any] = {"name": name, "type": kind, "nullable": bool(nullable)}
    _bounds_part(column, kind, checked, wrong)
    if column.get("example") is not None:
        checked["example"] = column["example"]
    return checked


def _bounds_part(column: dict[str, Any], kind: str, checked: dict[str, Any], wrong: Any) -> None:
    for key in ("min", "max"):
        bound = column.get(key)
        if bound is None:
            continue
        if (
            kind not in ("double", "long")
            or isinstance(bound, bool)
            or not isinstance(bound, (int, float))
            or not math.isfinite(bound)
        ):
            wrong(f"{key} is a finite number and belongs to a numeric column.")
        else:
            checked[key] = bound
    if "min" in checked and "max" in checked and checked["min"] > checked["max"]:
        wrong("min is above max.")
    levels = column.get("levels")
    if levels is None:
        return
    allowed = {"string": (str,), "long": (int,), "double": (int, float), "boolean": (bool,), "datetime": (str,)}[kind]
    fine = (
        isinstance(levels, list) and 0 < len(levels) <= MAX_LEVELS and all(type(level) in allowed for level in levels)
    )
    if not fine:
        wrong(f"levels is a list of 1 to {MAX_LEVELS} values of type {kind}.")
    else:
        checked["levels"] = list(dict.fromkeys(levels))


def _tensor_part(given: Any, errors: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not isinstance(given, dict):
        errors.append({"message": '"tensor" is {"dtype": "float32", "shape": [-1, 4]}.'})
        return None
    dtype, shape = given.get("dtype", "float32"), given.get("shape")
    if dtype not in DTYPES:
        errors.append({"message": f"The tensor's dtype is one of {', '.join(DTYPES)}."})
    sizes = (
        isinstance(shape, list)
        and 1 <= len(shape) <= 8
        and all(type(size) is int and (size > 0 or size == -1) for size in shape)
    )
    if not sizes:
        errors.append(
            {"message": "The tensor's shape is a list of 1 to 8 sizes; -1 is any size, and the first is the rows."}
        )
        return None
    assert isinstance(shape, list)
    # Rows are the first dimension and free: loaders cut and pad where a model has a fixed batch.
    shape = [-1, *shape[1:]]
    return {"dtype": dtype, "shape": shape, **_image_part(given, str(dtype), shape, errors)}


def _image_part(given: dict[str, Any], dtype: str, shape: list[int], errors: list[dict[str, Any]]) -> dict[str, Any]:
    """What turns a picture into a row, where a tensor may be pictures; "encoding": "array" says that it is none."""
    layouts = _layouts(dtype, shape)
    encoding = given.get("encoding", "image" if layouts else "array")
    if encoding not in ("image", "array"):
        errors.append({"message": 'The tensor\'s encoding is "image" or "array".'})
    if encoding != "image":
        return {"encoding": "array"} if layouts else {}
    if not layouts:
        message = "A tensor of pictures has 4 dimensions, 1, 3 or 4 channels (first or last), and numbers of type uint8 or float."
        errors.append({"message": message})
        return {}
    found = {
        "encoding": "image",
        "layout": given.get("layout") or layouts[0],
        "scale": given.get("scale") or ("0..255" if dtype == "uint8" else "0..1"),
    }
    if found["layout"] not in layouts:
        errors.append({"message": f"The layout of shape {shape} is {' or '.join(layouts)}."})
    if found["scale"] not in SCALES or (dtype == "uint8" and found["scale"] == "0..1"):
        errors.append({"message": f"The scale is one of {', '.join(SCALES)}; uint8 is 0..255."})
    if not isinstance(given.get("resize", False), bool):
        errors.append({"message": "resize is true or false."})
    elif given.get("resize") and -1 in (shape[2], shape[1] if found["layout"] == "NHWC" else shape[3]):
        errors.append({"message": "Pictures can be resized where the tensor's height and width are given."})
    return {**found, "resize": True} if given.get("resize") else found


def _layouts(dtype: str, shape: list[int]) -> list[str]:
    """In which order rows, channels, height and width may stand; none where it cannot be pictures."""
    if len(shape) != _RANK_OF_IMAGES or not (dtype == "uint8" or dtype.startswith("float")):
        return []
    places = zip(LAYOUTS, (shape[1], shape[3]), strict=True)
    found = [(_CHANNELS.index(channels), layout) for layout, channels in places if channels in _CHANNELS]
    return [layout for _, layout in sorted(found)]  # a side of 4 pixels is likelier beside 3 channels than 4 channels


def _tensors_part(given: Any, errors: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The inputs of a model that takes several tensors by name; None for any JSON."""
    if given is None:
        return None
    names = [each.get("name") if isinstance(each, dict) else None for each in given] if isinstance(given, list) else []
    fine = 0 < len(names) <= MAX_TENSORS and all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in names)
    if not fine or len(set(names)) < len(names):
        errors.append(
            {"message": '"tensors" is [{"name": "ids", "dtype": "int64", "shape": [-1, -1]}, ...], each name once.'}
        )
        return None
    return [{"name": each["name"], **(_tensor_part(each, errors) or {})} for each in given]


def _output_part(given: Any, errors: list[dict[str, Any]]) -> dict[str, Any]:
    if given is None:
        return {"task": "other", "classes": None, "probabilities": False}
    if not isinstance(given, dict):
        errors.append({"message": '"output" is {"task": "classifier", "classes": [...]}.'})
        return {}
    classes = given.get("classes")
    task = given.get("task") or ("classifier" if classes else "other")
    if task not in TASKS:
        errors.append({"message": f"The output's task is one of {', '.join(TASKS)}."})
    labels = (
        isinstance(classes, list)
        and 1 < len(classes) <= 10_000
        and all(isinstance(item, (str, int, float)) for item in classes)
    )
    if classes is not None and not (labels and len({repr(item) for item in classes}) == len(classes)):
        errors.append({"message": "classes is a list of at least two different labels."})
    activation = given.get("activation")
    if activation is not None and activation not in ACTIVATIONS:
        errors.append({"message": f"activation is one of {', '.join(ACTIVATIONS)}."})
    output = {"task": task, "classes": classes, "probabilities": bool(given.get("probabilities", False))}
    if (by_output := given.get("classes_by_output")) is not None:
        if not _lists_of_labels(by_output):
            errors.append({"message": "classes_by_output is a list of the labels of each output."})
        output["classes_by_output"] = by_output
    if given.get("multilabel") is True:
        output["multilabel"] = True
    return output if activation is None else {**output, "activation": activation}


def _lists_of_labels(given: Any) -> bool:
    return (
        isinstance(given, list)
        and 0 < len(given) <= MAX_LABEL_LISTS
        and all(isinstance(each, list) and 0 < len(each) <= MAX_COLUMNS for each in given)
        and all(isinstance(label, (str, int, float)) for each in given for label in each)
    )
