"""The pseudo-format of a runner that only reads data files: no model, the same sandbox."""

from __future__ import annotations

from typing import Any

from mlops.runtime.formats.base import Model, ModelError, Outcome


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    return TableReader(path)


class TableReader(Model):
    """Answers no predictions; `read` gives the file's canonical columns."""

    framework = "table"

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def read(self, file_format: str, max_rows: int) -> dict[str, Any]:
        from mlops.runtime import tables

        return tables.read(self.path, file_format, max_rows)

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        raise ModelError("not_a_model", "A data table cannot predict.", "Push a model file.")
