"""Natural batching: waiting requests share one call of a model that gains by it, and nobody can tell from an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from mlops.runtime import gauge, wire
from mlops.runtime.batching import Batcher
from mlops.runtime.formats.base import Model, Outcome
from mlops.runtime.gauge import Gauge
from mlops.runtime.handlers import Session
from mlops.runtime.host import Limits, ModelSpec, RunnerHost

CALL_S = 0.001


class Clock:
    """Time passes in the model's calls only."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting(Model):
    """A model whose calls cost ``call_s`` and ``row_s`` for each row, on its own clock. ``calls`` are the rows of each."""

    def __init__(self, answer: Callable[[list[Any]], list[Any]], call_s: float = CALL_S, row_s: float = 0.0) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.lost_s, self.waits = 0.0, 0  # time in its calls that is not the processor's; how often it waited
        self.clock = Clock()
        self._answer = answer
        self._cost = call_s, row_s

    def spent(self) -> tuple[float, int]:
        return self.clock.now - self.lost_s, self.waits

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        values = columns["f0"] if isinstance(columns, dict) else columns[:, 0].tolist()
        self.calls.append(len(values))
        self.clock.now += self._cost[0] + self._cost[1] * len(values)
        return Outcome(self._answer(values))


def double(values: list[Any]) -> list[Any]:
    return [value * 2 for value in values]


def batcher(model: Counting, **spec: Any) -> Batcher:
    session = Session(model, ModelSpec("k", "/nowhere", "00", "sklearn", **spec))
    return Batcher(session, Gauge(), model.clock, model.spent)


def frames(*values: Any) -> list[tuple[dict[str, Any], bytes]]:
    return [({"op": "predict"}, orjson.dumps({"inputs": [[value]]})) for value in values]


def ask(found: Batcher, asked: list[tuple[dict[str, Any], bytes]]) -> list[Any]:
    """Predictions (or the problem's code) in the order of the requests."""
    answers = dict(found.answers(asked))
    assert sorted(answers) == list(range(len(asked)))
    said = [json.loads(answers[position][2]) for position in range(len(asked))]
    return [each.get("predictions", each.get("code")) for each in said]


def warmed(model: Counting, **spec: Any) -> Batcher:
    """A batcher that has made up its mind."""
    found = batcher(model, **spec)
    ask(found, frames(1.0))
    for _ in range(3):
        ask(found, frames(1.0, 2.0, 3.0, 4.0))
    model.calls.clear()
    return found


def test_waiting_requests_share_one_call_and_get_their_own_answers() -> None:
    model = Counting(double)
    found = warmed(model)
    assert ask(found, frames(1.0, 5.0, 7.0)) == [[2.0], [10.0], [14.0]]
    assert model.calls == [3]
    assert found.facts()["batching"]["decision"].startswith("yes, ")
    assert found.gauge.read().stacked == 3


def test_a_request_alone_is_a_call_alone() -> None:
    model = Counting(double)
    found = warmed(model)
    assert ask(found, frames(1.0)) == [[2.0]]
    assert model.calls == [1]


def test_the_first_meetings_are_answered_one_by_one_and_compared() -> None:
    model = Counting(double)
    found = batcher(model)
    ask(found, frames(1.0))
    assert ask(found, frames(1.0, 2.0)) == [[2.0], [4.0]]
    assert model.calls == [1, 1, 1, 2]
    assert "not yet" in found.facts()["batching"]["decision"]


def test_a_fast_model_is_never_stacked() -> None:
    model = Counting(double, call_s=0.00001)
    found = batcher(model)
    for _ in range(5):
        assert ask(found, frames(1.0, 2.0)) == [[2.0], [4.0]]
    assert set(model.calls) == {1}
    assert "faster than stacking" in found.facts()["batching"]["decision"]
    assert found.gauge.read().verdict == gauge.FAST


def test_a_model_that_becomes_slow_is_stacked_then() -> None:
    model = Counting(double, call_s=0.00005)
    found = batcher(model)
    ask(found, frames(1.0, 2.0))
    model._cost = CALL_S, 0.0
    for _ in range(40):
        ask(found, frames(1.0, 2.0, 3.0, 4.0))
    assert model.calls[-1] == 4


