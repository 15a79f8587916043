"""The web server itself, on the wire: slow senders, odd framing, workers that die, reloads under load. Real gunicorn, two processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.web_worker import Succession
from tests.runner_host import patience, wait_until
from tests.serving.server import PATH, ROW, LocalServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BODY = json.dumps({"inputs": [ROW]}).encode()


@pytest.fixture(scope="module")
def web(tiny: dict, runner_host: Any) -> Iterator[LocalServer]:
    with LocalServer(tiny["iris_joblib"], runner_host.socket_path) as server:
        server.start_web()
        for _ in range(20):  # both processes know the key and the route
            assert server.predict()["status"] == 200
        yield server


def _head(server: LocalServer, *, version: str = "1.1", length: int = len(BODY), more: str = "") -> bytes:
    return (
        f"POST {PATH} HTTP/{version}\r\nHost: localhost\r\nAuthorization: Bearer {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


def _connect(server: LocalServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=15)


def _answers(sock: socket.socket, count: int) -> list[bytes]:
    """The status lines of that many answers with a length."""
    stream, found = sock.makefile("rb"), []
    for _ in range(count):
        found.append(stream.readline())
        length = 0
        while line := stream.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        stream.read(length)
    return found


def test_a_connection_carries_many_requests_also_when_they_come_at_once(web: LocalServer) -> None:
    with _connect(web) as sock:
        for _ in range(3):
            sock.sendall(_head(web) + BODY)
            assert _answers(sock, 1)[0].startswith(b"HTTP/1.1 200")
    with _connect(web) as sock:
        sock.sendall((_head(web) + BODY) * 5)
        assert [line[:12] for line in _answers(sock, 5)] == [b"HTTP/1.1 200"] * 5


def test_http_1_0_is_answered_and_closed(web: LocalServer) -> None:
    with _connect(web) as sock:
        sock.sendall(_head(web, version="1.0") + BODY)
        found = b"".join(iter(lambda: sock.recv(65536), b""))
    assert found.startswith(b"HTTP/1.0 200")
    assert b'"predictions"' in found


def test_a_client_that_waits_for_100_continue_gets_it(web: LocalServer) -> None:
    with _connect(web) as sock:
        sock.sendall(_head(web, more="Expect: 100-continue\r\n"))
        assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue")
        sock.sendall(BODY)
        assert _answers(sock, 1)[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n", b"431"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
    ],
)  # fmt: skip
def test_requests_that_are_too_long_or_ambiguous_are_refused(web: LocalServer, request_: bytes, status: bytes) -> None:
    with _connect(web) as sock:
        sock.sendall(request_)
        found = sock.recv(65536)
    assert found.split()[1] == status, found[:200]


def test_half_a_body_is_no_request(web: LocalServer) -> None:
    """The client leaves in the middle: nothing is predicted, and the server goes on."""
    before = len(list((web.folder / "spool").glob("*.seg")))
    with _connect(web) as sock:
        sock.sendall(_head(web) + BODY[:5])
    assert web.predict()["status"] == 200
    assert before >= 1


def test_an_upload_refused_early_still_hears_why(web: LocalServer) -> None:
    """The answer comes before the body was read: it must not be lost with the connection."""
    with _connect(web) as sock:
        sock.sendall(_head(web, length=50 << 20))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(8):
                sock.sendall(b"x" * 65536)
        assert sock.recv(100).startswith(b"HTTP/1.1 413")


def test_slow_senders_hold_no_thread(web: LocalServer) -> None:
    """More connections than there are threads, each in the middle of a body: everybody else is answered."""
    slow = [_connect(web) for _ in range(40)]
    try:
        for sock in slow:
            sock.sendall(
                f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nx".encode()
            )
        began = time.monotonic()
        assert web.request("GET", "/healthz")[0] == 200
        assert web.predict()["status"] == 200
        assert time.monotonic() - began < 5 * patience()
    finally:
        for sock in slow:
            sock.close()


class Clients:
    """Clients that ask over connections they keep, as programs do; every answer and every failure is counted."""

    def __init__(self, server: LocalServer, count: int = 8) -> None:
        self.server, self.count = server, count
        self.answered, self.failed, self.other = 0, [], []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        bound = self.answered + count
        wait_until(lambda: self.answered > bound, 60)

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        headers = {"Authorization": f"Bearer {self.server.key}", "Content-Type": "application/json"}
        while not self._stop.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
            try:
                connection.request("POST", PATH, BODY, headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failed.append((time.monotonic(), repr(error)))
                connection.close()
                connection = None
                continue
            with self._lock:
                if response.status == 200:
                    self.answered += 1
                else:
                    self.other.append(response.status)
            if response.will_close:
                connection.close()
                connection = None
            self._stop.wait(0.002)  # hundreds of calls a second, and processors for those who start
        if connection is not None:
            connection.close()


def test_a_reload_under_load_fails_no_request(web: LocalServer) -> None:
    with Clients(web) as clients:
        clients.wait_for_more(200)
        for _ in range(3):
            old = set(web.web_workers())
            os.kill(web.web.pid, signal.SIGHUP)
            wait_until(lambda old=old: len(set(web.web_workers()) - old) >= 2 and not old & set(web.web_workers()), 40)
            clients.wait_for_more(100)
    assert (clients.failed, clients.other) == ([], [])


def test_a_reload_leaves_nobody_waiting_for_the_new_processes_to_start(web: LocalServer) -> None:
    old, longest = set(web.web_workers()), 0.0
    os.kill(web.web.pid, signal.SIGHUP)
    reload_begun = time.monotonic()
    while old & set(web.web_workers()):
        assert time.monotonic() < reload_begun + 60
        begun = time.monotonic()
        assert web.predict()["status"] == 200
        longest = max(longest, time.monotonic() - begun)
    assert longest < max(
        1.5 * patience() / 2, (time.monotonic() - reload_begun) / 3
    )  # a process takes longer than that to start


def test_old_workers_are_relieved_by_the_first_of_their_successors_only() -> None:
    succession = Succession()
    succession.listens(1)
    succession.listens(2)
    assert not succession.awaited(1)  # nobody reloads: whoever is told to end ends
    succession.begin(3)
    assert succession.awaited(1)
    assert succession.awaited(2)
    assert not succession.awaited(3)
    succession.listens(4)
    assert not succession.awaited(1)


def test_one_worker_killed_takes_only_its_own_requests_with_it(web: LocalServer) -> None:
    with Clients(web) as clients:
        clients.wait_for_more(200)
        victim = web.web_workers()[0]
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        clients.wait_for_more(300)
        wait_until(lambda: len(web.web_workers()) == 2, 20)
    assert clients.other == []
    assert len(clients.failed) <= clients.count, clients.failed
    assert all(at - killed < 2 * patience() for at, _ in clients.failed)


def test_the_end_does_not_wait_for_idle_connections(web: LocalServer) -> None:
    server = web.twin()
    server.start_web()
    with _connect(server) as idle:
        idle.sendall(_head(server) + BODY)
        assert _answers(idle, 1)[0].startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        server.kill_web(signal.SIGTERM)
        assert time.monotonic() - began < 5 * patience()
        assert idle.recv(100) == b""


def test_nobody_waits_for_the_headers_for_ever(web: LocalServer) -> None:
    server = web.twin()
    server.environment = {**web.environment, "SLIPWAY_WEB_PROCESSES": "1", "GUNICORN_CMD_ARGS": "--keep-alive 1"}
    server.start_web()
    try:
        with _connect(server) as silent, _connect(server) as dripping:
            dripping.sendall(b"POST / HTTP/1.1\r\nHost: loc")
            assert silent.recv(10) == b""
            assert dripping.recv(10) == b""
    finally:
        server.kill_web(signal.SIGTERM)


ISSUE_OR_REVOKE = """
import django, sys
django.setup()
from accounts import keys
from accounts.models import ApiKey, Organization, User
from accounts.roles import Role
from mlops.core import clock
if len(sys.argv) > 1:
    ApiKey.objects.filter(prefix=sys.argv[1].split("_")[2]).update(revoked_at=clock.now())
