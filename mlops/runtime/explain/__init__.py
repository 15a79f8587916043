"""Why a model answered what it did: SHAP values per row and column, computed where the model is, on the model itself (never its ONNX form).

One operation of a runner, ``explain``. Its libraries are imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

Answer = tuple[int, dict[str, Any], bytes]


def operations(session: Session) -> dict[str, Callable[[dict[str, Any], bytes], Answer]]:
    """name -> what a runner does."""

    def explain(header: dict[str, Any], body: bytes) -> Answer:
        from mlops.runtime.explain import operation

        return operation.explain(session, header, body)

    return {"explain": explain}
