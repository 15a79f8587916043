"""Many rows, a chunk at a time: read them from a file, predict them so that a bad row never spoils its neighbours, write what came of them.

Three operations of a runner. A chunk travels between the runner that reads the file and the one that holds the model as JSON
({"rows": [...], "bad": {place: problem}}) that nobody in between needs to parse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

Answer = tuple[int, dict[str, Any], bytes]
Operation = Callable[[dict[str, Any], bytes], Answer]


def operations(session: Session) -> dict[str, Operation]:
    """name -> what a runner does. Their libraries are imported when first used."""

    def read_rows(header: dict[str, Any], body: bytes) -> Answer:
        from mlops.runtime.bulk import reading

        return reading.read_rows(session, header, body)

    def predict_rows(header: dict[str, Any], body: bytes) -> Answer:
        from mlops.runtime.bulk import predicting

        return predicting.predict_rows(session, header, body)

    def predict_file(header: dict[str, Any], body: bytes) -> Answer:
        from mlops.runtime.bulk import predicting

        return predicting.predict_file(session, header, body)

    def pack_rows(header: dict[str, Any], body: bytes) -> Answer:
        from mlops.runtime.bulk import packing

        return packing.pack_rows(session, header, body)

    return {"read_rows": read_rows, "predict_rows": predict_rows, "predict_file": predict_file, "pack_rows": pack_rows}
