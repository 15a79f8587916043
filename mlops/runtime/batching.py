"""Natural batching: requests that wait at the same moment are answered by one call of the model. Alone, nobody waits.

Stacking pays only where one call costs much more than one row does, so it is measured, per model and per size of request: what is
faster than ``WORTH_S`` is never stacked, and what gains less than ``LEAST_GAIN`` is not either.

It is right only where a row's answer does not depend on its neighbours. Nobody can prove that from outside, so it is tried: the first
``TRIALS`` times that requests of a size meet, some are answered one by one *and* together, and the single answers are sent; later one
request in ``_LOOK_EVERY`` calls is asked again alone. The first difference switches stacking off for as long as the runner lives. What
this cannot see is a model whose rows touch each other only rarely, for example one that fills gaps with the mean of the batch: until a
look catches it, such a model may have answered stacked requests differently. ``options: {"batching": false}`` in the spec switches it off.

A request that cannot be read is refused on its own before the others are stacked. When the model raises, or answers something that is
not finite, each request of the call is asked alone.
"""

from __future__ import annotations

import math
import random
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlops.runtime import gauge as gauges
from mlops.runtime.costs import LEAST_GAIN, TRIALS, WATCHED, WORTH_S, Size, Spent, cost_of, spent_now
from mlops.runtime.formats.base import Outcome
from mlops.runtime.gauge import Gauge
from mlops.runtime.handlers import Answer, Asked, Session, refused
from mlops.runtime.refusals import Refusal

_TRIED = 4  # requests of one trial: each is paid for twice
_LOOK_EVERY = 64
_SIZES = (8, 64, 512)  # rows: requests of a size are stacked with each other; larger ones are asked alone
_CALL_ROWS = 2048
_CALL_FRAMES = 64
_CALL_BYTES = 2 << 20  # bodies decoded at one time
_FRAME_BYTES = 256 * 1024  # a larger body is asked alone, after the small ones
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6  # sums in another order differ by less; rows that touch each other by more

Frame = tuple[dict[str, Any], bytes]


