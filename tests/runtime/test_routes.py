"""A client's routes: the runner with least in flight, places for threads, words to runnerd that no request waits for."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from mlops.runtime import wire
from mlops.runtime.errors import Busy, DeadlineExceeded, HostUnavailable, ModelCrashed
from mlops.runtime.host import Limits, ModelSpec, RunnerHost
from mlops.runtime.messenger import Messenger
from mlops.runtime.routes import IN_FLIGHT, IN_FLIGHT_FAST, Routes
from tests.runner_host import wait_until

SPEC = ModelSpec("k", "/nowhere", "00", "table", limits=Limits(predict_s=10))
TWO = [{"socket": "/a", "generation": 1}, {"socket": "/b", "generation": 2}]


@pytest.fixture
def routes() -> Routes:
    found = Routes()
    found.adopt("k", TWO, SPEC)
    return found


def test_the_runner_with_least_in_flight_is_asked(routes: Routes) -> None:
    route = routes.of("k")
    picked = []
    for _ in range(4):
        runner = route.pick(SPEC)
        runner.in_flight += 1
        picked.append(runner.generation)
    assert picked == [1, 2, 1, 2]
    assert routes.peaks({"k", "other"}) == {"k": 4}


def test_a_request_that_would_come_too_late_is_turned_away_at_once(routes: Routes) -> None:
    route = routes.of("k")
    for runner in route.runners:
        runner.in_flight, runner.call_s = 3, 3.0
    assert route.pick(SPEC) is not None
    for runner in route.runners:
        runner.in_flight = 4
    with pytest.raises(Busy) as busy:
        route.pick(SPEC)
    assert busy.value.retry_after_s == 12
    for runner in route.runners:
        runner.in_flight, runner.call_s = IN_FLIGHT, 0.02
    with pytest.raises(Busy):
        route.pick(SPEC)
    for runner in route.runners:
        runner.call_s = 0.001
    assert route.pick(SPEC) is not None
    for runner in route.runners:
        runner.in_flight = IN_FLIGHT_FAST
    with pytest.raises(Busy):
        route.pick(SPEC)


def test_a_route_of_another_model_under_the_same_key_is_none(routes: Routes) -> None:
    assert routes.of("k").pick(ModelSpec("k", "/nowhere", "11", "table")) is None
    assert routes.of("unknown").pick(SPEC) is None


def test_runners_come_and_go_and_those_that_stay_keep_their_counts(routes: Routes) -> None:
    first, second = routes.of("k").runners
    second.in_flight = 5
    routes.adopt("k", [*TWO[1:], {"socket": "/c", "generation": 3, "call_s": 0.5}])
    assert [(each.generation, each.in_flight, each.call_s) for each in routes.of("k").runners] == [
        (2, 5, 0.0),
        (3, 0, 0.5),
    ]
    routes.forget(second)
    assert routes.sockets() == {"/c"}
    routes.adopt("never asked for", TWO)
    assert routes.find("never asked for") is None
    routes.drop("k")
    assert routes.of("k").pick(SPEC) is None


def test_a_slow_model_keeps_places_free_for_others(routes: Routes) -> None:
    route, go, inside = routes.of("k"), threading.Event(), []

    def sit() -> None:
        with route.place(2, None):
            inside.append(1)
            go.wait(10)

    threads = [threading.Thread(target=sit) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(inside) == 2)
    with pytest.raises(Busy), route.place(2, None):
        pytest.fail("there was a place")
    with pytest.raises(Busy), route.place(2, 0.01):
        pytest.fail("there was a place")
    with routes.of("other").place(2, None):
        go.set()
    for thread in threads:
        thread.join(10)
    with route.place(2, None):
        pass


def test_a_thread_waits_for_a_place_while_the_others_move_on(routes: Routes) -> None:
    route, inside, wrong = routes.of("k"), [], []

    def pass_through() -> None:
        for _ in range(50):
            with route.place(1, None):
                inside.append(1)
                wrong.extend(inside[1:])
                inside.pop()

    threads = [threading.Thread(target=pass_through) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (inside, wrong) == ([], [])


def test_uses_are_told_from_a_thread_of_their_own_and_bring_back_the_runners(routes: Routes) -> None:
    words: list[dict] = []

    def control(word: dict) -> dict:
        words.append(word)
        if len(words) == 1:
            raise HostUnavailable("away for a moment")
        return {"runners": {"k": [{"socket": "/z", "generation": 9}]}}

    messenger = Messenger(routes, control)
    messenger.note("k")
    wait_until(lambda: words)
    messenger.note("k")
    messenger.note("k")
    wait_until(lambda: routes.sockets() == {"/z"})
    assert [word["used"] for word in words[:2]] == [{"k": 1}, {"k": 2}]
    assert words[0]["client"] == words[1]["client"]


def test_requests_that_wait_are_told_before_any_is_answered(routes: Routes) -> None:
    words: list[dict] = []
    messenger = Messenger(routes, lambda word: words.append(word) or {})
    route = routes.of("k")
    for _ in range(6):
        route.pick(SPEC).in_flight += 1
    messenger.nudge()
    wait_until(lambda: words)
    assert words[0]["peaks"] == {"k": 6}


def test_an_event_loop_learns_why_no_answer_came(host: RunnerHost, iris: ModelSpec) -> None:
    iris = replace(iris, key="an-event-loop-learns-why")
    assert host.warm_runner(iris) is None
    host.ensure(iris)
    runner = host.warm_runner(iris)
    host.lost(iris, runner, 0.0, reached=False)
    assert host.warm_runner(iris) is None
    host.ensure(iris)
    host.unload(iris.key)
    host.lost(iris, runner, 0.0)
    host.ensure(iris)
    with pytest.raises(ModelCrashed, match="invalid answer"):
        host.lost(iris, host.warm_runner(iris), 0.0, babble=wire.WireError("nonsense"))
    host.ensure(iris)
    with pytest.raises(DeadlineExceeded):
        host.lost(iris, host.warm_runner(iris), 0.0, timed_out=True)
