"""The pseudo-format of a runner that only unpacks: no model, the same sandbox. See ``mlops.runtime.unpacking``."""

from __future__ import annotations

from typing import Any

from mlops.runtime.formats.base import Model, ModelError, Outcome


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    return Archive()


class Archive(Model):
    """Answers no predictions."""

    framework = "archive"

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        raise ModelError("not_a_model", "An archive cannot predict.", "Push an archive that holds a model.")
