"""A request that a runner refuses: one exception, one JSON problem."""

from __future__ import annotations

from typing import Any

import orjson

_CHARACTERS = 500


class Refusal(Exception):
    """A request that gets a problem instead of an answer. ``status`` is HTTP-like, ``body`` the problem's JSON."""

    def __init__(
        self, status: int, code: str, detail: str, hint: str = "", errors: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body = problem(code, detail, hint, errors)
        self.code = code


def problem(code: str, detail: str, hint: str = "", errors: list[dict[str, Any]] | None = None) -> bytes:
    """{"code", "detail", "hint", "errors"?}; ``errors`` name columns and rows."""
    said: dict[str, Any] = {"code": code, "detail": detail[:_CHARACTERS], "hint": hint[:_CHARACTERS]}
    if errors:
        said["errors"] = errors
    return orjson.dumps(said, default=str)