def test_a_model_whose_cost_grows_with_its_rows_does_not_gain_and_is_left_alone() -> None:
    model = Counting(double, call_s=0, row_s=CALL_S)
    found = warmed(model)
    ask(found, frames(1.0, 2.0, 3.0))
    assert model.calls == [1, 1, 1]
    assert "not worth it" in found.facts()["batching"]["decision"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda values: [value - sum(values) / len(values) + 1 for value in values],
        lambda values: [f"row {place}" for place, _ in enumerate(values)],
        lambda values: [float(len(values))] * len(values),
    ],
    ids=["normalises", "counts", "measures"],
)
def test_rows_that_touch_each_other_switch_it_off_for_good(answer: Callable[[list[Any]], list[Any]]) -> None:
    model = Counting(answer)
    found = batcher(model)
    alone = [ask(found, frames(value))[0] for value in (1.0, 2.0, 4.0)]
    for _ in range(5):
        assert ask(found, frames(1.0, 2.0, 4.0)) == alone
    assert "depends on the rows beside it" in found.facts()["batching"]["decision"]
    model.calls.clear()
    ask(found, frames(1.0, 2.0))
    assert model.calls == [1, 1]


def test_a_difference_that_comes_late_is_found_by_looking_again() -> None:
    late = False
    model = Counting(lambda values: [value + len(values) if late else value for value in values])
    found = warmed(model)
    late = True
    for _ in range(64):
        ask(found, frames(1.0, 2.0))
    assert "depends" in found.facts()["batching"]["decision"]
    assert ask(found, frames(1.0, 2.0)) == [[2.0], [3.0]]


def test_sums_in_another_order_are_no_difference() -> None:
    model = Counting(lambda values: [value + 1e-9 * len(values) for value in values])
    found = warmed(model)
    assert found.facts()["batching"]["decision"].startswith("yes")


def test_a_row_that_makes_the_model_raise_fails_alone() -> None:
    def touchy(values: list[Any]) -> list[Any]:
        if 13.0 in values:
            raise ValueError("thirteen")
        return double(values)

    found = warmed(Counting(touchy))
    assert ask(found, frames(1.0, 13.0, 3.0)) == [[2.0], "model_error", [6.0]]
    assert ask(found, frames(1.0, 3.0)) == [[2.0], [6.0]]


def test_a_row_that_is_answered_nan_fails_alone() -> None:
    model = Counting(lambda values: [float("nan") if value == 13.0 else value for value in values])
    found = warmed(model)
    assert ask(found, frames(1.0, 13.0, 3.0)) == [[1.0], "model_output_invalid", [3.0]]


def test_a_request_that_cannot_be_read_is_refused_and_the_others_share_their_call() -> None:
    model = Counting(double)
    found = warmed(model)
    asked = [
        *frames(1.0),
        ({"op": "predict"}, b'{"inputs": '),
        *frames(3.0),
        ({"op": "predict", "dialect": "klingon"}, b"{}"),
    ]
    assert ask(found, asked) == [[2.0], "invalid_json", [6.0], "unknown_dialect"]
    assert model.calls == [2]


def test_requests_with_other_columns_are_not_mixed() -> None:
    model = Counting(double)
    found = warmed(model)
    named = ({"op": "predict"}, b'{"inputs": [{"f0": 5.0}]}')
    wider = ({"op": "predict"}, b'{"inputs": [[6.0, 7.0]]}')
    assert ask(found, [*frames(1.0, 2.0), named, wider]) == [[2.0], [4.0], [10.0], [12.0]]
    assert sorted(model.calls) == [1, 3]


def test_tensors_are_stacked_and_split() -> None:
    schema = {
        "kind": "tensor",
        "inputs": None,
        "tensor": {"dtype": "float32", "shape": [-1, 2]},
        "output": {"task": "regressor", "classes": None, "probabilities": False},
        "source": "given",
    }
    model = Counting(double)
    found = batcher(model, schema=schema)
    asked = [({"op": "predict"}, orjson.dumps({"inputs": np.full((rows, 2), rows).tolist()})) for rows in (1, 2, 3)]
    for _ in range(5):
        assert ask(found, asked) == [[2.0], [4.0, 4.0], [6.0, 6.0, 6.0]]
    assert model.calls[-1] == 6


