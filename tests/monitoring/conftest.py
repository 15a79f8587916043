from __future__ import annotations

from datetime import datetime

import pytest

from mlops.core import clock
from tests.monitoring.scene import Scene


@pytest.fixture(autouse=True)
def _own_log(own_spool) -> None:
    """What another test has logged is no traffic of this one's deployments, whose numbers may be the same."""


@pytest.fixture
def scene(world) -> Scene:
    """acme's deployment "fraud", live, with a reference of 3,000 rows."""
    made = Scene(world.acme)
    made.reference()
    return made


@pytest.fixture
def bare(world) -> Scene:
    """The same without a reference."""
    return Scene(world.acme)


@pytest.fixture
def at(monkeypatch):
    """``at(moment)``: the product's clock shows that time from now on."""

    def set_clock(moment: datetime) -> datetime:
        monkeypatch.setattr(clock, "now", lambda: moment)
        return moment

    return set_clock
