"""A way to convert a model: made only when it is its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlops.runtime.convert.plan import Plan, Unsuitable
from mlops.runtime.formats.base import Model


@dataclass(frozen=True)
class Candidate:
    """``build`` gives the ONNX graph and how it is fed. It may raise anything: the libraries' converters do."""

    precision: str
    build: Callable[[], tuple[Any, Plan]]


def of(model: Model, schema: dict[str, Any]) -> Iterator[Candidate]:
    """Ways to convert ``model``, by its family. Raises Unsuitable."""
    family = type(model).__name__
    if family == "SklearnModel":
        from mlops.runtime.convert import sklearn

        return sklearn.candidates(model, schema)  # type: ignore[arg-type]
    if family in ("BoosterModel", "LightGbmModel"):
        from mlops.runtime.convert import boosters

        return boosters.candidates(model)
    if family == "TorchModel":
        from mlops.runtime.convert import torch

        return torch.candidates(model, schema)  # type: ignore[arg-type]
    if family == "OnnxModel":
        raise Unsuitable("it is ONNX already")
    raise Unsuitable(f"nothing converts {model.framework} models")
