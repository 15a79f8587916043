"""The product in this process, looked at with a real browser: live server, worker thread, sandboxed runners."""

from __future__ import annotations

import queue as queues
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from mlops.jobs import queue, runner
from serving import prediction_log


class Worker:
    """What ``manage.py worker`` does, in a thread: jobs as they come, and the prediction log between them."""

    def __init__(self) -> None:
        self.jobs: queues.SimpleQueue[int] = queues.SimpleQueue()
        self.crashes: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker")

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    runner.run(self.jobs.get(timeout=0.2))
                except queues.Empty:
                    prediction_log.ship_once()
        except BaseException as error:
            self.crashes.append(error)
            raise
        finally:
            connection.close()


@pytest.fixture
def worker(live_server: Any, own_spool: Any, runner_host: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Jobs of the test and of the live server are done in the background, as in production."""
    with Worker() as running:
        monkeypatch.setattr(queue, "send", running.jobs.put)
        yield running
    assert running.crashes == []


@pytest.fixture(autouse=True)
def _links_lead_here(request: pytest.FixtureRequest, settings: Any) -> None:
    if "live_server" in request.fixturenames:
        settings.BASE_URL = request.getfixturevalue("live_server").url
