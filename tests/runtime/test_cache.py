"""ModelCache: bounded by bytes, least recently used out, pins kept, one load per key."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mlops.runtime.cache import ModelCache
from mlops.runtime.errors import CacheFull, LoadFailed
from tests.runner_host import wait_until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def evicted() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def cache(evicted) -> ModelCache[str]:
    return ModelCache(100, lambda key, value, reason: evicted.append((key, reason)), Clock())


def one(value: str, size: int = 1) -> Callable[[], tuple[str, dict[str, int]]]:
    return lambda: (value, {"cpu": size})


def put(cache: ModelCache[str], key: str, size: int = 40) -> str:
    return cache.get(key, lambda: (f"model {key}", {"cpu": size}))[0]


def test_a_model_is_loaded_once_and_counted(cache) -> None:
    assert cache.get("a", one("A", 10)) == ("A", True)
    assert cache.get("a", lambda: pytest.fail("loaded twice")) == ("A", False)
    stats = cache.stats()
    assert [stats[name] for name in ("capacity_bytes", "used_bytes", "entries", "hits", "misses", "evictions")] == [
        100, 10, 1, 1, 1, 0,
    ]  # fmt: skip


def test_the_least_recently_used_makes_room(cache, evicted) -> None:
    put(cache, "a")
    put(cache, "b")
    cache.touch("a", 3)
    put(cache, "c")
    assert evicted == [("b", "capacity")]
    assert [entry.key for entry in cache.entries()] == ["c", "a"]
    assert cache.entries()[1].hits == 3


def test_a_pinned_model_stays_and_an_unpinned_one_goes_again(cache, evicted) -> None:
    cache.pin("a", True)
    put(cache, "a")
    put(cache, "b")
    put(cache, "c")
    assert evicted == [("b", "capacity")]
    cache.pin("a", False)
    put(cache, "d")
    assert evicted[1:] == [("a", "capacity")]


def test_a_model_that_cannot_fit_beside_the_pinned_ones_is_refused_and_let_go(cache, evicted) -> None:
    cache.pin("a", True)
    put(cache, "a", 80)
    with pytest.raises(CacheFull, match="does not fit"):
        put(cache, "b", 30)
    assert evicted == [("b", "capacity")]
    assert cache.peek("a") == "model a"


def test_room_is_made_before_a_load_of_known_size(cache, evicted) -> None:
    put(cache, "a", 90)
    seen: list[list[tuple[str, str]]] = []
    cache.get("b", lambda: (seen.append(list(evicted)) or "B", {"cpu": 20}), expect={"cpu": 20})
    assert seen == [[("a", "capacity")]]


def test_a_model_that_grew_pushes_others_out_but_not_itself(cache, evicted) -> None:
    put(cache, "a")
    put(cache, "b")
    cache.resize("b", {"cpu": 95})
    assert evicted == [("a", "capacity")]
    assert cache.peek("b") == "model b"


def test_many_threads_asking_for_one_model_load_it_once(cache) -> None:
    loads: list[int] = []
    go = threading.Event()

    def load() -> tuple[str, dict[str, int]]:
        loads.append(1)
        go.wait(5)
        return "A", {"cpu": 1}

    found: list[tuple[str, bool]] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get("a", load))) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: loads)
    go.set()
    for thread in threads:
        thread.join(5)
    assert len(loads) == 1
    assert sorted(found) == [("A", False)] * 7 + [("A", True)]


def test_a_failed_load_fails_every_waiter_and_may_be_tried_again(cache) -> None:
    started, go = threading.Event(), threading.Event()

    def fail() -> tuple[str, dict[str, int]]:
        started.set()
        go.wait(5)
        raise LoadFailed("broken")

    errors: list[BaseException] = []

    def ask() -> None:
        try:
            cache.get("a", fail)
        except LoadFailed as error:
            errors.append(error)

    first = threading.Thread(target=ask)
    first.start()
    started.wait(5)
    second = threading.Thread(target=ask)
    second.start()
    go.set()
    first.join(5)
    second.join(5)
    assert len(errors) == 2
    assert put(cache, "a") == "model a"


def test_idle_models_go_and_pinned_or_used_ones_stay(cache, evicted) -> None:
    for key in ("idle", "pinned", "used"):
        put(cache, key, 10)
    cache.pin("pinned", True)
    Clock.now = 0
    cache._clock.now = 100
    cache.touch("used")
    assert cache.remove_idle(50) == ["idle"]
    assert evicted == [("idle", "idle")]


def test_removing_tells_the_hook_and_only_the_named_value(cache, evicted) -> None:
    put(cache, "a")
    assert not cache.remove("a", only="another")
    assert cache.remove("a", "unloaded")
    assert not cache.remove("a")
    assert evicted == [("a", "unloaded")]


# -- several devices ------------------------------------------------------------------------------------------------


def on(device: str, size: int) -> Callable[[], tuple[str, dict[str, int]]]:
    return lambda: (f"{size} on {device}", {"cpu": 10, device: size})


@pytest.fixture
def wide(evicted) -> ModelCache[str]:
    """A machine with two GPUs."""
    room = {"cpu": 1000, "cuda:0": 100, "cuda:1": 50}
    return ModelCache(lambda: room, lambda key, value, reason: evicted.append((key, reason)), Clock())


def test_each_device_has_its_own_room_and_its_own_least_recently_used(wide, evicted) -> None:
    wide.get("old, other device", on("cuda:1", 50))
    wide.get("a", on("cuda:0", 60))
    wide.get("b", on("cuda:0", 40))
    wide.touch("a")
    wide.get("c", on("cuda:0", 30), expect={"cuda:0": 30})
    assert evicted == [("b", "capacity")]
    assert wide.stats()["devices"] == {
        "cpu": {"capacity_bytes": 1000, "used_bytes": 30},
        "cuda:0": {"capacity_bytes": 100, "used_bytes": 90},
        "cuda:1": {"capacity_bytes": 50, "used_bytes": 50},
    }
    assert wide.stats()["recent"][0] | {"at": 0} == {"at": 0, "key": "b", "reason": "capacity", "bytes": 50}


def test_a_pinned_model_holds_its_place_on_a_gpu(wide, evicted) -> None:
    wide.pin("a", True)
    wide.get("a", on("cuda:0", 80))
    assert wide.evictable("cuda:0") == 0
    with pytest.raises(CacheFull):
        wide.get("b", on("cuda:0", 30))
    assert [key for key, _ in evicted] == ["b"]


# -- several runners of one model -----------------------------------------------------------------------------------


def test_a_second_runner_goes_before_the_only_one_of_another_model(cache, evicted) -> None:
    put(cache, "idle")
    cache.get("busy", one("first", 20), group="busy")
    cache.get("busy#2", one("second", 20), group="busy")
    cache.touch("busy")
    assert cache.fits({"cpu": 20})
    assert not cache.fits({"cpu": 21})
    put(cache, "new")
    assert evicted == [("busy#2", "capacity")]


def test_the_last_runner_of_a_pinned_model_stays_whichever_it_is(cache, evicted) -> None:
    cache.pin("busy", True)
    cache.get("busy", one("first", 20), group="busy")
    cache.get("busy#2", one("second", 20), group="busy")
    cache.remove("busy", "dead")
    put(cache, "a", 60)
    put(cache, "b", 60)
    assert evicted == [("busy", "dead"), ("a", "capacity")]
    assert [entry.value for entry in cache.group("busy")] == ["second"]


def test_who_does_not_want_to_wait_long_is_told_and_the_load_goes_on(cache) -> None:
    go = threading.Event()

    def load() -> tuple[str, dict[str, int]]:
        go.wait(5)
        return "A", {"cpu": 1}

    with pytest.raises(TimeoutError):
        cache.get("a", load, hold_s=0.01)
    with pytest.raises(TimeoutError):
        cache.get("a", lambda: pytest.fail("loaded twice"), hold_s=0.01)
    go.set()
    assert cache.get("a", lambda: pytest.fail("loaded twice"), hold_s=5) == ("A", False)
