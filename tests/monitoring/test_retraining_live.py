"""The manual's trainer, as it stands, against a running Slipway: an incident, a webhook, a model that is trained, pushed and rolled out."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.jobs import retrain_due
from monitoring.models import Retraining
from tests.e2e.conftest import Worker, worker  # noqa: F401  a fixture
from tests.monitoring.retrained import Odds
from tests.runner_host import wait_until
from tests.world import World

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "retraining"


@pytest.fixture
def trainer(settings: Any, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The example as a process; ``start(secret)`` when the secret is known."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings.OUTBOUND_ALLOW = [*settings.OUTBOUND_ALLOW, f"127.0.0.1:{port}"]
    running: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "trainer.log"

    def start(secret: str) -> None:
        with log.open("wb") as output:
            running.append(
                subprocess.Popen(
                    [sys.executable, str(EXAMPLES / "trainer.py"), str(port)],
                    env={**os.environ, "SLIPWAY_WEBHOOK_SECRET": secret},
                    stdout=output,
                    stderr=output,
                )
            )
        wait_until(lambda: _listens(port), 60)

    yield {"url": f"http://127.0.0.1:{port}/", "start": start, "log": log}
    for process in running:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_manuals_trainer_answers_an_incident_with_a_better_model(
    live_server: Any,
    worker: Worker,  # noqa: F811  the fixture
    trainer: Any,
    jobs_now: Any,
    settings: Any,
) -> None:
    from contextlib import nullcontext

    settings.BASE_URL = live_server.url
    odds = Odds(World(), nullcontext)
    odds.traffic()
    odds.policy(way="webhook", url=trainer["url"], enabled=True, action="promote", max_drop=0.5)
    trainer["start"](odds.api.post(odds.url("retraining/secret")).json()["secret"])
    odds.incident()

    def state(*wanted: str) -> bool:
        retrain_due()
        run = Retraining.objects.first()
        assert run is None or run.open or run.state in wanted, (
            run.state,
            run.ended_because,
            trainer["log"].read_text(),
        )
        if run is not None and run.open:
            Retraining.objects.filter(pk=run.pk).update(next_at=run.moved_at)
        return run is not None and run.state in wanted

    wait_until(lambda: state("rolling_out"), 180, every_s=0.3)
    odds.roll_out()
    wait_until(lambda: state("promoted"), 60, every_s=0.3)
    run = odds.run()
    assert odds.deployment.live_version == run.candidate
    assert run.candidate.metrics["rows"] > 100
    assert "pushed version 2" in trainer["log"].read_text()


def test_the_manuals_train_py_is_the_examples() -> None:
    """Who copies from the page gets what is tested here."""
    text = (ROOT / "docs" / "retraining.md").read_text()
    shown = next(each for each in re.findall(r"```python\n(.*?)```", text, re.S) if "def train(" in each)
    code = compile(shown, "docs/retraining.md", "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    assert callable(names["train"])
