"""kill -9: every answered prediction is in the log exactly once, whichever process dies. Real gunicorn, real runners, a database file."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from tests.runner_host import wait_until
from tests.serving.server import LocalServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
]  # several starts of a web server, on a machine that may be busy


class Load:
    """Clients that go on asking whatever happens, and remember each answered prediction id."""

    def __init__(self, server: LocalServer, clients: int = 4) -> None:
        self.server, self.answered, self.failures = server, [], 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        """Until that many more rows were answered."""
        bound = len(self.answered) + count
        wait_until(lambda: len(self.answered) > bound, 60)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self.server.predict([[5.1, 3.5, 1.4, 0.2]] * 3)
            except Exception:  # noqa: BLE001  the server dies on purpose: http.client raises many kinds
                self.failures += 1
                self._stop.wait(0.05)
                continue
            if answer["status"] == 200:
                self.answered.extend(answer["prediction_ids"])
            self._stop.wait(0.005)  # the server that starts beside it needs the processors too


def _log(server: LocalServer) -> list[str]:
    return [row[0] for row in server.query("SELECT id FROM serving_predictionlog")]


def _assert_whole(server: LocalServer, answered: list[str]) -> None:
    """Nothing lost, nothing doubled; the counters agree with the rows."""
    logged = _log(server)
    assert len(logged) == len(set(logged))
    missing = {each.replace("-", "") for each in answered} - set(logged)
    assert missing == set()
    counted = server.query("SELECT SUM(rows), SUM(requests) FROM serving_trafficbucket")[0]
    # a busy machine may refuse a request: it is logged as one row too, without a predicted row
    predicted = server.query("SELECT COUNT(*) FROM serving_predictionlog WHERE error_code = ''")[0][0]
    requests = server.query("SELECT COUNT(*) FROM serving_predictionlog WHERE row = 0")[0][0]
    assert counted == (predicted, requests)


def test_kill_minus_nine_of_the_web_processes_loses_and_doubles_nothing(local_slipway) -> None:
    local_slipway.start_web()
    with Load(local_slipway) as load:
        for _ in range(2):
            load.wait_for_more(60)
            local_slipway.kill_web(signal.SIGKILL)
            local_slipway.manage("ship_predictions", "--once")
            local_slipway.start_web()
        load.wait_for_more(60)
    local_slipway.kill_web(signal.SIGKILL)
    local_slipway.manage("ship_predictions", "--once")
    assert len(load.answered) > 150
    _assert_whole(local_slipway, load.answered)


def test_kill_minus_nine_of_one_worker_leaves_the_other_answering(local_slipway) -> None:
    local_slipway.start_web()
    with Load(local_slipway) as load:
        wait_until(lambda: len(load.answered) > 30, 20)
        os.kill(local_slipway.web_workers()[0], signal.SIGKILL)
        load.wait_for_more(60)
    local_slipway.kill_web()
    local_slipway.manage("ship_predictions", "--once")
    _assert_whole(local_slipway, load.answered)


def test_a_shipper_killed_again_and_again_doubles_nothing(local_slipway) -> None:
    local_slipway.start_web()
    with Load(local_slipway) as load:
        for pause_s in (0.9, 1.1, 1.3, 1.5, 1.7):
            shipper = local_slipway.popen("ship_predictions")
            _kill_after(shipper, pause_s)
    local_slipway.kill_web()
    local_slipway.manage("ship_predictions", "--once")
    _assert_whole(local_slipway, load.answered)


def _kill_after(process: Any, seconds: float) -> None:
    """Let it live for a while, at most: each time it dies at another place of its work."""
    deadline = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > deadline or process.poll() is not None, seconds + 5)
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def test_a_body_that_comes_in_chunks_is_read(local_slipway) -> None:
    import http.client
    import json

    local_slipway.start_web()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", local_slipway.port, timeout=15)
        headers = {"Authorization": f"Bearer {local_slipway.key}", "Content-Type": "application/json"}
        body = json.dumps({"inputs": [[5.1, 3.5, 1.4, 0.2]]}).encode()
        connection.request(
            "POST", "/api/v1/predict/acme/flowers", iter([body[:10], body[10:]]), headers, encode_chunked=True
        )
        assert connection.getresponse().read().startswith(b'{"predictions"')
        connection.close()
        connection = http.client.HTTPConnection("127.0.0.1", local_slipway.port, timeout=15)
        try:
            connection.request(
                "POST", "/api/v1/predict/acme/flowers", iter([b"x" * (1 << 20)] * 6), headers, encode_chunked=True
            )
            status = connection.getresponse().status
        except (BrokenPipeError, ConnectionResetError):
            status = 413  # the refusal came before the rest was sent
        assert status == 413
    finally:
        local_slipway.kill_web(signal.SIGTERM)
