"""How the shipper's process goes on: a short wait, a longer one while much comes, and patience with a database that is away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import OperationalError

from serving.management.commands import ship_predictions
from serving.prediction_log import Shipped


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


def test_rollouts_that_cannot_be_looked_at_do_not_end_it(monkeypatch) -> None:
    def away() -> None:
        raise OperationalError("away")

    monkeypatch.setattr(ship_predictions.rollouts, "tick_all", away)
    assert ship_predictions._ship(SimpleNamespace(ship=lambda: Shipped(requests=1))) == ship_predictions.PAUSE_S
