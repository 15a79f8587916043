"""The express lane among everything else that a connection may carry. That it answers as the doors do: test_doors.py."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from accounts import keys
from accounts.caller import Caller
from serving.express import Express
from tests.serving.server import LocalServer
from tests.serving.test_web_worker import BODY, _connect, _head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def web(tiny: dict, runner_host: Any) -> Iterator[LocalServer]:
    with LocalServer(tiny["iris_joblib"], runner_host.socket_path) as server:
        server.environment |= {"SLIPWAY_WEB_PROCESSES": "1", "GUNICORN_CMD_ARGS": "--keep-alive 2"}
        server.start_web("tests.serving.doors_app:fast")
        assert server.predict()["status"] == 200
        yield server


class Connection:
    """One kept connection. ``answer`` reads the next answer: its status, and which door gave it."""

    def __init__(self, server: LocalServer) -> None:
        self.sock = _connect(server)
        self._file = self.sock.makefile("rb")

    def answer(self) -> tuple[int, str]:
        status, door, length = int(self._file.readline().split()[1]), "door", 0
        while line := self._file.readline().strip().lower():
            name, _, value = line.partition(b": ")
            length = int(value) if name == b"content-length" else length
            door = value.decode() if name == b"x-test-door" else door
        self._file.read(length)
        return status, door

    def ask(self, *pieces: bytes) -> tuple[int, str]:
        for piece in pieces:
            self.sock.sendall(piece)
        return self.answer()

    def warm(self, request: bytes) -> None:
        """Until the lane knows the head."""
        for _ in range(50):
            if self.ask(request) == (200, "express"):
                return
        raise AssertionError("the express lane never took it")


@pytest.fixture
def line(web: LocalServer) -> Iterator[Connection]:
    connection = Connection(web)
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.warm(_head(web) + BODY)
    yield connection
    connection.sock.close()


def test_other_requests_come_between(web: LocalServer, line: Connection) -> None:
    known, other = _head(web) + BODY, _head(web, more="X-Other: 1\r\n") + BODY
    for request, door in (
        (HEALTH, "django"),
        (known, "express"),
        (other, "door"),
        (other, "express"),
        (HEALTH, "django"),
    ):
        status, by = line.ask(request)
        assert status == 200
        assert by in (door, "door")  # the door's, while the key is looked up again


def test_a_request_in_pieces_is_put_together(web: LocalServer, line: Connection) -> None:
    request = _head(web) + BODY
    for cut in (1, 10, len(request) - len(BODY), len(request) - 1):
        line.sock.sendall(request[:cut])
        assert web.predict()["status"] == 200  # time enough for the piece to arrive alone
        line.sock.sendall(request[cut:])
        assert line.answer()[0] == 200
    line.warm(request)


def test_requests_that_come_together_are_answered_in_order(web: LocalServer, line: Connection) -> None:
    known, none = _head(web) + BODY, _head(web, length=2) + b"[]"
    line.sock.sendall(known + none + known + HEALTH + none)
    assert [line.answer()[0] for _ in range(5)] == [200, 400, 200, 200, 400]
    for request in (known, none, known, HEALTH, known[:20], known[20:]):  # while the first is being answered
        line.sock.sendall(request)
    assert [line.answer()[0] for _ in range(5)] == [200, 400, 200, 200, 200]


def test_refusals_take_the_lane_too(web: LocalServer, line: Connection) -> None:
    wrong = _head(web, length=2) + b"[]"
    assert line.ask(wrong)[0] == 400
    assert [line.ask(wrong)[0] for _ in range(3)] == [400] * 3
    line.warm(_head(web) + BODY)


def test_a_connection_in_use_outlives_the_idle_time_and_an_idle_one_does_not(
    web: LocalServer, line: Connection
) -> None:
    """Two seconds here, counted from the last answer."""
    began = time.monotonic()
    while time.monotonic() - began < 3:
        assert line.ask(_head(web) + BODY)[0] == 200
    assert line.sock.recv(10) == b""


def test_a_request_that_no_parser_takes_harms_its_own_connection_only(web: LocalServer, line: Connection) -> None:
    """It comes while the lane answers, and is read when the answer came: on the runner's line stand others, too."""
    poison = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n"
    with _connect(web) as alone:
        alone.sendall(poison)
        assert alone.recv(100).startswith(b"HTTP/1.1 400")
    for _ in range(20):
        bad = Connection(web)
        bad.warm(_head(web) + BODY)
        others = [_head(web) + BODY] * 3
        bad.sock.sendall(_head(web) + BODY)
        bad.sock.sendall(poison)
        for request in others:
            assert line.ask(request)[0] == 200
        assert bad.answer()[0] == 200
        assert bad.answer()[0] == 400
        bad.sock.close()