@dataclass
class Batcher:
    """Answers the frames that are ready at one time. One per runner, one thread."""

    session: Session
    gauge: Gauge
    clock: Callable[[], float] = time.monotonic
    spent: Callable[[], Spent] = spent_now
    _sizes: list[Size] = field(default_factory=lambda: [Size() for _ in _SIZES])
    _large: Size = field(default_factory=Size)  # never stacked
    _differs: bool = False
    _calls: int = 0

    def __post_init__(self) -> None:
        self._off = self.session.spec.options.get("batching") is False
        self._met = False  # whether requests of this model have waited at one moment
        self._tell()
        self.session.facts = self.facts

    def answers(self, frames: list[Frame]) -> Iterator[tuple[int, Answer]]:
        """(position, answer) of every frame, as soon as each is there; small ones before large ones."""
        if len(frames) == 1:
            yield 0, self.one(*frames[0])
            return
        if not self._might_stack():
            yield from self._one_by_one(frames)
            return
        small: list[int] = []
        large: list[int] = []
        size = 0
        for position, (header, body) in enumerate(frames):
            if header.get("op") != "predict" or len(body) > _FRAME_BYTES:
                large.append(position)
                continue
            if small and (size + len(body) > _CALL_BYTES or len(small) == _CALL_FRAMES):
                yield from self._several(frames, small)
                small, size = [], 0
            small.append(position)
            size += len(body)
        yield from self._several(frames, small)
        for position in sorted(large, key=lambda each: len(frames[each][1])):
            yield position, self.one(*frames[position])

    def _one_by_one(self, frames: list[Frame]) -> Iterator[tuple[int, Answer]]:
        large: list[int] = []
        for position, (header, body) in enumerate(frames):
            if len(body) > _FRAME_BYTES or header.get("op") != "predict":
                large.append(position)
            else:
                yield position, self.one(header, body)
        for position in sorted(large, key=lambda each: len(frames[each][1])):
            yield position, self.one(*frames[position])
        if not self._met and len(large) < len(frames):
            self._met = True
            self._tell()

    # -- one ------------------------------------------------------------------------------------------------------

    def one(self, header: dict[str, Any], body: bytes) -> Answer:
        """The answer of a frame that is ready alone."""
        if header.get("op") == "predict":
            asked = self._decoded(header, body)
            return self._alone(asked) if isinstance(asked, Asked) else asked
        begun = self.clock()
        self.gauge.begin(begun, header.get("until") or 0.0)
        answer = self.session.handle(header, body)
        self.gauge.end(self.clock() - begun, 1)
        return answer

    def _decoded(self, header: dict[str, Any], body: bytes) -> Asked | Answer:
        try:
            until = header.get("until")
            if until is not None and self.clock() > until:
                raise Refusal(504, "deadline_exceeded", "The request waited longer than its deadline.", "Try again.")
            return self.session.decode(header, body)
        except Exception as error:  # noqa: BLE001  whatever a body makes a decoder raise
            return refused(error)

    def _alone(self, asked: Asked) -> Answer:
        outcome, took_s, _ = self._ask([asked], 1)
        if isinstance(outcome, Exception):
            return refused(outcome)
        return self._encoded(asked, outcome, took_s)

    def _ask(self, several: list[Asked], answered: int) -> tuple[Outcome | Exception, float, float]:
        """One call of the model for all of ``several``, by which ``answered`` requests are answered; the seconds it took, and cost."""
        if len(several) == 1:
            question, until = several[0].question, several[0].header.get("until") or 0.0
            inputs, rows = question.inputs, question.count
        else:
            inputs, rows = _stacked(several), sum(asked.question.count for asked in several)
            until = max(asked.header.get("until") or 0.0 for asked in several)
        size = self._size(several[0])
        before = self.spent() if size.watched else None
        begun = self.clock()
        self.gauge.begin(begun, until)
        found: Outcome | Exception
        try:
            found = self.session.predict_outcome(inputs, rows)
        except Exception as error:  # noqa: BLE001  a model may raise anything at all
            found = error
        took_s = cost_s = self.clock() - begun
        if took_s >= WORTH_S:
            size.watched = WATCHED
            if before is not None:
                cost_s = cost_of(took_s, before, self.spent())
        elif size.watched:
            size.watched -= 1
        sure = before is not None or took_s < WORTH_S
        if sure and len(several) == 1 and not isinstance(found, Exception):
            size.learn(cost_s)
        self.gauge.end(cost_s, answered)
        return found, took_s, cost_s

    def _encoded(self, asked: Asked, outcome: Outcome, took_s: float) -> Answer:
        try:
            return self.session.encode(asked, outcome, took_s)
        except Exception as error:  # noqa: BLE001  a model's answer may be anything
            return refused(error)

    def _size(self, asked: Asked) -> Size:
        count = asked.question.count
        if count <= _SIZES[0]:  # nearly always
            return self._sizes[0]
        return self._sizes[bisect_left(_SIZES, count)] if count <= _SIZES[-1] else self._large

    # -- several --------------------------------------------------------------------------------------------------

    def _several(self, frames: list[Frame], positions: list[int]) -> Iterator[tuple[int, Answer]]:
        groups: dict[Any, list[tuple[int, Asked]]] = {}
        for position in positions:
            asked = self._decoded(*frames[position])
            if isinstance(asked, Asked):
                groups.setdefault(_kind(asked), []).append((position, asked))
            else:
                yield position, asked
        for kind, group in groups.items():
            if kind is None or len(group) == 1 or not self._size(group[0][1]).may_stack(len(group)):
                for position, asked in group:
                    yield position, self._alone(asked)
            else:
                yield from self._stack(group)

    def _might_stack(self) -> bool:
        return not (self._off or self._differs) and any(size.worth for size in self._sizes)

    def _stack(self, group: list[tuple[int, Asked]]) -> Iterator[tuple[int, Answer]]:
        while group:
            size = self._size(group[0][1])
            if len(group) > 1 and size.worth and not self._differs and size.trials < TRIALS:
                part, group = group[:_TRIED], group[_TRIED:]
                yield from self._try(part, size)
            elif len(group) > 1 and size.worth and not self._differs and not size.resting:
                part, group = _portion(group)
                yield from self._together(part, size)
            else:
                part, group = group, []
                for position, asked in part:
                    yield position, self._alone(asked)

    def _try(self, part: list[tuple[int, Asked]], size: Size) -> Iterator[tuple[int, Answer]]:
        """Ask each alone, send that, then ask all at once and compare."""
        singles, alone_s = [], 0.0
        for position, asked in part:
            outcome, took_s, cost_s = self._ask([asked], 1)
            singles.append(outcome)
            alone_s += cost_s
            if isinstance(outcome, Exception):
                yield position, refused(outcome)
            else:
                yield position, self._encoded(asked, outcome, took_s)
        if any(isinstance(outcome, Exception) for outcome in singles):
            return  # a bad row among them: this says nothing about the others
        together, _, together_s = self._ask([asked for _, asked in part], 0)
        if isinstance(together, Exception):
            size.trials += 1
            size.gained(alone_s, 2 * alone_s)
        elif not all(map(_alike, singles, _split(together, part))):
            self._differs = True
        else:
            size.trials += 1
            size.gained(alone_s, together_s)
        self._tell()

    def _together(self, part: list[tuple[int, Asked]], size: Size) -> Iterator[tuple[int, Answer]]:
        """One call for all of them; each alone when that fails."""
        outcome, took_s, together_s = self._ask([asked for _, asked in part], len(part))
        if isinstance(outcome, Exception):
            size.gained(size.cost_s, 2 * size.cost_s)
            for position, asked in part:
                yield position, self._alone(asked)
            return
        shares = _split(outcome, part)
        for (position, asked), share in zip(part, shares, strict=True):
            yield position, self._encoded(asked, share, took_s)
        size.gained(len(part) * size.cost_s, together_s)
        self._calls += 1
        if self._calls % _LOOK_EVERY == 0:
            self._look_again(part, shares, size)

    def _look_again(self, part: list[tuple[int, Asked]], shares: list[Outcome], size: Size) -> None:
        chosen = random.randrange(len(part))  # noqa: S311  which one is looked at need not be a secret
        alone, _, _ = self._ask([part[chosen][1]], 0)
        if isinstance(alone, Exception) or not _alike(alone, shares[chosen]):
            self._differs = True
        self._tell()

    # -- what became of it ------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        self.gauge.judge(*self._judged())

    def _judged(self) -> tuple[int, float]:
        if self._off:
            return gauges.OFF, 0.0
        if self._differs:
            return gauges.DIFFERS, 0.0
        gains = [size.gain for size in self._sizes if size.worth and size.trials >= TRIALS]
        if gains and max(gains) >= LEAST_GAIN:
            return gauges.YES, round(max(gains), 2)
        if gains:
            return gauges.NO_GAIN, round(max(gains), 2)
        costs = [size.cost_s for size in self._sizes if size.cost_s]
        return (gauges.FAST if costs and max(costs) < WORTH_S else gauges.UNKNOWN), 0.0

    def facts(self) -> dict[str, Any]:
        """For ``describe``: whether requests are stacked, and what a call costs by size."""
        verdict, gain = self._judged()
        costs = {
            f"up to {rows} rows": round(size.cost_s * 1e6)
            for rows, size in zip(_SIZES, self._sizes, strict=True)
            if size.cost_s
        }
        return {"batching": {"decision": gauges.said(verdict, gain), "microseconds": costs}}