def test_a_call_has_its_bounds_and_a_large_request_stands_alone_after_the_small_ones() -> None:
    model = Counting(double)
    found = warmed(model)
    large = ({"op": "predict"}, orjson.dumps({"inputs": [[1.0]] * 100_000}))
    order = [position for position, _ in found.answers([large, *frames(*map(float, range(100)))])]
    assert order[-1] == 0
    assert model.calls == [64, 36, 100_000]


def test_requests_of_other_sizes_have_their_own_calls() -> None:
    model = Counting(double)
    found = warmed(model)
    many = ({"op": "predict"}, orjson.dumps({"inputs": [[1.0]] * 100}))
    ask(found, [*frames(1.0, 2.0), many])
    assert sorted(model.calls) == [2, 100]


def test_a_request_past_its_deadline_is_not_asked_any_more() -> None:
    model = Counting(double)
    found = warmed(model)
    late = ({"op": "predict", "until": model.clock.now - 1}, frames(9.0)[0][1])
    assert ask(found, [late, *frames(1.0)]) == ["deadline_exceeded", [2.0]]
    assert model.calls == [1]


def test_a_spec_may_switch_it_off() -> None:
    model = Counting(double)
    found = warmed(model, options={"batching": False})
    ask(found, frames(1.0, 2.0))
    assert model.calls == [1, 1]
    assert "switched off" in found.facts()["batching"]["decision"]
    assert found.gauge.read().verdict == gauge.OFF


# -- in a real runner -----------------------------------------------------------------------------------------------

TOUCHY = """import time
if any(row[0] == 13 for row in X):
    raise ValueError('thirteen')
time.sleep(0.02)
return [row[0] * 2 for row in X]"""


def pipelined(host: RunnerHost, spec: ModelSpec, bodies: list[bytes]) -> list[Any]:
    """Several requests in one piece on one connection, as the fast door sends them; their answers in order."""
    host.ensure(spec)
    runner = host.warm_runner(spec)
    with wire.connect(runner.socket_path, 5) as sock:
        sock.sendall(b"".join(wire.pack(number, {"op": "predict"}, body) for number, body in enumerate(bodies)))
        buffer, found, sock_timeout = wire.FrameBuffer(1 << 20), {}, time.monotonic() + 20
        while len(found) < len(bodies):
            sock.settimeout(sock_timeout - time.monotonic())
            for frame in buffer.feed(sock.recv(1 << 16)):
                found[frame.request_id] = json.loads(frame.body)
    return [found[number].get("predictions", found[number].get("code")) for number in range(len(bodies))]


def test_one_bad_row_among_many_on_one_line_touches_nobody(host: RunnerHost, predicting) -> None:
    spec = predicting(TOUCHY, key="touchy")
    bodies = [b'{"inputs": [[%d]]}' % value for value in (1, 13, 3, 4)] + [b"nonsense"]
    host.predict(spec, bodies[0])
    for _ in range(5):
        assert pipelined(host, spec, bodies) == [[2], "model_error", [6], [8], "invalid_json"]
    good = [b'{"inputs": [[%d]]}' % value for value in range(8)]
    for _ in range(5):
        assert pipelined(host, spec, good) == [[value * 2] for value in range(8)]
    decision = json.loads(host.call(spec, "describe", {}).body)["batching"]["decision"]
    assert decision.startswith("yes")
    host.unload(spec.key)


def test_a_runner_of_a_real_forest_answers_stacked_as_alone(host: RunnerHost, tmp_path) -> None:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    from tests.runner_host import model_spec

    x, y = load_iris(return_X_y=True)
    path = tmp_path / "forest.joblib"
    joblib.dump(RandomForestClassifier(50, random_state=0).fit(x, y), path)
    spec = replace(model_spec(path), limits=Limits())
    bodies = [orjson.dumps({"inputs": [row]}) for row in x[::10].tolist()]
    alone = [json.loads(host.predict(spec, body).body)["predictions"] for body in bodies]
    for _ in range(6):
        assert pipelined(host, spec, bodies) == alone
    assert "depends" not in json.loads(host.call(spec, "describe", {}).body)["batching"]["decision"]
    host.unload(spec.key)