else:
    acme, dan = Organization.objects.get(slug="acme"), User.objects.get(email="dan@acme.test")
    print(keys.issue(acme, name="n", scopes=["predict"], role=Role.DEVELOPER, created_by=dan)[1])
"""


def test_a_revoked_key_is_refused_by_every_process_within_five_seconds(web: LocalServer) -> None:
    """Under steady calls, so that both processes hold the key in memory the whole time."""
    server = web.twin()
    server.port, server.key = web.port, web.python(ISSUE_OR_REVOKE).strip().splitlines()[-1]
    with Clients(server, 6) as clients:
        clients.wait_for_more(300)
        web.python(ISSUE_OR_REVOKE, server.key)
        revoked = time.monotonic()
        wait_until(lambda: clients.other, 10)
        wait_until(lambda: time.monotonic() - revoked > 5, 10)
        answered = clients.answered
        refused = len(clients.other)
        wait_until(lambda: len(clients.other) > refused + 50, 10)
        assert clients.answered == answered
    assert set(clients.other) == {401}


def test_too_many_connections_are_told_to_come_back(web: LocalServer) -> None:
    server = web.twin()
    server.environment = {
        **web.environment,
        "SLIPWAY_WEB_PROCESSES": "1",
        "GUNICORN_CMD_ARGS": "--worker-connections 5",
    }
    server.start_web()
    try:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(_connect(server)) for _ in range(5)]
            for sock in held:
                sock.sendall(_head(server) + BODY)
                assert _answers(sock, 1)[0].startswith(b"HTTP/1.1 200")
            with _connect(server) as sock:
                assert sock.recv(100).startswith(b"HTTP/1.1 503")
        wait_until(lambda: server.request("GET", "/healthz")[0] == 200, 10)
    finally:
        server.kill_web(signal.SIGTERM)


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_a_large_upload_does_not_pass_through_memory(web: LocalServer) -> None:
    """300 MB that the key may not send: they are read piece by piece or not at all."""
    server = web.twin()
    server.environment = {**web.environment, "SLIPWAY_WEB_PROCESSES": "1"}
    server.start_web()
    try:
        (worker,) = server.web_workers()
        before = _resident_kib(worker)
        boundary = "b0undary"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\n'.encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        size = 300 << 20
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=100)
        connection.putrequest("POST", "/api/v1/acme/models/iris/versions")
        connection.putheader("Authorization", f"Bearer {server.key}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(len(head) + size + len(tail)))
        connection.endheaders()
        connection.send(head)
        for _ in range(size >> 20):
            connection.send(bytes(1 << 20))
        connection.send(tail)
        response = connection.getresponse()
        assert response.status < 500, response.read()
        assert _resident_kib(worker) - before < 60 << 10
    finally:
        server.kill_web(signal.SIGTERM)
