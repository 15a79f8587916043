"""How the shipper's process goes on: a short wait, a longer one while much comes, and patience with a database that is away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import OperationalError

from mlops.core import clock
from serving import prediction_log
from serving.management.commands import ship_predictions
from serving.prediction_log import Shipped
from tests.serving import test_shipping

flowers = test_shipping.flowers


def _waits(monkeypatch, done: Shipped | Exception) -> tuple[float, list[str]]:
    seen: list[str] = []
    monkeypatch.setattr(ship_predictions.rollouts, "tick_all", lambda: seen.append("rollouts"))
    monkeypatch.setattr(ship_predictions, "close_old_connections", lambda: seen.append("connection"))

    def ship() -> Shipped:
        if isinstance(done, Exception):
            raise done
        return done

    return ship_predictions._ship(SimpleNamespace(ship=ship)), seen


@pytest.mark.parametrize(
    ("done", "pause_s", "seen"),
    [
        (Shipped(), ship_predictions.PAUSE_S, []),
        (Shipped(requests=3, rows=3), ship_predictions.PAUSE_S, ["rollouts"]),
        (Shipped(requests=5_000, rows=5_000), ship_predictions.PAUSE_AFTER_MANY_S, ["rollouts"]),
        (OperationalError("away"), ship_predictions.PAUSE_AFTER_FAILURE_S, ["connection"]),
        (OSError("no such folder"), ship_predictions.PAUSE_AFTER_FAILURE_S, ["connection"]),
    ],
    ids=["idle", "a few", "many", "no database", "no spool"],
)
def test_how_long_it_waits_and_what_else_it_looks_at(monkeypatch, done, pause_s: float, seen: list[str]) -> None:
    assert _waits(monkeypatch, done) == (pause_s, seen)


@pytest.mark.django_db  # what it closes may be open from an earlier test
def test_rollouts_that_cannot_be_looked_at_do_not_end_it(monkeypatch) -> None:
    def away() -> None:
        raise OperationalError("away")

    monkeypatch.setattr(ship_predictions.rollouts, "tick_all", away)
    assert ship_predictions._ship(SimpleNamespace(ship=lambda: Shipped(requests=1))) == ship_predictions.PAUSE_S


class _Rests:
    def __init__(self) -> None:
        self.behind_s: list[float] = []

    def begin(self) -> None: ...

    def rest(self, behind_s: float) -> None:
        self.behind_s.append(behind_s)


def test_it_may_rest_after_each_transaction_and_knows_how_far_behind_it_is(flowers, monkeypatch) -> None:
    monkeypatch.setattr(prediction_log, "BATCH_RECORDS", 2)
    for age_s in (50, 40, 30, 20, 10):
        test_shipping._append(flowers, at=clock.now().timestamp() - age_s)
    rests = _Rests()
    assert prediction_log.Shipper(rests).ship().requests == 5
    assert [round(behind_s / 10) for behind_s in rests.behind_s] == [4, 2, 1]
