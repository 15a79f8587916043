"""The table of job kinds: ``@job("validate_version", timeout_s=180)`` in an app's ``jobs.py`` adds a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Handler:
    kind: str
    function: Callable[..., None]
    timeout_s: int
    max_attempts: int
    on_failed: Callable[..., None] | None


_HANDLERS: dict[str, Handler] = {}


def job(
    kind: str, *, timeout_s: int = 180, max_attempts: int = 3, on_failed: Callable[..., None] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register ``function(run, **args)``. ``on_failed(error: dict, **args)`` runs once, in the transaction that ends the job as failed."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        _HANDLERS[kind] = Handler(kind, function, timeout_s, max_attempts, on_failed)
        return function

    return add


def handler(kind: str) -> Handler:
    """Raises KeyError for an unknown kind."""
    return _HANDLERS[kind]


def kinds() -> dict[str, Any]:
    return dict(_HANDLERS)
