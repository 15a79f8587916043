"""Which logged rows a deletion means: by id, or by the value of a column. Plain values; the worker and the reader of archives share it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class Wanted:
    """``ids``: hex digits; ``values``: JSON texts of everything the column may hold to be meant, hashes too. Both given: both must fit.

    Neither: every row is meant.
    """

    ids: frozenset[str] | None = None
    column: str = ""
    values: frozenset[str] = frozenset()

    def __call__(self, row_id: str, features: Mapping[str, Any] | None) -> bool:
        if self.ids is not None and row_id not in self.ids:
            return False
        if not self.column:
            return True
        return features is not None and self.column in features and written(features[self.column]) in self.values

    def to_json(self) -> dict[str, Any]:
        return {
            "ids": sorted(self.ids) if self.ids is not None else None,
            "column": self.column,
            "values": sorted(self.values),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wanted:
        ids = data.get("ids")
        return cls(frozenset(ids) if ids is not None else None, data["column"], frozenset(data["values"]))


def written(value: Any) -> str:
    """JSON in which 1 and 1.0 are the same."""
    if type(value) is float and value.is_integer():
        value = int(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return json.dumps(value, sort_keys=True)


def meant_by(text: str) -> list[Any]:
    """What somebody who writes this may mean: the text itself, and the number, true, false or null it reads as."""
    meant: list[Any] = [text]
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return meant
    return meant if isinstance(read, (dict, list, str)) else [*meant, read]


def read_features(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def texts(values: Iterable[Any]) -> frozenset[str]:
    return frozenset(written(value) for value in values)