def test_a_client_that_leaves_disturbs_nobody(web: LocalServer) -> None:
    for _ in range(20):
        leaving = Connection(web)
        leaving.warm(_head(web) + BODY)
        leaving.sock.sendall(_head(web) + BODY)
        leaving.sock.close()
    assert web.predict()["status"] == 200


# -- what is remembered ------------------------------------------------------------------------------------------------------


class _Door:
    """As much of a door as ``remember`` asks for."""

    added: dict[bool, list[tuple[bytes, bytes]]] = {False: [], True: []}  # noqa: RUF012
    asked = None

    def __init__(self) -> None:
        from serving.heads import Heads

        self.heads = Heads()


KEY = "sk_live_abcdefgh_not-a-real-one"


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is one that this process has just checked."""
    monkeypatch.setattr(keys, "peek_again", lambda digest: Caller())


def _request(more: bytes = b"", body: bytes = b"[]") -> bytes:
    head = b"POST /api/v1/predict/acme/flowers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + KEY.encode()
    return head + b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n" + more + b"\r\n" + body


def _scope(request: bytes, version: str = "1.1") -> dict[str, Any]:
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    return {"method": "POST", "raw_path": b"/api/v1/predict/acme/flowers", "query_string": b"", "scheme": "http",
            "http_version": version, "headers": headers}  # fmt: skip


def _known(request: bytes, **scope: str) -> int:
    lane = Express(_Door())  # type: ignore[arg-type]
    lane.remember(b"peer", request, _scope(request, **scope))
    return len(lane._plans)


def test_a_common_head_is_remembered_without_its_key(good: None) -> None:
    lane = Express(_Door())  # type: ignore[arg-type]
    lane.remember(b"peer", _request(), _scope(_request()))
    ((name, plan),) = lane._plans.items()
    assert KEY not in repr((name, plan))
    assert plan.key == keys.digest_of(KEY)
    assert plan.head.organization == "acme"


@pytest.mark.parametrize(
    "request_",
    [
        _request(b"Expect: 100-continue\r\n"),
        _request(b"Cookie: a=b\r\n"),
        _request(b"Idempotency-Key: 1\r\n"),
        _request(b"Transfer-Encoding: chunked\r\n"),
        _request(b"X-Long: " + b"a" * 5000 + b"\r\n"),
        _request(body=b"[] "),
        _request(body=b"["),
        _request().replace(b"Host: localhost", b"Host: evil.example"),
    ],
)
def test_an_uncommon_one_is_not(good: None, request_: bytes) -> None:
    assert _known(request_) == 0


def test_nor_one_of_http_1_0(good: None) -> None:
    assert _known(_request()) == 1
    assert _known(_request(), version="1.0") == 0


def test_nor_one_of_a_caller_who_is_not_known() -> None:
    assert _known(_request()) == 0


def test_memory_is_bounded(good: None) -> None:
    lane = Express(_Door())  # type: ignore[arg-type]
    for number in range(5000):
        request = _request(b"X-N: %d\r\n" % number)
        lane.remember(b"peer", request, _scope(request))
    assert 0 < len(lane._plans) <= 4096


def test_what_one_peer_may_say_another_may_not(good: None) -> None:
    """The same bytes from a proxy that is trusted and from somebody else are two heads."""
    lane = Express(_Door())  # type: ignore[arg-type]
    lane.remember(b"trusted", _request(), _scope(_request()))
    lane.remember(b"anybody", _request(), _scope(_request()))
    assert len(lane._plans) == 2


# -- what goes wrong ---------------------------------------------------------------------------------------------------------


def test_a_bug_on_the_way_is_told_and_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import predict

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    said = []
    lane = Express(_Door())  # type: ignore[arg-type]
    call = lane._door.heads.read(_scope(_request())).call(Caller())
    ticket = predict.Ticket(call, uuid.uuid4(), 0.0, 0.0)
    monkeypatch.setattr(predict, "finish", broken)
    lane._say(ticket, False, broken, lambda *answer: said.append(answer))  # type: ignore[arg-type]
    ((status, lines, body),) = said
    assert status == 500
    assert b"content-length: %d\r\n" % len(body) in lines
    assert call.request_id.encode() in body
