"""``slipway.toml`` in a pushed folder: what its author says about it, checked with the names of the keys in every complaint."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mlops.core import errors
from registry import metadata

MAX_BYTES = 64 << 10
KEYS = ("code", "description", "model", "name", "output", "sample", "schema", "tags", "target")
_HINT = 'For example: model = "model.joblib" and description = "Who leaves next month".'


@dataclass(frozen=True)
class FolderSettings:
    """What a folder says; empty where it says nothing. What was given with the push wins over all of it."""

    name: str = ""
    model: str | None = None
    code: str | None = None
    sample: str | None = None
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)  # target, output
    schema: dict[str, Any] | None = None
    told: dict[str, Any] = field(default_factory=dict)  # as JSON, to be shown


def parse(raw: bytes) -> FolderSettings:
    """Raises Invalid (``bad_settings``) naming the key that is wrong."""
    if len(raw) > MAX_BYTES:
        _refuse(f"it is larger than {MAX_BYTES >> 10} kB")
    try:
        found = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        _refuse(f"it is not TOML: {str(error)[:200]}")
    if unknown := sorted(set(found) - set(KEYS)):
        _refuse(f"it has unknown keys: {', '.join(unknown)[:200]}", f"Known keys: {', '.join(KEYS)}.")
    claims: dict[str, Any] = {}
    if found.get("target") is not None:
        claims["target"] = _judged("target", metadata.text, found["target"], "target", metadata.MAX_TEXT)
    if found.get("output") is not None:
        claims["output"] = _judged("output", metadata.output, found["output"])
    return FolderSettings(
        name=_judged("name", metadata.slug, _text(found, "name"), "The name", "name") if "name" in found else "",
        model=_file(found, "model"),
        code=_file(found, "code"),
        sample=_file(found, "sample"),
        description=_judged(
            "description", metadata.text, found.get("description"), "description", metadata.MAX_DESCRIPTION
        ),
        tags=_judged("tags", metadata.tags, found.get("tags")),
        claims=claims,
        schema=_judged("schema", metadata.schema, found["schema"]) if found.get("schema") is not None else None,
        told=_plain(found),
    )


def _refuse(what: str, hint: str = _HINT) -> NoReturn:
    raise errors.Invalid(f"slipway.toml: {what}.", code="bad_settings", hint=hint)


def _judged(key: str, judge: Any, *args: Any) -> Any:
    try:
        return judge(*args)
    except errors.SlipwayError as error:
        _refuse(f"{key}: {error.detail.rstrip('.')}", error.hint or _HINT)


def _text(found: dict[str, Any], key: str) -> str:
    value = found[key]
    if not isinstance(value, str) or not value.strip() or len(value) > 1024:
        _refuse(f"{key} is a text in quotes")
    return value.strip()


def _file(found: dict[str, Any], key: str) -> str | None:
    """A name inside the folder, as the archive has it."""
    return _text(found, key).removeprefix("./") if key in found else None


def _plain(value: Any) -> Any:
    """TOML has dates and times, JSON has not."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)
