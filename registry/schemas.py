"""Which schema is in force: given by its author, else seen in the sample, else in the reference, else told by the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.core import errors
from mlops.runtime.schema import SchemaError, from_model, infer, output_of, validate_schema
from registry.checking import Level, Said, Validation, refuse
from registry.profiling import Table, reference_of, sample_of

_NO_CODE_SAYS = 'Code does not say what it takes: put a test_data.json with {"inputs": [row, ...]} beside predict.py, or push a sample or a schema.'
_RANKED = 2  # a tensor of rows and columns


def decide(validation: Validation) -> dict[str, Any]:
    """The schema in force. Raises Invalid when nothing says what the model takes, or when two sources contradict each other."""
    try:
        schema = _inputs(validation)
        if schema is None:
            refuse(
                "schema_unknown",
                "The file does not say which columns the model takes.",
                _NO_CODE_SAYS
                if validation.version.format == "python"
                else "Push a sample of rows (JSON or CSV) with it, or a schema in its metadata.",
            )
        return _with_activation(_with_output(validation, schema), validation.describe)
    except SchemaError as error:
        raise errors.Invalid(error.message, code=error.code, hint=error.hint, fields=error.errors) from error


def _inputs(validation: Validation) -> dict[str, Any] | None:
    given, describe = validation.version.given_schema, validation.describe
    if given:
        return _given(given, describe)
    if signature := _signature_of(validation):
        return {**_given(signature, describe), "source": "model"}
    sample = sample_of(validation)
    if sample is not None and sample.nested is not None:
        return _of_rows(sample.nested) if validation.version.format == "python" else from_model(describe)
    target = validation.version.claims.get("target")
    columned = {**describe, "inputs": _columns_of(describe)}
    if sample is not None:
        _same_width(sample, columned["inputs"])
        sample = sample.named([column["name"] for column in columned["inputs"] or []])
        validation.tables["sample"] = sample
        seen = infer(sample.columns, source="sample", types=sample.types, describe=columned, target=target)
        return _widened(validation, sample, seen, columned)
    reference = reference_of(validation)
    if reference is not None:
        return infer(reference.columns, source="reference", types=reference.types, describe=columned, target=target)
    schema = from_model(describe)
    guessed = [column["name"] for column in describe.get("inputs") or [] if column.get("guessed")]
    if guessed:
        shown = ", ".join(repr(name) for name in guessed[:8]) + (" and others" if len(guessed) > 8 else "")
        message = f"The model hands on or drops {shown} as they come, so their type is a guess: numbers."
        hint = "Push a sample or reference: then text, dates and true/false are accepted where your data has them."
        validation.notes.append(Said(message, Level.INFO, hint))
    if (
        schema is not None
        and schema["kind"] == "table"
        and all(name["name"] == f"f{place}" for place, name in enumerate(schema["inputs"]))
    ):
        hint = "Push a sample or reference with a header to get real names, types and ranges."
        validation.notes.append(Said("The columns have no names of their own.", Level.INFO, hint))
    return schema


def _signature_of(validation: Validation) -> dict[str, Any] | None:
    """What MLflow's folder says the model takes, where the model may be asked so."""
    told = ((validation.version.contents or {}).get("mlflow") or {}).get("schema")
    if not told:
        return None
    described = validation.describe
    if told["kind"] == "tensor":
        return told if described.get("tensor") and not described.get("inputs") else None
    columns = _columns_of(described)
    return told if columns is None or len(columns) == len(told["inputs"]) else None


def _of_rows(rows: list[Any]) -> dict[str, Any]:
    """The schema of rows that are no table: an array where they are one with fractions, else any JSON.

    Whole numbers may be tokens or anything else: they are handed over as they come.
    """
    try:
        array = np.asarray(rows)
    except ValueError:  # rows of different lengths
        array = np.asarray([], dtype=object)
    if array.dtype != np.float64:
        return validate_schema({"kind": "json"}, source="sample")
    return validate_schema(
        {"kind": "tensor", "tensor": {"dtype": "float64", "shape": [-1, *array.shape[1:]], "encoding": "array"}},
        source="sample",
    )


def _same_width(sample: Table, described: list[dict[str, Any]] | None) -> None:
    """Rows without names are told apart by their width only, so it must be the model's."""
    if sample.unnamed and described and len(sample.columns) != len(described):
        refuse(
            "wrong_width",
            f"The sample's rows have {len(sample.columns)} values, the model takes {len(described)}.",
            "Send one value per column of the model, without the target.",
        )


def _given(given: dict[str, Any], describe: dict[str, Any]) -> dict[str, Any]:
    """The author's schema; where it says nothing about the output, the model is believed."""
    told = given["output"]
    silent = told["task"] == "other" and not told["classes"]
    return {**given, "output": output_of(describe) if silent else told, "source": "given"}


def _columns_of(describe: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The columns a model takes; a tensor of rows and a fixed width counts as that many unnamed ones."""
    if describe.get("inputs"):
        return describe["inputs"]
    tensor = describe.get("tensor") or {}
    shape = tensor.get("shape") or []
    if len(shape) != _RANKED or shape[1] < 1:
        return None
    kind = "double" if str(tensor["dtype"]).startswith("float") else "long"
    return [{"name": f"f{place}", "type": kind, "nullable": False} for place in range(shape[1])]


def _widened(validation: Validation, sample: Table, seen: dict[str, Any], describe: dict[str, Any]) -> dict[str, Any]:
    """A sample is short: types, ranges, levels and missing values are taken from the reference too, when it has the columns."""
    try:
        reference = reference_of(validation)
    except errors.SlipwayError:
        return seen  # the profile says what is wrong with it
    if reference is None or not reference.has(seen):
        return seen
    names = [column["name"] for column in seen["inputs"]]
    columns = {name: [*sample.columns[name], *reference.columns[name]] for name in names}
    return infer(columns, source="sample", types=_common_types(sample, reference), describe=describe)


def _common_types(sample: Table, reference: Table) -> dict[str, str]:
    types = {}
    for name, found in reference.types.items():
        other = sample.types.get(name, found)
        if "datetime" in (found, other):
            types[name] = "datetime"
        elif found == other:
            types[name] = found
    return types


def _with_output(validation: Validation, schema: dict[str, Any]) -> dict[str, Any]:
    """What its author claims about the output wins: a network cannot know its classes. Probabilities are the model's own."""
    claimed = validation.version.claims.get("output")
    if not claimed:
        return schema
    merged = {**schema["output"], **{name: value for name, value in claimed.items() if value is not None}}
    merged["probabilities"] = bool(schema["output"].get("probabilities") or claimed.get("probabilities"))
    return validate_schema({**schema, "output": merged}, source=schema["source"])


def _with_activation(schema: dict[str, Any], describe: dict[str, Any]) -> dict[str, Any]:
    """What is to be done with a classifier's only score, where its author says nothing: as the network was found to answer."""
    output, found = schema["output"], describe.get("single_score")
    if not found or not output.get("classes") or "activation" in output:
        return schema
    return validate_schema({**schema, "output": {**output, "activation": found}}, source=schema["source"])
