"""Injected faults, through the log, the counts and the check: at least nine of ten are named rightly, code and column.

Each kind hits all, half or a third of the rows of a window of 300 to 800; one window a week, so that none sees another's.
The full table over more data sets and seeds: ``.venv/bin/python -m tests.bench.causes``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from mlops.core import clock
from monitoring import checks
from monitoring.drift.bins import kind_for
from monitoring.models import DriftCheck
from tests.bench.causes import real
from tests.monitoring import shop
from tests.monitoring.faults import FAULTS, Rows
from tests.monitoring.scene import Scene

APART = timedelta(days=9)
_TYPES = {"numeric": "double", "categorical": "string", "boolean": "boolean", "text": "string", "datetime": "datetime"}


class FaultScene(Scene):
    """A deployment whose rows come from ``draw``; its model is a threshold on the first number."""

    def __init__(self, organization: Any, name: str, draw: Callable[[int, Random], Rows]) -> None:
        self.draw, self.drawn = draw, Random(name)  # noqa: S311
        known = draw(200, Random(1))  # noqa: S311
        self.first = next(column for column in known[0] if isinstance(known[0][column], float))
        self.middle = sorted(row[self.first] for row in known)[100]
        self.schema = {
            "kind": "table",
            "inputs": [{"name": column, "type": _type(column, known), "nullable": True} for column in known[0]],
            "output": {"task": "classifier", "classes": ["low", "high"]},
        }
        super().__init__(organization, name)
        self.reference(1500)

    def row(self) -> dict[str, Any]:
        return self.draw(1, self.drawn)[0]

    def answer(self, row: dict[str, Any]) -> tuple[str, list[float]]:
        value = row[self.first]
        high = isinstance(value, (int, float)) and value > self.middle
        return ("high", [0.2, 0.8]) if high else ("low", [0.7, 0.3])


def _type(name: str, rows: Rows) -> str:
    if name == "seen":
        return "datetime"
    return _TYPES[kind_for([row[name] for row in rows])]


def said(check: DriftCheck) -> tuple[str, set[str], str]:
    """(code, columns, sentence) of the first thing that the check says of why."""
    kept = check.facts.get("causes")
    if not kept:
        return "", set(), check.sentence
    if kept["table"]:
        first = kept["table"][0]
        return first["code"], set(first["numbers"].get("columns") or check.facts["moved"]), first["sentence"]
    column = kept["columns"][0]
    cause = column["causes"][0]
    return cause["code"], {column["name"]}, cause["sentence"]


@pytest.mark.parametrize("data", ["shop", "wine"])
def test_nine_of_ten_faults_are_named_rightly(world, at, data):
    scene = FaultScene(world.acme, data.replace("_", "-"), shop.rows if data == "shop" else real(data))
    now = clock.now()
    right, wrong = 0, []
    for number, (name, fault) in enumerate(FAULTS.items()):
        now += APART
        generator = Random(f"{data} {name}")  # noqa: S311
        rows = scene.rows((300, 500, 800)[number % 3])
        told = fault(rows, (1.0, 0.5, 0.33)[(number // 3) % 3], generator)
        if told is None:
            continue
        at(now)
        scene.log(rows, now - timedelta(minutes=5))
        check = checks.run(scene.deployment)
        columns, codes = told
        code, named, sentence = said(check)
        if code in codes and named & columns:
            right += 1
        else:
            wrong.append((name, code, sorted(named)[:3], sentence))
    assert right + len(wrong) >= (25 if data == "shop" else 12)
    assert right >= 0.9 * (right + len(wrong)), wrong


def test_clean_windows_have_no_causes(world, at):
    scene = FaultScene(world.acme, "shop", shop.rows)
    now = clock.now()
    for _ in range(8):
        now += APART
        at(now)
        scene.log(scene.rows(400), now - timedelta(minutes=5))
        check = checks.run(scene.deployment)
        assert check.verdict == "ok", check.sentence
        assert "causes" not in check.facts