def _kind(asked: Asked) -> Any:
    """What must be equal for two requests to be stacked; None for one that cannot be."""
    inputs, count = asked.question.inputs, asked.question.count
    if count > _SIZES[-1] or count < 1:
        return None
    size = bisect_left(_SIZES, count)
    if isinstance(inputs, np.ndarray):
        return size, inputs.dtype, inputs.shape[1:]
    if isinstance(inputs, dict) and inputs:
        kinds = [
            (values.dtype, values.shape[1:]) if isinstance(values, np.ndarray) else type(values)
            for values in inputs.values()
        ]
        return (
            None if any(kind is not list and not isinstance(kind, tuple) for kind in kinds) else (size, *inputs, *kinds)
        )
    return None


def _stacked(several: list[Asked]) -> Any:
    inputs = [asked.question.inputs for asked in several]
    first = inputs[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(inputs)
    return {
        name: np.concatenate([each[name] for each in inputs])
        if isinstance(values, np.ndarray)
        else [value for each in inputs for value in each[name]]
        for name, values in first.items()
    }


def _portion(group: list[tuple[int, Asked]]) -> tuple[list[tuple[int, Asked]], list[tuple[int, Asked]]]:
    """As many from the front as one call may have rows, and the rest."""
    rows, end = 0, 0
    for _, asked in group:
        rows += asked.question.count
        if end and rows > _CALL_ROWS:
            break
        end += 1
    return group[:end], group[end:]


def _split(outcome: Outcome, part: list[tuple[int, Asked]]) -> list[Outcome]:
    shares, start = [], 0
    for _, asked in part:
        end = start + asked.question.count
        chances = outcome.probabilities
        shares.append(Outcome(outcome.values[start:end], None if chances is None else chances[start:end]))
        start = end
    return shares


def _alike(one: Any, other: Any) -> bool:
    """Equal, but for sums that were made in another order."""
    if isinstance(one, Outcome):
        return _alike(one.values, other.values) and _alike(one.probabilities, other.probabilities)
    if isinstance(one, np.ndarray):
        return _alike(one.tolist(), other.tolist())
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    return type(one) is type(other) and bool(one == other)
