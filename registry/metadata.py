"""What an author says about a version: checked, bounded, and kept as claims until validation has measured."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mlops.core import errors, ids
from mlops.runtime.schema import SchemaError, validate_schema

KEYS = (
    "description", "framework", "metrics", "output", "parents", "project", "retraining", "run", "schema", "tags", "target",
)  # fmt: skip
MAX_BYTES = 256 << 10
MAX_PARENTS = 20
MAX_TAGS, MAX_METRICS, MAX_NAME, MAX_TEXT, MAX_DESCRIPTION = 50, 200, 63, 200, 10_000
_HINT = 'Metadata looks like {"description": "...", "metrics": {"auc": 0.94}, "tags": {"team": "risk"}}.'


@dataclass(frozen=True)
class Metadata:
    description: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    given_schema: dict[str, Any] | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    project: str = ""
    parents: tuple[tuple[str, int], ...] = ()


def _refuse(message: str, *, field_name: str = "metadata", hint: str = _HINT) -> NoReturn:
    raise errors.Invalid(message, code="bad_metadata", hint=hint, fields={field_name: [message]})


def parse(raw: str) -> Metadata:
    """The metadata field of a push. Raises Invalid (``bad_metadata``) naming what is wrong; an empty text is no metadata."""
    if not raw.strip():
        return Metadata()
    if len(raw.encode()) > MAX_BYTES:
        _refuse(f"The metadata is larger than {MAX_BYTES >> 10} kB.", hint="Put large data into files.")
    try:
        found = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _refuse(f"The metadata is not JSON: {error}.")
    if not isinstance(found, dict):
        _refuse("The metadata is not a JSON object.")
    if unknown := sorted(set(found) - set(KEYS)):
        _refuse(f"The metadata has unknown keys: {', '.join(unknown)[:200]}.", hint=f"Known keys: {', '.join(KEYS)}.")
    return Metadata(
        description=text(found.get("description"), "description", MAX_DESCRIPTION),
        metrics=metrics(found.get("metrics")),
        tags=tags(found.get("tags")),
        given_schema=schema(found["schema"]) if found.get("schema") is not None else None,
        claims=_claims(found),
        project=text(found.get("project"), "project", MAX_NAME),
        parents=parents(found.get("parents")),
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _claims(found: dict[str, Any]) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    if found.get("framework"):
        claims["framework"] = text(found["framework"], "framework", 40)
    if found.get("target"):
        claims["target"] = text(found["target"], "target", MAX_TEXT)
    if found.get("output") is not None:
        claims["output"] = output(found["output"])
    retraining = found.get("retraining")
    if retraining is not None:
        if not isinstance(retraining, int) or isinstance(retraining, bool) or not 0 < retraining < 1 << 62:
            _refuse('"retraining" is the number of a retraining run.')
        claims["retraining"] = retraining
    run = found.get("run")
    if run:
        if not isinstance(run, (str, dict)) or len(json.dumps(run)) > 10_000:
            _refuse('"run" is a text or an object of at most 10,000 characters.')
        claims["run"] = run
    return claims


def text(value: Any, name: str, limit: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit:
        _refuse(f'"{name}" is text of at most {limit:,} characters.')
    if "\x00" in value:
        _refuse(f'"{name}" holds a NUL character.')
    return value.strip()


def metrics(value: Any) -> dict[str, float]:
    """Name -> finite number."""
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_METRICS:
        _refuse(f'"metrics" is an object of at most {MAX_METRICS} numbers.', hint='For example {"auc": 0.94}.')
    for name, number in value.items():
        plain = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not name.strip() or len(name) > MAX_NAME or not plain or not math.isfinite(number):
            _refuse(
                f"The metric {name[:60]!r} is not a finite number with a name of 1 to {MAX_NAME} characters.",
                hint='For example {"auc": 0.94}.',
            )
    return dict(value)


def tags(value: Any) -> dict[str, str]:
    """Tag -> value, from an object or a list of words (their value is empty)."""
    if value is None:
        return {}
    pairs = (
        dict.fromkeys(value, "") if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
    )
    if not isinstance(pairs, dict) or len(pairs) > MAX_TAGS:
        _refuse(
            f'"tags" is a list of words or an object, at most {MAX_TAGS}.',
            hint='For example ["fraud"] or {"team": "risk"}.',
        )
    for name, given in pairs.items():
        if (
            not name.strip()
            or len(name) > MAX_NAME
            or not isinstance(given, (str, int, float))
            or len(str(given)) > MAX_TEXT
            or "\x00" in f"{name}{given}"
        ):
            _refuse(
                f"The tag {name[:60]!r} needs a name of 1 to {MAX_NAME} and a value of at most {MAX_TEXT} characters."
            )
    return {name.strip(): str(given) for name, given in pairs.items()}


def parents(value: Any) -> tuple[tuple[str, int], ...]:
    """(model, version) of each version this one was made from, none twice."""
    if value is None:
        return ()
    good = isinstance(value, list) and len(value) <= MAX_PARENTS and all(_is_parent(each) for each in value)
    if not good:
        _refuse(
            f'"parents" is a list of at most {MAX_PARENTS} versions.',
            hint='For example [{"model": "churn", "version": 3}].',
        )
    return tuple(dict.fromkeys((each["model"], each["version"]) for each in value))


def _is_parent(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"model", "version"} or not isinstance(value["model"], str):
        return False
    number = value["version"]
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1 << 31


def schema(value: Any) -> dict[str, Any]:
    """A complete given schema. Raises Invalid with every mistake."""
    try:
        return {**validate_schema(value), "source": "given"}
    except SchemaError as error:
        raise errors.Invalid(error.message, code="invalid_schema", hint=error.hint, fields=error.errors) from error


def output(value: Any) -> dict[str, Any]:
    """Only the output part of a schema: task, classes, activation."""
    return schema({"inputs": [{"name": "any", "type": "double"}], "output": value})["output"]


def slug(value: str, what: str, field_name: str) -> str:
    """A name that may stand in an address. Raises Invalid that says which letters are allowed and offers a name that would do."""
    if ids.SLUG.match(value):
        return value
    proposal = ids.to_slug(value, "")
    hint = f"{proposal!r} would do." if proposal else "For example 'fraud-model'."
    message = f"{what} {value[:80]!r} is not valid: use 1 to 63 lower-case letters, digits and dashes."
    raise errors.Invalid(
        message,
        code="bad_name",
        hint=hint,
        fields={field_name: [f"Use 1 to 63 lower-case letters, digits and dashes. {hint}"]},
    )
