"""What a version answers, as quality sees it: one of its classes, or a number. Labels are brought to the same form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops.core.storable import storable
from mlops.runtime.schema_rules import LABELLING

CLASS, NUMBER = "class", "number"
LONGEST_LABEL = 200
CLASSES_NAMED = 20


class BadLabel(ValueError):
    """A value that this version cannot have meant: what is wrong, and what would do."""


def label_of(value: Any) -> str:
    """How a class is spelt in counts: 1, 1.0 and "1" are one class, True and "true" are one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(storable(str(value)))[:LONGEST_LABEL]


@dataclass(frozen=True)
class Answers:
    """kind: class, number, or empty when the schema does not say (then each prediction does). classes: as the model names them."""

    kind: str
    classes: tuple[Any, ...] = ()
    labels: tuple[str, ...] = ()
    _places: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: Mapping[str, Any] | None) -> Answers:
        output = (schema or {}).get("output") or {}
        task = output.get("task")
        kind = CLASS if task in LABELLING else NUMBER if task in ("regressor", "ranker") else ""
        classes = tuple(output.get("classes") or ()) if kind == CLASS else ()
        places: dict[str, int] = {}
        for place, each in enumerate(classes):
            for spelling in _spellings(each):
                places.setdefault(spelling, place)
        return cls(kind, classes, tuple(map(label_of, classes)), places)

    def kind_of(self, prediction: Any) -> str:
        """Of one prediction; empty for one with several values."""
        if isinstance(prediction, list | dict) or prediction is None:
            return ""
        if self.kind:
            return self.kind
        return NUMBER if isinstance(prediction, int | float) and not isinstance(prediction, bool) else CLASS

    def place_of(self, value: Any) -> int | None:
        """The class's number; None for what is no class of this version."""
        return self._places.get(label_of(value))

    def checked(self, actual: Any, prediction: Any = None) -> Any:
        """The label as it is kept: the class itself, or a float. Raises BadLabel. prediction: says the kind where the schema does not."""
        if actual is None or actual == "":
            raise BadLabel("There is no value.")
        if isinstance(actual, list | dict):
            raise BadLabel("One value is needed, not several.")
        kind = self.kind or (self.kind_of(prediction) if prediction is not None else "")
        if kind == NUMBER:
            return _number(actual)
        if not self.classes:
            if isinstance(actual, float) and not math.isfinite(actual):
                raise BadLabel("NaN is no label.")
            return storable(actual[:LONGEST_LABEL]) if isinstance(actual, str) else actual
        place = self.place_of(actual.strip() if isinstance(actual, str) else actual)
        if place is None:
            named = ", ".join(map(str, self.classes[:CLASSES_NAMED]))
            more = f" and {len(self.classes) - CLASSES_NAMED} more" if len(self.classes) > CLASSES_NAMED else ""
            raise BadLabel(f"{str(actual)[:60]!r} is none of the classes: {named}{more}.")
        return self.classes[place]

    def scores_of(self, probabilities: Any) -> list[float] | None:
        """Complete probabilities in the order of the classes; None when they are not."""
        if not isinstance(probabilities, list) or len(probabilities) != len(self.classes) or len(probabilities) < 2:
            return None
        if not all(isinstance(each, int | float) and math.isfinite(each) for each in probabilities):
            return None
        return probabilities


def _spellings(value: Any) -> list[str]:
    if isinstance(value, bool):
        return [label_of(value), str(value), str(int(value))]
    return [label_of(value)]


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise BadLabel("true and false are no numbers; this version answers numbers.")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadLabel(f"{str(value)[:60]!r} is not a number; this version answers numbers.") from error
    if not math.isfinite(found) or abs(found) > 1e150:
        raise BadLabel(f"{str(value)[:60]} is not a finite number.")
    return found
