"""Rows put to one version from a job, answers back row by row: neither logged nor counted as traffic, in a runner of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from registry.models import ModelVersion
from serving import comparison_work
from serving.asking import Asker
from serving.comparing import Given


class Questions:
    """One version, asked as often as one likes; the runner ends with the block. ``beat`` is called between questions: what it raises ends the work."""

    def __init__(self, version: ModelVersion, beat: Callable[[], None]) -> None:
        self.version, self.beat = version, beat
        self._asker: Asker | None = None

    def __enter__(self) -> Questions:
        """Raises SlipwayError when the version cannot be asked: not ready, revoked, its file gone."""
        self._asker = Asker(self.version, comparison_work.spec_of(self.version, "explain"), self.beat)
        return self

    def __exit__(self, *_: object) -> None:
        if self._asker is not None:
            self._asker.end()

    def answers(self, rows: Sequence[Any]) -> list[Given]:
        """One answer per row; rows are as the log keeps them. A row that the version refuses has its error. Raises SlipwayError."""
        assert self._asker is not None
        found: list[Given] = []
        for start in range(0, len(rows), comparison_work.CHUNK_ROWS):
            chunk = rows[start : start + comparison_work.CHUNK_ROWS]
            asked = [comparison_work.as_asked(row, self.version.schema or {}) for row in chunk]
            found += comparison_work.row_answers(self._asker, asked)
            self.beat()
        return found
