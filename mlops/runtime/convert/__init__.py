"""Conversion of a model to ONNX Runtime, in the sandboxed runner that holds it: a file per family, parity, timing.

One operation of a runner. Nobody is told that a model converts because it should: a form counts when it gives the native model's answers
(``parity``) and is faster than it (``timing``), measured in the same process; else the reason is told and the model answers natively.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

Answer = tuple[int, dict[str, Any], bytes]


def operations(session: Session) -> dict[str, Callable[[dict[str, Any], bytes], Answer]]:
    """name -> what a runner does. The libraries are imported when it is first asked."""

    def convert(header: dict[str, Any], body: bytes) -> Answer:
        from mlops.runtime.convert.work import convert as run

        return run(session, header, body)

    return {"convert": convert}
