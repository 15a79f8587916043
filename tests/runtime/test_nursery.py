"""What the nursery makes of zygotes that come, go and fail: with made-up processes, a made-up clock and made-up verdicts."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlops.runtime import nursery as nursery_module
from mlops.runtime import zygote as zygote_module
from mlops.runtime.errors import HostUnavailable, SandboxUnavailable
from mlops.runtime.gauge import Gauge
from mlops.runtime.nursery import Config, Nursery
from mlops.runtime.proof import Verdict
from mlops.runtime.runners import Child, Logs, Ring
from mlops.runtime.sandbox import Policy
from mlops.runtime.template import Zygote


class StandInTemplate:
    pid = 1

    def __init__(self) -> None:
        self.log = Ring()
        self.log.ended.set()
        self.lives = True

    def alive(self) -> bool:
        return self.lives

    def kill(self) -> None:
        self.lives = False


class StandInZygote:
    """It comes up and goes when the test says so."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid, self.preload_s, self.started = number, 0.0, False
        self.libraries: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.ready, self.proven, self.gone = threading.Event(), threading.Event(), threading.Event()

    def fork(self, *request: object) -> int:
        return self.number

    def come_up(self) -> None:
        self.started = True
        self.ready.set()

    def go(self) -> None:
        for event in (self.gone, self.ready, self.proven):
            event.set()


