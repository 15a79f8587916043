"""What every loader gives back: a `Model` that takes named columns (or one array) and answers an `Outcome`.

Nothing here imports an ML library, so the web process may import it for the error type.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from mlops.runtime.errors import Explained

# name -> values of one column, all columns equally long; None is a missing value.
Columns = dict[str, list[Any]]


class ModelError(Explained):
    """A model that cannot be loaded or asked. `code` is stable, `message` and `hint` are for a person."""

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


_TRACES = ("Stack trace:", "Traceback of TorchScript", "Traceback (most recent call last)")
_PLACE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ")  # XGBoost: when, and where in its own source
_SAID_CHARACTERS = 400


def said(error: BaseException) -> str:
    """An exception as one readable line: its type and words, without the stack traces that C++ libraries put into them."""
    text = str(error)
    for trace in _TRACES:
        before, found, after = text.partition(trace)
        if found:
            # XGBoost says it first and traces after; TorchScript traces first and says it last.
            last = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception): .+", after, re.MULTILINE)
            text = last[-1] if last else before
    line = " ".join(text.split())
    line = _PLACE.sub("", "".join(letter if letter.isprintable() else " " for letter in line))
    whole = f"{type(error).__name__}: {line}".strip().removesuffix(":")
    return whole if len(whole) <= _SAID_CHARACTERS else whole[:_SAID_CHARACTERS] + "…"


@dataclass(slots=True)
class Outcome:
    """One prediction call: `values` has an entry per row; `probabilities` is [rows][classes] or None. Plain JSON values only.

    Of several outputs a row's value is a list, or an object by the outputs' names; its probabilities are then [outputs][classes].

    `finite`: whoever made it has seen that no number in it is NaN or infinite, and that nothing is missing; False when nobody looked.
    """

    values: list[Any]
    probabilities: list[list[Any]] | None = None
    finite: bool = field(default=False, compare=False)


class Model(ABC):
    """A loaded model. Attributes are the model's own claims, filled by its loader."""

    framework: str = ""
    task: str = "other"  # one of TASKS in schema_rules.py
    classes: list[Any] | None = None
    classes_by_output: list[list[Any]] | None = None  # of a classifier with several outputs, which has no `classes`
    multilabel: bool = (
        False  # a row may have several of the classes at once: its value is a 0 or 1 for each, in their order
    )
    inputs: list[dict[str, Any]] | None = None  # [{"name", "type", "nullable"}] in the model's order
    tensor: dict[str, Any] | None = None  # {"dtype": "float32", "shape": [-1, 4]} where the model takes one array
    tensors: list[dict[str, Any]] | None = (
        None  # [{"name", "dtype", "shape"}] where it takes several that are no columns
    )
    probabilities: bool = False
    libraries: dict[str, str]
    notes: list[str]  # warnings met while loading, for the validation report

    def __init__(self) -> None:
        self.libraries = {}
        self.notes = []

    def takes_table(self, names: tuple[str, ...]) -> bool:
        """Whether rows of numbers may come as one float64 array instead of columns of these names."""
        return False

    @abstractmethod
    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        """Columns (dict name -> list, None = missing) or, for a tensor schema, one numpy array with rows first."""

    def describe(self) -> dict[str, Any]:
        """The JSON answer of the runner's `describe` call."""
        return {
            "framework": self.framework,
            "task": self.task,
            "classes": self.classes,
            "inputs": self.inputs,
            "tensor": self.tensor,
            **({"tensors": self.tensors} if self.tensors else {}),
            "probabilities": self.probabilities,
            **({"classes_by_output": self.classes_by_output} if self.classes_by_output else {}),
            **({"multilabel": True} if self.multilabel else {}),
            "libraries": self.libraries,
            "notes": self.notes,
        }
