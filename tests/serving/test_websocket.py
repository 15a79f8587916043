"""Predictions over a WebSocket, with a real client against a real server: the key's two ways in, order, ids, refusals, limits, ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.runner_host import patience, wait_until
from tests.serving.server import PATH, ROW, LocalServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
GOOD = json.dumps({"inputs": [ROW]})

REVOKE = """
import django, sys
django.setup()
from accounts import keys
from accounts.models import ApiKey, Organization, User
from accounts.roles import Role
from mlops.core import clock
if sys.argv[1] == "make":
    maker = User.objects.get(email="dan@acme.test")
    fields = {"deployment": sys.argv[3]} if len(sys.argv) > 3 else {}
    row, key = keys.issue(Organization.objects.get(slug="acme"), name="n", scopes=[sys.argv[2]], role=Role.DEVELOPER, created_by=maker, **fields)
    print(key)
else:
    ApiKey.objects.filter(prefix=sys.argv[2].split("_")[2]).update(revoked_at=clock.now())
"""


@pytest.fixture(scope="module")
def web(tiny: dict, runner_host: Any) -> Iterator[LocalServer]:
    with LocalServer(tiny["iris_joblib"], runner_host.socket_path) as server:
        server.environment["SLIPWAY_PREDICT_RATE"] = "100000"
        server.start_web()
        for _ in range(20):
            assert server.predict()["status"] == 200
        yield server


def _key(server: LocalServer, scope: str = "predict", *more: str) -> str:
    return server.python(REVOKE, "make", scope, *more).strip().splitlines()[-1]


def _open(server: LocalServer, key: str | None = None, path: str = f"{PATH}/ws", **options: Any) -> ClientConnection:
    headers = {} if key == "" else {"Authorization": f"Bearer {key or server.key}"}
    return connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers, open_timeout=15, **options)


def _ask(socket: ClientConnection, message: Any) -> dict[str, Any]:
    socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
    return json.loads(socket.recv(timeout=15))


def test_a_message_in_and_an_answer_out(web: LocalServer) -> None:
    with _open(web) as socket:
        for _ in range(3):
            answer = _ask(socket, {"inputs": [ROW]})
            assert answer["predictions"] == [0]
            assert answer["model"] == {"name": "iris", "version": 1}
            assert "id" not in answer
        assert _ask(socket, GOOD.encode())["predictions"] == [0]


def test_answers_come_in_the_order_of_the_questions_with_their_ids(web: LocalServer) -> None:
    with _open(web) as socket:
        for number in range(100):
            socket.send(json.dumps({"id": number, "inputs": [ROW] * (1 + number % 7)}))
        found = [json.loads(socket.recv(timeout=15)) for _ in range(100)]
    assert [answer["id"] for answer in found] == list(range(100))
    assert [len(answer["predictions"]) for answer in found] == [1 + number % 7 for number in range(100)]


def test_a_browser_brings_its_key_in_the_first_message(web: LocalServer) -> None:
    with _open(web, key="", origin="https://shop.example") as socket:
        assert _ask(socket, {"key": web.key}) == {"ready": True}
        assert _ask(socket, {"id": "a", "inputs": [ROW]})["id"] == "a"


@pytest.mark.parametrize(
    "first", ['{"key": "sk_live_abcdefgh_wrong"}', '{"inputs": []}', "no json", "[]", '{"key": 7}']
)
def test_a_first_message_without_a_good_key_is_the_last(web: LocalServer, first: str) -> None:
    with _open(web, key="") as socket:
        answer = _ask(socket, first)
        assert answer["status"] == 401
        assert answer["hint"]
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=15)
        assert ended.value.rcvd.code == 4401


def test_a_handshake_is_refused_with_the_reason(web: LocalServer) -> None:
    refusals = {
        401: {"key": "sk_live_abcdefgh_wrong"},
        404: {"path": "/api/v1/predict/acme/nothing/ws"},
        403: {"key": _key(web, "read")},
    }
    for status, options in refusals.items():
        with pytest.raises(InvalidStatus) as refused:
            _open(web, **options)
        response = refused.value.response
        assert response.status_code == status
        assert json.loads(response.body)["status"] == status
        assert response.headers["Content-Type"] == "application/problem+json"
    with pytest.raises(InvalidStatus) as refused:
        _open(web, path="/accounts/login/")
    assert refused.value.response.status_code == 404
    with pytest.raises(InvalidStatus) as refused:
        _open(web, key=_key(web, "predict", "another"))
    assert json.loads(refused.value.response.body)["code"] == "key_bound"


def test_an_address_without_an_upgrade_is_none(web: LocalServer) -> None:
    status, _ = web.request("GET", f"{PATH}/ws", headers={"Authorization": f"Bearer {web.key}"})
    assert status == 404


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("{not json", 400, "invalid_json"),
        ("", 400, "invalid_json"),
        ("[]", 400, "invalid_request"),
        ('{"id": 5, "rows": []}', 400, "inputs_missing"),
        ('{"id": 5, "inputs": [[5.1, "wide", 1.4, 0.2]]}', 422, ""),
        ('{"id": {"a": 1}, "inputs": [[5.1, 3.5, 1.4, 0.2]]}', 400, "invalid_id"),
        ('{"id": "' + "x" * 200 + '", "inputs": [[5.1, 3.5, 1.4, 0.2]]}', 400, "invalid_id"),
    ],
)
def test_a_bad_message_gets_its_problem_and_the_conversation_goes_on(
    web: LocalServer, message: str, status: int, code: str
) -> None:
    with _open(web) as socket:
        problem = _ask(socket, message)
        assert problem["status"] == status, problem
        assert problem["code"] == (code or problem["code"])
        assert problem["detail"]
        if '"id": 5' in message:
            assert problem["id"] == 5
        assert _ask(socket, {"inputs": [ROW]})["predictions"] == [0]


def test_a_message_may_come_in_pieces_but_not_be_too_large(web: LocalServer) -> None:
    with _open(web) as socket:
        socket.send(iter([GOOD[:5], GOOD[5:10], GOOD[10:]]))
        assert json.loads(socket.recv(timeout=15))["predictions"] == [0]
        large = json.dumps({"inputs": [ROW] * 10_000})
        assert len(_ask(socket, large)["predictions"]) == 10_000
        with pytest.raises(ConnectionClosed) as ended:
            _ask(socket, '{"inputs": "' + "x" * (1 << 20) + '"}')
        assert ended.value.rcvd.code == 1009


@pytest.mark.parametrize("size", [(5 << 20) - 100, 6 << 20, 40 << 20])
def test_a_message_of_any_size_over_the_limit_ends_with_the_reason(web: LocalServer, size: int) -> None:
    with _open(web) as socket:
        with contextlib.suppress(ConnectionClosed):
            socket.send("x" * size)
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=15)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1009
    assert "A message may have" in ended.value.rcvd.reason


def test_pieces_that_are_too_large_together_end_with_the_reason(web: LocalServer) -> None:
    with _open(web) as socket:
        with contextlib.suppress(ConnectionClosed):
            socket.send("x" * (1 << 20) for _ in range(8))
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=15)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1009


@pytest.mark.parametrize(("piece", "count"), [("x" * 125, 9_000), ("", 9_000)])
def test_many_small_pieces_are_too_large_too(web: LocalServer, piece: str, count: int) -> None:
    """By their bytes or by their number: a message that never ends is not collected for ever."""
    with _open(web) as socket:
        with contextlib.suppress(ConnectionClosed):
            socket.send(piece for _ in range(count))
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=15)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1009


def test_nothing_follows_the_close_frame(web: LocalServer) -> None:
    """Questions under way when a message is refused for its size are answered to nobody."""
    with _open(web) as socket:
        for _ in range(5):
            socket.send(GOOD)
        with contextlib.suppress(ConnectionClosed):
            socket.send("x" * (2 << 20))
        with pytest.raises(ConnectionClosed) as ended:
            list(iter(lambda: socket.recv(timeout=15), None))
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1009


def test_each_message_is_logged_and_counted(web: LocalServer) -> None:
    web.manage("ship_predictions", "--once")
    before = web.query("SELECT COUNT(*) FROM serving_predictionlog")[0][0]
    with _open(web) as socket:
        answers = [_ask(socket, {"inputs": [ROW] * 2}) for _ in range(5)]
        assert _ask(socket, {"rows": 1})["status"] == 400
    web.manage("ship_predictions", "--once")
    assert web.query("SELECT COUNT(*) FROM serving_predictionlog")[0][0] == before + 11
    ids = {each.replace("-", "") for answer in answers for each in answer["prediction_ids"]}
    assert ids <= {row[0] for row in web.query("SELECT id FROM serving_predictionlog")}
    requests = {row[0] for row in web.query("SELECT request_id FROM serving_predictionlog ORDER BY id DESC LIMIT 11")}
    assert len(requests) == 6


def test_messages_are_throttled_one_by_one(web: LocalServer) -> None:
    key = _key(web)
    with _open(web, key=key) as socket:
        web.python(
            "import django; django.setup()\nfrom accounts.models import ApiKey\nimport sys\n"
            "ApiKey.objects.filter(prefix=sys.argv[1].split('_')[2]).update(calls_per_minute=3)",
            key,
        )
        found: list[int] = []

        def throttled() -> bool:
            found.append(_ask(socket, {"id": 1, "inputs": [ROW]}).get("status", 200))
            return found[-1] == 429

        wait_until(throttled, 15, every_s=0.2)
        socket.send(GOOD)
        assert json.loads(socket.recv(timeout=15))["code"] == "rate_limited"


def test_a_revoked_key_ends_the_conversation_within_five_seconds(web: LocalServer) -> None:
    key = _key(web)
    with _open(web, key=key) as silent, _open(web, key=key) as busy:
        assert _ask(busy, {"inputs": [ROW]})["predictions"]
        web.python(REVOKE, "revoke", key)
        revoked = time.monotonic()
        with pytest.raises(ConnectionClosed) as ended:
            wait_until(lambda: _ask(busy, {"inputs": [ROW]}).get("never"), 10, every_s=0.05)
        assert ended.value.rcvd.code == 4401
        assert time.monotonic() - revoked < 5 * patience()
        with pytest.raises(ConnectionClosed) as ended:
            silent.recv(timeout=7 * patience())
        assert ended.value.rcvd.code == 4401
        assert time.monotonic() - revoked < 7 * patience()


def test_the_client_may_ping(web: LocalServer) -> None:
    with _open(web) as socket:
        assert socket.ping().wait(10)


def test_a_client_that_leaves_with_questions_open_harms_nobody(web: LocalServer) -> None:
    socket = _open(web)
    for number in range(30):
        socket.send(json.dumps({"id": number, "inputs": [ROW]}))
    socket.socket.close()
    with _open(web) as other:
        assert _ask(other, {"inputs": [ROW]})["predictions"] == [0]


def test_a_reload_ends_conversations_politely(web: LocalServer) -> None:
    with _open(web) as socket:
        assert _ask(socket, {"inputs": [ROW]})["predictions"]
        os.kill(web.web.pid, signal.SIGHUP)
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=10 * patience())
        assert ended.value.rcvd.code == 1012
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(_open(web))
        assert _ask(socket, {"inputs": [ROW]})["predictions"] == [0]
