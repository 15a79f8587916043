"""When background work rests, and when it does not."""

from __future__ import annotations

import pytest

from serving.pace import PATIENCE_S, Pace, scheduled_ns
from tests.runner_host import wait_until


class Machine:
    """A clock, and what the kernel says of a thread on it."""

    def __init__(self) -> None:
        self.now, self.worked, self.waited = 100.0, 0, 0
        self.rests: list[float] = []

    def work(self, seconds: float, waiting: float = 0.0) -> None:
        self.now += seconds + waiting
        self.worked += int(seconds * 1e9)
        self.waited += int(waiting * 1e9)

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds

    def pace(self) -> Pace:
        return Pace(self.sleep, lambda: self.now, lambda: (self.worked, self.waited))


@pytest.mark.parametrize(
    ("waiting", "behind_s", "rests"),
    [
        (0.0, 0.0, []),
        (0.009, 0.0, []),
        (0.1, 0.0, [pytest.approx(0.6)]),
        (0.1, PATIENCE_S - 1, [pytest.approx(0.6)]),
        (0.1, PATIENCE_S + 1, []),
        (5.0, 0.0, [1.0]),
    ],
    ids=["alone", "nearly alone", "in a crowd", "a little behind", "far behind", "in a large crowd"],
)
def test_it_rests_in_a_crowd_unless_it_is_behind(waiting: float, behind_s: float, rests: list) -> None:
    machine = Machine()
    pace = machine.pace()
    machine.work(0.1, waiting)
    pace.rest(behind_s)
    assert machine.rests == rests


def test_each_piece_is_judged_by_itself() -> None:
    machine = Machine()
    pace = machine.pace()
    machine.work(0.1, 0.1)
    pace.rest(0.0)
    machine.work(0.1)
    pace.rest(0.0)
    assert len(machine.rests) == 1


def test_the_kernel_tells_or_there_is_no_rest(tmp_path, monkeypatch) -> None:
    worked, _ = scheduled_ns()
    wait_until(lambda: sum(range(20_000)) and scheduled_ns()[0] > worked)
    monkeypatch.setattr("serving.pace._SCHEDSTAT", tmp_path / "none")
    assert scheduled_ns() == (0, 0)
    machine = Machine()
    Pace(machine.sleep, lambda: machine.now).rest(0.0)
    assert machine.rests == []
