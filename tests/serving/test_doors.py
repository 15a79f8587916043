"""Two doors, one answer: every request of a corpus, good and bad, gets the same status, headers and bytes from the fast door as from Django alone.

Real gunicorn twice over one database, one with the door and one without it. Times, ids and what is left of a limit are masked by name.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests import tiny_models
from tests.runner_host import patience
from tests.serving.server import LocalServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROW = [5.1, 3.5, 1.4, 0.2]
GOOD = json.dumps({"inputs": [ROW]}).encode()
PATH = "/api/v1/predict/acme/flowers"

MORE = """
import django, hashlib, json, sys
django.setup()
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from accounts import keys
from accounts.caller import Caller
from accounts.models import Membership, Organization, User
from accounts.roles import Role
from mlops.core import clock
from registry import signing
from registry.models import ModelVersion, Project, RegisteredModel
from serving.models import Deployment
from serving.services import deployments

acme, dan = Organization.objects.get(slug="acme"), User.objects.get(email="dan@acme.test")
globex, mallory = Organization.objects.create(slug="globex", name="Globex"), User.objects.create(email="mallory@globex.test")
Membership.objects.create(organization=globex, user=mallory, role=Role.OWNER)
first = ModelVersion.objects.get()

def version(model, number, path, format_, schema):
    content = open(path, "rb").read()
    row = ModelVersion.objects.create(
        organization=acme, model=model, number=number, file_key=default_storage.save(f"{model.slug}-{number}", ContentFile(content)),
        filename=path.rpartition("/")[2], sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), format=format_,
        framework=format_, schema=schema, example=[[1.0, 2.0, 3.0, 4.0]],
    )
    row.refresh_from_db()
    row.signature = signing.sign_version(row)
    row.status, row.ready_at = "ready", clock.now()
    row.save()
    return row

second = version(first.model, 2, sys.argv[1], "sklearn", first.schema)
caller = Caller(user=dan)
deployments.deploy_version(Deployment.objects.get(name="flowers"), second, caller)
deployments.create_deployment(organization=acme, name="other", version=first, caller=caller)
deployments.stop(deployments.create_deployment(organization=acme, name="stopped", version=first, caller=caller), caller)
for name, path in json.loads(sys.argv[2]).items():
    model = RegisteredModel.objects.create(organization=acme, project=first.model.project, slug=name, name=name, last_number=1)
    schema = {**first.schema, "output": {"task": "other", "classes": None, "probabilities": False}}
    deployments.create_deployment(organization=acme, name=name, version=version(model, 1, path, "sklearn", schema), caller=caller)

def key(name, organization=acme, maker=dan, scopes=("predict",), role=Role.DEVELOPER, **fields):
    return keys.issue(organization, name=name, scopes=list(scopes), role=role, created_by=maker, **fields)

found = {
    "good": key("good")[1], "foreign": key("foreign", globex, mallory, role=Role.OWNER)[1], "reader": key("reader", scopes=("read",))[1],
    "bound": key("bound", deployment="other")[1], "limited": key("limited")[1], "expired": key("expired", expires_at=clock.now())[1],
}
row, found["revoked"] = key("revoked")
row.revoked_at = clock.now()
row.save()
from accounts.models import ApiKey
ApiKey.objects.filter(name="limited").update(calls_per_minute=2)
from accounts import tokens
print(json.dumps(found))
"""


@dataclass
class Request:
    """One request as its bytes. ``fast``: the door must answer it itself once everything is warm; ``times``: ask that often."""

    name: str
    method: str = "POST"
    path: str = PATH
    body: bytes = GOOD
    key: str = "good"
    headers: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    fast: bool = False
    status: int = 0
    times: int = 1
    version: str = "1.1"
    raw: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether the express lane must answer it on a connection where it was answered before."""
        return self.fast and self.version == "1.1" and "Expect" not in self.headers and len(self.body) < 1 << 16

    def bytes(self, keys: dict[str, str]) -> bytes:
        headers = {
            "Host": "127.0.0.1",
            "Authorization": f"Bearer {keys[self.key]}" if self.key else "",
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            "Connection": "close",
            "X-Request-Id": "doors-0001",
        }
        headers |= {name: value.format(**keys) for name, value in self.headers.items()}
        lines = [f"{name}: {value}" for name, value in headers.items() if name not in self.without and value]
        head = "\r\n".join([f"{self.method} {self.path} HTTP/{self.version}", *lines, *self.raw])
        return head.encode("latin-1") + b"\r\n\r\n" + self.body