class Scene:
    """A nursery whose processes are stand-ins; ``results`` says what a proof from a zygote finds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.templates: list[StandInTemplate] = []
        self.zygotes: list[StandInZygote] = []
        self.tried: list[int] = []
        self.leaks = 0
        self.results: Callable[[StandInZygote], Verdict] = lambda zygote: Verdict(True, self.now)
        monkeypatch.setattr(nursery_module, "time", SimpleNamespace(monotonic=self.clock, time=self.clock))
        monkeypatch.setattr(nursery_module, "Template", self._template)
        monkeypatch.setattr(nursery_module, "Zygote", self._zygote)
        monkeypatch.setattr(nursery_module, "prove", self._prove)
        self.nursery = Nursery(Config(str(folder), (), 1 << 30, 0), lambda child: None, self._leak)
        monkeypatch.setattr(self.nursery, "uid", lambda number, paths: None)
        self.nursery.start()

    def clock(self) -> float:
        return self.now

    def _template(self, logs: object, **how: object) -> StandInTemplate:
        self.templates.append(StandInTemplate())
        return self.templates[-1]

    def _zygote(self, *rest: object) -> StandInZygote:
        self.zygotes.append(StandInZygote(len(self.zygotes)))
        return self.zygotes[-1]

    def _prove(self, fork: Callable, uid: int | None, without: frozenset[str], folder: str | None) -> Verdict:
        zygote = fork.__self__
        self.tried.append(zygote.number)
        return self.results(zygote)

    def _leak(self) -> None:
        self.leaks += 1

    def template_dies(self, last_words: str) -> None:
        self.templates[-1].log.add(last_words.encode())
        self.templates[-1].lives = False
        for zygote in self.zygotes[-2:]:
            zygote.go()
            self.nursery.tick()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


# -- starting again ---------------------------------------------------------------------------------------------------


def test_a_template_that_dies_of_the_slow_libraries_is_given_growing_pauses(scene: Scene) -> None:
    """Each time the first zygote came up and was proven before."""
    pauses = []
    for _ in range(7):
        scene.zygotes[-2].come_up()
        scene.nursery.tick()
        before = len(scene.templates)
        scene.template_dies("torch: no such thing")
        begun = scene.now
        while len(scene.templates) == before:
            scene.now += 0.5
            scene.nursery.tick()
        pauses.append(scene.now - begun)
        assert scene.nursery.status()["zygote"]["error"] == "torch: no such thing"
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    for zygote in scene.zygotes[-2:]:
        zygote.come_up()
    scene.nursery.tick()
    assert scene.nursery.status()["zygote"]["error"] == ""


def test_pauses_have_an_end_however_often_it_fails(scene: Scene) -> None:
    for _ in range(1100):
        scene.template_dies("again")
        scene.now += 30
        scene.nursery.tick()
    assert len(scene.templates) == 1101


def test_modules_that_do_not_start_are_in_the_status(scene: Scene) -> None:
    scene.zygotes[0].failed = {"xgboost": "OSError: no libgomp"}
    scene.zygotes[1].failed = {"torch": "OSError: no libcudart"}
    assert scene.nursery.status()["zygote"]["failed"] == {
        "xgboost": "OSError: no libgomp",
        "torch": "OSError: no libcudart",
    }


def test_a_zygote_that_cannot_be_forked_leaves_the_other_and_is_asked_for_again(scene: Scene) -> None:
    quick, slow = scene.zygotes
    quick.come_up()
    scene.nursery.tick()
    slow.go()
    scene.nursery.tick()
    assert fork(scene) == quick.number
    with pytest.raises(HostUnavailable):
        fork(scene, slow=True)
    assert not scene.nursery.status()["ready"]
    scene.now += 1
    scene.nursery.tick()
    assert (len(scene.templates), len(scene.zygotes)) == (1, 3)
    scene.zygotes[2].come_up()
    scene.nursery.tick()
    assert fork(scene, slow=True) == 2
    assert fork(scene) == quick.number
    assert scene.nursery.status()["ready"]


def fork(scene: Scene, *, slow: bool = False) -> object:
    """The number of the zygote that a runner comes from."""
    scene.nursery.require_sandbox()
    return scene.nursery.fork("runner", Policy((), 1 << 20, None), "/model", None, slow=slow)


def test_a_template_without_room_for_one_more_closes_the_line_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", full)
    monkeypatch.setattr(zygote_module, "_bury_the_dead", lambda: None)
    monkeypatch.setattr(zygote_module.gc, "freeze", lambda: None)
    supervisor, orders = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with supervisor, orders, ours:
        with theirs:
            socket.send_fds(supervisor, [b"zygote"], [theirs.fileno()])
        assert zygote_module._next_zygote(orders, {}, {}, 0.0)
        ours.settimeout(10)
        assert ours.recv(1) == b""
        supervisor.send(b"zygote")  # its descriptor found no room
        assert zygote_module._next_zygote(orders, {}, {}, 0.0)
        supervisor.close()
        assert not zygote_module._next_zygote(orders, {}, {}, 0.0)


# -- the proof --------------------------------------------------------------------------------------------------------

GOT_THROUGH = [{"name": "kill", "layer": "seccomp", "mandatory": True, "blocked": False, "detail": "kill worked"}]


@pytest.fixture
def proven(scene: Scene) -> Scene:
    """Both zygotes are up and proven; an hour later the next proof is due."""
    for zygote in scene.zygotes:
        zygote.come_up()
    scene.nursery.tick()
    assert scene.tried == [0, 1]
    scene.tried.clear()
    scene.now += 3601
    return scene


def dies(scene: Scene, *numbers: int, probes: list | None = None) -> Callable[[StandInZygote], Verdict]:
    """What a proof finds when those zygotes end while it runs."""

    def find(zygote: StandInZygote) -> Verdict:
        if zygote.number not in numbers:
            return Verdict(True, scene.now)
        zygote.go()
        return Verdict(False, scene.now, probes or [], "The sandbox could not be tried.")

    return find


@pytest.mark.parametrize("number", [0, 1])
def test_a_zygote_that_ends_while_it_is_tried_is_no_leak(proven: Scene, number: int) -> None:
    proven.results = dies(proven, number)
    proven.nursery.tick()
    assert (proven.tried, proven.leaks) == ([0, 1], 0)
    assert proven.nursery.verdict == Verdict(True, proven.now)
    assert fork(proven, slow=number == 0) == 1 - number


def test_when_every_zygote_ends_while_it_is_tried_the_verdict_stays(proven: Scene) -> None:
    before = proven.nursery.verdict
    proven.results = dies(proven, 0, 1)
    said = proven.nursery.prove()
    assert (said.ok, said.probes) == (False, [])
    assert proven.nursery.verdict is before
    assert proven.leaks == 0


def test_the_end_of_a_zygote_may_be_read_after_what_it_broke(proven: Scene) -> None:
    def late(seconds: float) -> bool:
        proven.zygotes[1].go()
        return True

    proven.zygotes[1].gone.wait = late
    proven.results = lambda zygote: Verdict(zygote.number == 0, proven.now)
    assert proven.nursery.prove().ok
    assert proven.leaks == 0


def test_a_zygote_that_is_gone_is_not_tried(proven: Scene) -> None:
    proven.zygotes[1].go()
    assert proven.nursery.prove().ok
    assert (proven.tried, proven.leaks) == ([0], 0)


def test_what_a_probe_could_do_stops_everything_whatever_became_of_its_zygote(proven: Scene) -> None:
    proven.results = dies(proven, 0, probes=GOT_THROUGH)
    proven.nursery.tick()
    assert proven.leaks == 1
    with pytest.raises(SandboxUnavailable):
        proven.nursery.require_sandbox()


def test_a_living_zygote_that_cannot_be_tried_stops_everything(proven: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery_module, "_END_S", 0)
    proven.results = lambda zygote: Verdict(zygote.number == 0, proven.now)
    proven.nursery.tick()
    assert proven.leaks == 1
    with pytest.raises(SandboxUnavailable):
        proven.nursery.require_sandbox()


def test_none_passes_for_proven_that_was_not_tried(scene: Scene) -> None:
    for zygote in scene.zygotes:
        zygote.come_up()
    scene.results = lambda zygote: Verdict(zygote.number == 1, scene.now, GOT_THROUGH)
    assert not scene.nursery.prove().ok  # the second says yes: that is not the last word
    assert [zygote.number for zygote in scene.zygotes if zygote.proven.is_set()] == scene.tried == [0, 1]


class WatchedLock:
    """Tells when somebody waits for it."""

    def __init__(self) -> None:
        self.lock, self.waited_for = threading.Lock(), threading.Event()

    def __enter__(self) -> None:
        if self.lock.locked():
            self.waited_for.set()
        self.lock.acquire()

    def __exit__(self, *error: object) -> None:
        self.lock.release()


def test_proofs_are_made_one_after_the_other(proven: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = WatchedLock()
    monkeypatch.setattr(proven.nursery, "_proving", lock)
    second = threading.Thread(target=proven.nursery.prove)

    def find(zygote: StandInZygote) -> Verdict:
        if proven.tried == [0]:
            second.start()
            assert lock.waited_for.wait(30)
            assert proven.tried == [0]
        return Verdict(True, proven.now)

    proven.results = find
    assert proven.nursery.prove().ok
    second.join(30)
    assert proven.tried == [0, 1, 0, 1]


# -- the end of a zygote ----------------------------------------------------------------------------------------------


def test_when_anybody_hears_that_a_runner_went_with_its_zygote_all_of_them_are_known_to(tmp_path: Path) -> None:
    """Else the supervisor, asked for another of them meanwhile, would count its end as a crash."""
    lines: list[socket.socket] = []
    template = SimpleNamespace(order=lambda line: lines.append(line.dup()), hidden=())
    heard: list[list[bool]] = []
    changed = threading.Event()
    zygote = Zygote(template, Logs(), lambda child: heard.append([each.orphaned for each in children]), changed.set)
    pairs = [socket.socketpair() for _ in range(3)]
    children = [Child(number, -1, pair[0], Ring(), Gauge()) for number, pair in enumerate(pairs)]
    zygote._children = {child.pid: child for child in children}
    lines[0].close()
    assert changed.wait(30)
    assert heard == [[True] * 3] * 3
    for child, (_, theirs) in zip(children, pairs, strict=True):
        child.close()
        theirs.close()
