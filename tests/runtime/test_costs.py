"""What a call costs: its own work and its own waiting, not what others do meanwhile. On made-up clocks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from mlops.runtime import gauge
from mlops.runtime.costs import WATCHED
from mlops.runtime.formats.base import Outcome
from tests.runtime.test_batching import CALL_S, Counting, ask, batcher, double, frames


class Disturbed(Counting):
    """A quick model on a busy machine: every so often something else has the processor for milliseconds within a call."""

    def __init__(self, every: int, first_s: float = 0.0) -> None:
        super().__init__(double, call_s=0.00002)
        self._every, self._first_s = every, first_s

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        outcome = super().predict(columns, schema)
        if len(self.calls) == 1:
            self.clock.now += self._first_s
        if len(self.calls) % self._every == 0:
            self.clock.now += 0.006
            self.lost_s += 0.006
        return outcome


@pytest.mark.parametrize("every", [1, 2, 3, 5, 40, WATCHED + 1, WATCHED + 2])
def test_a_fast_model_on_a_busy_machine_is_fast(every: int) -> None:
    model = Disturbed(every)
    found = batcher(model)
    for _ in range(40):
        ask(found, frames(*map(float, range(32))))
    assert set(model.calls) == {1}
    reading = found.gauge.read()
    assert (reading.verdict, reading.stacked) == (gauge.FAST, 0)
    assert reading.busy_s / reading.frames < 0.0002


def test_a_fast_model_whose_first_call_was_slow_is_fast() -> None:
    model = Disturbed(1_000, first_s=0.05)
    found = batcher(model)
    for _ in range(20):
        ask(found, frames(*map(float, range(32))))
    assert found.gauge.read().verdict == gauge.FAST
    ask(found, frames(1.0, 2.0))
    assert model.calls[-2:] == [1, 1]


def test_a_model_that_is_fast_again_is_not_stacked_any_more() -> None:
    model = Counting(double)
    found = batcher(model)
    for _ in range(10):
        ask(found, frames(1.0, 2.0, 3.0, 4.0))
    assert model.calls[-1] == 4
    model._cost = 0.00002, 0.0
    for _ in range(40):
        ask(found, frames(1.0, 2.0, 3.0, 4.0))
    assert model.calls[-4:] == [1, 1, 1, 1]


class Texts(Counting):
    """Each value is the milliseconds that it costs alone; ``together`` says what several cost."""

    def __init__(self, together: Callable[[Iterable[float]], float]) -> None:
        super().__init__(list, call_s=0.0)
        self._together = together

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        outcome = super().predict(columns, schema)
        self.clock.now += self._together(outcome.values) / 1e3
        return outcome


MIX = [0.3, 40.0, 40.0, 40.0, 40.0]


def test_the_gauge_tells_what_short_and_long_texts_cost_on_average() -> None:
    model = Texts(sum)
    found = batcher(model)
    for value in MIX * 40:
        ask(found, frames(value))
    reading = found.gauge.read()
    assert reading.busy_s / reading.frames == pytest.approx(sum(MIX) / len(MIX) / 1e3)
    model.calls.clear()
    ask(found, [({"op": "predict"}, b'{"inputs": [%s]}' % b",".join([b"[1.0]"] * 1000))])
    assert model.calls == [1000]
    assert found.gauge.read().busy_s - reading.busy_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("together", "said"), [(max, "yes"), (sum, "no: 1.0x is not worth it")], ids=["gains", "costs"]
)
def test_what_short_and_long_texts_gain_together_is_known(together: Any, said: str) -> None:
    rng = random.Random(0)
    found = batcher(Texts(together))
    ask(found, frames(MIX[0]))
    for _ in range(100):
        ask(found, frames(*rng.choices(MIX, k=8)))
        told = found.facts()["batching"]["decision"]
    assert told.startswith(said)


def test_texts_that_become_dearer_together_are_asked_alone_again() -> None:
    rng = random.Random(0)
    model = Texts(max)
    found = batcher(model)
    for _ in range(20):
        ask(found, frames(*rng.choices(MIX, k=8)))
    assert model.calls[-1] == 8
    model._together = lambda each: 1.5 * sum(each)
    for _ in range(60):
        ask(found, frames(*rng.choices(MIX, k=8)))
    assert model.calls[-8:] == [1] * 8


class Waiting(Counting):
    """Its work is done by a GPU."""

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        self.waits += 1
        self.lost_s += self._cost[0]
        return super().predict(columns, schema)


def test_a_call_that_waits_costs_the_time_that_it_takes() -> None:
    model = Waiting(double)
    found = batcher(model)
    for _ in range(10):
        ask(found, frames(1.0))
    reading = found.gauge.read()
    assert reading.busy_s / reading.frames == pytest.approx(CALL_S)
    for _ in range(4):
        ask(found, frames(1.0, 2.0, 3.0, 4.0))
    assert model.calls[-1] == 4


def test_the_kernel_is_asked_of_calls_in_doubt_only() -> None:
    model = Counting(double, call_s=0.00002)
    found = batcher(model)
    asked = 0

    def spent() -> tuple[float, int]:
        nonlocal asked
        asked += 1
        return model.spent()

    found.spent = spent

    def asked_for(calls: int) -> int:
        before = asked
        for _ in range(calls):
            ask(found, frames(1.0))
        return asked - before

    assert asked_for(WATCHED + 50) == WATCHED
    model._cost = CALL_S, 0.0
    assert asked_for(11) == 20
    model._cost = 0.00002, 0.0
    assert asked_for(WATCHED + 50) == WATCHED
