"""The wire dialects of predicting: one table, one module each, thin adapters around one canonical question. They run where the model is.

A dialect has ``decode`` (bytes to checked inputs) and ``encode`` (outcome to bytes). What lies between is the same for all of them, so
frames of any dialect may be answered by one call of the model. Refusals are native problems ({"code", "detail", "hint", "errors"?}); the web
process puts them into the dialect's own words, for it refuses things itself too.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from mlops.runtime.formats.base import Outcome
from mlops.runtime.refusals import Refusal

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

__all__ = ["Dialect", "Question", "get", "preload"]


@dataclass(slots=True)
class Question:
    """A decoded request: ``inputs`` as the schema's columns (or one array), ``count`` rows, ``wants``: what the dialect's encode must remember."""

    inputs: Any
    count: int
    wants: dict[str, Any] = field(default_factory=dict)


class Dialect(Protocol):
    def decode(self, session: Session, header: dict[str, Any], body: bytes) -> Question:
        """Raises Refusal or SchemaError."""

    def encode(
        self, session: Session, header: dict[str, Any], question: Question, outcome: Outcome, timings: dict[str, float]
    ) -> tuple[dict[str, Any], bytes]:
        """(reply header, body). The header may name ``content_type`` and ``headers``.

        With ``log: [n, m]`` the last n + m bytes of the body are not the client's: the same request and answer in the native dialect,
        for the prediction log.
        """


_HERE = "mlops.runtime.dialects."
_MODULES = {name: _HERE + name for name in ("native", "v2", "mlflow", "kserve")}
_loaded: dict[str, Dialect] = {}


def get(name: str) -> Dialect:
    """The dialect called ``name``. Raises Refusal for an unknown one."""
    found = _loaded.get(name)
    if found is None:
        if name not in _MODULES:
            raise Refusal(400, "unknown_dialect", f"A runner does not speak {name!r}.")
        found = _loaded[name] = cast(Dialect, importlib.import_module(_MODULES[name]))
    return found


def preload() -> None:
    """Import every dialect: once in a zygote instead of in the first request of each runner."""
    for name in _MODULES:
        get(name)