def _basic(keys: dict[str, str], name: str = "good") -> str:
    return "Basic " + base64.b64encode(f"any:{keys[name]}".encode()).decode()


def _rows(rows: Any) -> bytes:
    return json.dumps({"inputs": rows}).encode()


BAD_BODIES = {
    "not json": b"{not json",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "no inputs": b'{"rows": []}',
    "no rows": _rows([]),
    "an empty row": _rows([{}]),
    "inputs are a number": _rows(7),
    "an unknown column": _rows([{"sepal_length": 1.0, "sepal_wide": 2.0, "petal_length": 1.0, "petal_width": 0.2}]),
    "a wrong type": _rows([[5.1, "wide", 1.4, 0.2]]),
    "too few columns": _rows([[5.1]]),
    "NaN": b'{"inputs": [[NaN, 3.5, 1.4, 0.2]]}',
    "Infinity": b'{"inputs": [[Infinity, 3.5, 1.4, 0.2]]}',
    "1e999": b'{"inputs": [[1e999, 3.5, 1.4, 0.2]]}',
    "null for a value": b'{"inputs": [[null, 3.5, 1.4, 0.2]]}',
    "not utf-8": b'{"inputs": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "very deep": b'{"inputs": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    "blanks": b"   ",
    "two documents": GOOD + GOOD,
}

CORPUS = [
    Request("a good one", fast=True, status=200),
    Request("rows as objects", body=_rows([dict(zip(tiny_models.IRIS, ROW, strict=True))] * 3), fast=True, status=200),
    Request("a hundred rows", body=_rows([ROW] * 100), fast=True, status=200),
    Request("a large body", body=_rows([ROW] * 20_000), fast=True, status=200),
    Request("token", headers={"Authorization": "Token {good}"}, fast=True, status=200),
    Request("bearer in small letters", headers={"Authorization": "bearer  {good}"}, fast=True, status=200),
    Request("x-api-key", key="", headers={"X-API-Key": "{good}"}, fast=True, status=200),
    Request("x-api-key before authorization", headers={"X-API-Key": "{good}", "Authorization": "Bearer sk_live_x"}, fast=True, status=200),
    Request("basic", headers={"Authorization": "basic-of-good"}, fast=True, status=200),
    Request("basic, broken", headers={"Authorization": "Basic ###"}, status=401),
    Request("basic, not ascii", headers={"Authorization": "Basic \xe9"}, status=401),
    Request("no key", key="", status=401),
    Request("an unknown key", headers={"Authorization": "Bearer sk_live_abcdefgh_wrong"}, status=401),
    Request("a key cut short", headers={"Authorization": "Bearer sk_live_"}, status=401),
    Request("a revoked key", key="revoked", status=401),
    Request("an expired key", key="expired", status=401),
    Request("a token that is none", headers={"Authorization": "Bearer eyJ.not.one"}, status=401),
    Request("another scheme", headers={"Authorization": "Digest x"}, status=401),
    Request("a foreign key", key="foreign", fast=True, status=404),
    Request("a key without the scope", key="reader", fast=True, status=403),
    Request("a key of another deployment", key="bound", fast=True, status=403),
    Request("a key of this deployment", key="bound", path="/api/v1/predict/acme/other", fast=True, status=200),
    Request("throttled", key="limited", times=3, status=429),
    Request("no such deployment", path="/api/v1/predict/acme/nothing", status=404),
    Request("no such organisation", path="/api/v1/predict/nobody/flowers", status=404),
    Request("stopped", path="/api/v1/predict/acme/stopped", fast=True, status=503),
    Request("pinned", path=f"{PATH}?version=1", fast=True, status=200),
    Request("pinned by header", headers={"X-Slipway-Version": "1"}, fast=True, status=200),
    Request("pinned to the live one", path=f"{PATH}?version=2", fast=True, status=200),
    Request("pinned to none", path=f"{PATH}?version=77", fast=True, status=404),
    Request("pinned to a word", path=f"{PATH}?version=x", status=404),
    Request("pinned by a header that is a word", headers={"X-Slipway-Version": "first"}, fast=True, status=404),
    Request("pinned to a huge number", path=f"{PATH}?version={'9' * 30}", status=404),
    Request("an empty version", path=f"{PATH}?version=", status=200),
    Request("query before header", path=f"{PATH}?version=1", headers={"X-Slipway-Version": "77"}, fast=True, status=200),
    Request("another query", path=f"{PATH}?a=b", status=200),
    Request("a query of both", path=f"{PATH}?version=1&a=b", status=200),
    Request("a query with percent signs", path=f"{PATH}?vers%69on=1", status=200),
    Request("an empty query", path=f"{PATH}?", fast=True, status=200),
    Request("a query that is not utf-8", path=f"{PATH}?version=%ff", status=404),
    Request("sticky", headers={"X-Slipway-Sticky": "user-7"}, fast=True, status=200),
    Request("sticky, not ascii", headers={"X-Slipway-Sticky": "\xe9t\xe9"}, fast=True, status=200),
    Request("charset", headers={"Content-Type": "application/json; charset=utf-8"}, fast=True, status=200),
    Request("content type in capitals", headers={"Content-Type": "Application/JSON"}, fast=True, status=200),
    Request("csv", headers={"Content-Type": "text/csv"}, status=415),
    Request("no content type", without=("Content-Type",), status=415),
    Request("a form", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=b"a=b", status=415),
    Request("gzip", headers={"Content-Encoding": "gzip"}, status=415),
    Request("identity", headers={"Content-Encoding": "identity"}, status=200),
    Request("an empty body", body=b"", status=400),
    Request("no length", body=b"", without=("Content-Length",), status=400),
    Request("too large", body=b'{"inputs": "' + b"x" * (5 << 20) + b'"}', status=413),
    Request("exactly as large as may be", body=GOOD + b" " * ((5 << 20) - len(GOOD)), fast=True, status=200),
    Request("chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD), headers={"Transfer-Encoding": "chunked"}, without=("Content-Length",), status=200),
    Request("100-continue", headers={"Expect": "100-continue"}, fast=True, status=200),
    Request("idempotency key", headers={"Idempotency-Key": "once-0001"}, times=2, status=200),
    Request("a cookie", headers={"Cookie": "sessionid=x"}, status=200),
    Request("accepts html", headers={"Accept": "text/html"}, fast=True, status=200),
    Request("origin", headers={"Origin": "https://elsewhere.example"}, fast=True, status=200),
    Request("forwarded as https", headers={"X-Forwarded-Proto": "https"}, fast=True, status=200),
    Request("forwarded host", headers={"X-Forwarded-Host": "evil.example"}, status=200),
    Request("method override", headers={"X-HTTP-Method-Override": "DELETE"}, fast=True, status=200),
    Request("no request id", without=("X-Request-Id",), fast=True, status=200),
    Request("a request id that is none", headers={"X-Request-Id": "no spaces!"}, fast=True, status=200),
    Request("a short request id", headers={"X-Request-Id": "short"}, fast=True, status=200),
    Request("an unknown host", headers={"Host": "evil.example"}, status=400),
    Request("a host with a port", headers={"Host": "localhost:8000"}, fast=True, status=200),
    Request("a host that is none", headers={"Host": "a b"}, status=400),
    Request("no host", without=("Host",)),
    Request("http/1.0", version="1.0", fast=True, status=200),
    Request("http/1.0 without a host", version="1.0", without=("Host",)),
    Request("GET", method="GET", body=b"", status=405),
    Request("HEAD", method="HEAD", body=b"", status=405),
    Request("OPTIONS", method="OPTIONS", body=b""),
    Request("PUT", method="PUT", status=405),
    Request("DELETE", method="DELETE", body=b"", status=405),
    Request("a slash at the end", path=f"{PATH}/", status=404),
    Request("two slashes", path="/api/v1/predict//acme/flowers", status=404),
    Request("two slashes at the front", path="//api/v1/predict/acme/flowers", status=404),
    Request("percent signs", path="/api/v1/predict/acme/flo%77ers", status=200),
    Request("a slash in percent signs", path="/api/v1/predict/acme%2Fflowers"),
    Request("a dot", path="/api/v1/predict/acme/./flowers", status=404),
    Request("capitals", path="/api/v1/predict/ACME/flowers", status=404),
    Request("an absolute address", path=f"http://127.0.0.1{PATH}", status=200),
    Request("two content types", raw=["Content-Type: text/csv"]),
    Request("two keys", raw=["X-API-Key: a", "X-API-Key: b"]),
    Request("a header with an underscore", raw=["X_API_Key: a"], fast=True, status=200),
    Request("the schema", method="GET", path=f"{PATH}/schema", body=b"", status=200),
    Request("a model that raises", path="/api/v1/predict/acme/raises", fast=True, status=502),
    Request("a model that answers too many", path="/api/v1/predict/acme/miscounts", fast=True, status=422),
    *(Request(f"body: {name}", body=body, fast=True) for name, body in BAD_BODIES.items()),
]  # fmt: skip


class Doors:
    """Two web servers on one database. ``keys``: by name."""

    def __init__(self, fast: LocalServer, plain: LocalServer, keys: dict[str, str]) -> None:
        self.fast, self.plain, self.keys = fast, plain, keys

    def ask(self, server: LocalServer, request: Request) -> tuple[str, dict[str, list[str]], bytes]:
        """(status line, headers, body) of the answer; the connection is read to its end."""
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            data = request.bytes(self.keys).replace(b"basic-of-good", _basic(self.keys).encode())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read
                sock.sendall(data)
            found = b""
            while piece := sock.recv(1 << 16):
                found += piece
        while found.startswith(b"HTTP/1.1 100"):
            found = found.partition(b"\r\n\r\n")[2]
        head, _, body = found.partition(b"\r\n\r\n")
        return *_parsed(head), body

    def ask_again(self, request: Request) -> list[tuple[str, dict[str, list[str]], bytes]]:
        """The answers of the fast server to the same bytes on one connection that is kept, until the express lane answers.

        More than two while the key is looked up again; where the machine is busy that takes its time.
        """
        answers = []
        until = time.monotonic() + 2 * patience()
        data = replace(request, without=(*request.without, "Connection")).bytes(self.keys)
        data = data.replace(b"basic-of-good", _basic(self.keys).encode())
        with socket.create_connection(("127.0.0.1", self.fast.port), timeout=20) as sock, sock.makefile("rb") as file:
            while len(answers) < 50 or time.monotonic() < until:
                sock.sendall(data)
                head = b"".join(iter(file.readline, b"\r\n"))
                status, headers = _parsed(head.removesuffix(b"\r\n"))
                answers.append((status, headers, file.read(int(headers["content-length"][0]))))
                if headers.get("x-test-door") == ["express"]:
                    break
        return answers


def _parsed(head: bytes) -> tuple[str, dict[str, list[str]]]:
    """Status line and headers."""
    status, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return status, headers


@pytest.fixture(scope="module")
def doors(tiny: dict, runner_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    hostile = tiny_models.hostile(tmp_path_factory.mktemp("hostile"))
    named = {
        "raises": "raise_predict",
        "exits": "exit_predict",
        "sleeps": "sleep_predict",
        "miscounts": "wrong_count_predict",
    }
    with LocalServer(tiny["iris_joblib"], runner_host.socket_path) as fast:
        fast.environment |= {"SLIPWAY_WEB_PROCESSES": "1", "SLIPWAY_MODEL_PREDICT_S": "1", "PYTHONHASHSEED": "0"}
        said = fast.python(
            MORE,
            str(tiny["iris_joblib"].path),
            json.dumps({name: str(hostile[each].path) for name, each in named.items()}),
        )
        keys = json.loads(said.strip().splitlines()[-1])
        plain = fast.twin()
        try:
            fast.start_web("tests.serving.doors_app:fast")
            plain.start_web("tests.serving.doors_app:plain")
            yield Doors(fast, plain, keys)
        finally:
            plain.kill_web()


_IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIMINGS = re.compile(rb'"timings_ms":\{[^}]*\}')
_LEFT = {"date", "ratelimit-remaining", "ratelimit-reset", "retry-after"}


def _masked(answer: tuple[str, dict[str, list[str]], bytes]) -> tuple[Any, ...]:
    status, headers, body = answer
    body = _TIMINGS.sub(b'"timings_ms":{}', _IDS.sub(b"<id>", body))
    shown = {name: ["..."] if name in _LEFT else values for name, values in headers.items() if name != "x-test-door"}
    request_id = shown.get("x-request-id", [""])[0].encode()
    if _IDS.fullmatch(request_id):
        shown["x-request-id"] = ["<id>"]
    if b"<id>" in body or b"timings_ms" in body:
        shown.pop("content-length", None)  # what is masked may be longer or shorter
    return status, {name: sorted(values) for name, values in sorted(shown.items())}, body


@pytest.mark.parametrize("request_", CORPUS, ids=lambda each: each.name)
def test_both_doors_say_the_same(doors: Doors, request_: Request) -> None:
    if request_.fast:
        _warm(doors, request_)
    for _ in range(request_.times):
        plain = doors.ask(doors.plain, request_)
    for _ in range(request_.times):
        fast = doors.ask(doors.fast, request_)
    assert _masked(fast) == _masked(plain)
    if request_.kept:
        kept = doors.ask_again(request_)
        assert kept[-1][1].get("x-test-door") == ["express"], "the express lane did not know this request again"
        for answer in kept:
            answer[1]["connection"] = ["close"]  # as the others asked for
            assert _masked(answer) == _masked(plain)
    if request_.status:
        assert int(fast[0].split()[1]) == request_.status, fast
    assert "content-security-policy" in fast[1] or "x-request-id" not in fast[1]
    if request_.fast:
        assert "x-test-door" not in fast[1], "Django answered what the fast door should"
    if "Content-Length" not in request_.without and "timings_ms" in fast[2].decode("utf-8", "replace"):
        assert int(fast[1]["content-length"][0]) == len(fast[2])


def _warm(doors: Doors, request: Request) -> None:
    """Key, route, version, limits and runner are known on both sides."""
    for server in (doors.fast, doors.plain):
        doors.ask(server, request)
        doors.ask(server, request)


def test_there_are_enough_of_them() -> None:
    assert len(CORPUS) >= 60
    assert sum(request.fast for request in CORPUS) >= 40


@pytest.mark.parametrize(
    ("name", "status", "code"), [("exits", 502, "model_crashed"), ("sleeps", 504, "deadline_exceeded")]
)
def test_a_model_that_dies_or_hangs_is_told_alike(doors: Doors, name: str, status: int, code: str) -> None:
    path = f"/api/v1/predict/acme/{name}"
    told = []
    for server in (doors.plain, doors.fast):
        for _ in range(2):  # refused by the schema: the runner is warm, and unharmed
            refused = doors.ask(server, Request("bad", path=path, body=_rows([["x"]])))
            assert refused[0].split()[1] == "422"
        told.append(doors.ask(server, Request("good", path=path)))
    plain, fast = told
    assert "x-test-door" not in fast[1]
    assert fast[0].split()[1] == str(status), fast
    assert json.loads(fast[2])["code"] == code
    said = re.compile(rb"within [0-9.]+ s")
    assert said.sub(b"", _masked(fast)[2]) == said.sub(b"", _masked(plain)[2])
    assert _masked(fast)[1].keys() == _masked(plain)[1].keys()
