"""What the prediction log keeps of a request in another dialect: the same request and answer as if asked natively."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.runtime.dialects import Question
from mlops.runtime.dialects.native import answer, dumps
from mlops.runtime.formats.base import Outcome

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

# Binary tensors grow several times as JSON, and a reply has its cap: what is larger is logged without its features.
_FEATURE_BYTES = 4 << 20
_ROW_NUMBERS = 1_000  # the log keeps no features of a row with more


def native_pair(
    session: Session, header: dict[str, Any], question: Question, outcome: Outcome, timings: dict[str, float]
) -> tuple[bytes, bytes]:
    """(request, answer) in the native dialect."""
    said = answer(session, outcome, header.get("base_id"))
    said["timings_ms"] = timings
    asked = dumps({"inputs": _rows(session, question)})
    if len(asked) > _FEATURE_BYTES:
        asked = dumps({"inputs": [None] * question.count})
    return asked, dumps(said)


def appended(body: bytes, pair: tuple[bytes, bytes]) -> tuple[list[int], bytes]:
    """(the reply's ``log``, the body with both at its end)."""
    return [len(pair[0]), len(pair[1])], b"".join((body, *pair))


def _rows(session: Session, question: Question) -> Any:
    inputs = question.inputs
    if isinstance(inputs, np.ndarray):
        one_row = inputs[0].size if question.count else 0
        return inputs if inputs.ndim <= 2 and one_row <= _ROW_NUMBERS else [None] * question.count
    if not isinstance(inputs, dict) or any(isinstance(values, np.ndarray) for values in inputs.values()):
        return [None] * question.count  # any JSON, or several tensors: no columns to keep
    rows = list(zip(*inputs.values(), strict=True))
    if session.schema is not None or not rows:
        return rows
    return [dict(zip(inputs, row, strict=True)) for row in rows]
