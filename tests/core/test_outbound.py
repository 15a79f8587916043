"""Calls to other people's servers: where they may go, and what a bad server can do to us. Real servers, on loopback."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from mlops.core import env, errors, outbound

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(
    answer: Answer, context: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Its ``host:port``, and what it was asked."""
    asked: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((f"{self.command} {self.path}", dict(self.headers), body))
            with contextlib.suppress(OSError):
                answer(self)

        do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def say(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def code_of(url: str, **more: Any) -> str:
    with pytest.raises(errors.SlipwayError) as raised:
        outbound.call(more.pop("method", "GET"), url, **more)
    assert raised.value.hint
    return raised.value.code


# -- where we may go ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "172.31.255.255",
        "192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255", "168.63.129.16", "203.0.113.9",
        "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "3fff::1", "fec0::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not outbound.is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(errors.Invalid) as raised:
        outbound.check(f"https://{host}/x")
    assert raised.value.code == "address_refused"


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "140.82.121.3", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_public_addresses_are_taken(address: str) -> None:
    assert outbound.is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    assert outbound.check(f"https://{host}/x?y=1").path == "/x?y=1"


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/", "https://1.2.3.4.5/",
        "https://user@example.com/", "https://user:pass@example.com/", "https://example.com\\@evil.test/", "https://exa mple.com/",
        "https://example.com/\r\nHost: x", "https://example.com:0/", "https://example.com:99999/", "https:///x", "ftp://example.com/",
        "//example.com/", "https://ex%61mple.com/", "https://[::1%25lo]/", "https://-x.example.com/", "https://example.com#x", "javascript:1", "https://example.com./",
    ],
)  # fmt: skip
def test_addresses_that_two_parsers_could_read_in_two_ways_are_refused(url: str) -> None:
    with pytest.raises(errors.Invalid) as raised:
        outbound.check(url)
    assert raised.value.code == "url_invalid"


def test_http_is_for_servers_the_administrator_has_named(settings: Any) -> None:
    with serving(say(200)) as (place, asked):
        assert code_of(f"http://{place}/") == "https_only"
        for allowed in (place, "127.0.0.0/8"):
            settings.OUTBOUND_ALLOW = [allowed]
            assert outbound.call("GET", f"http://{place}/").status == 200
        settings.OUTBOUND_ALLOW = [f"127.0.0.1:{int(place.split(':')[1]) ^ 1}", "10.0.0.0/8"]
        assert code_of(f"http://{place}/") == "https_only"
        assert code_of(f"https://{place}/") == "address_refused"
        assert len(asked) == 2


@pytest.mark.parametrize(
    ("found", "good"),
    [
        (["93.184.216.34"], True),
        (["93.184.216.34", "10.0.0.1"], False),
        (["127.0.0.1"], False),
        (["::1"], False),
        ([], False),
    ],
)
def test_every_address_of_a_name_must_be_public(monkeypatch: Any, found: list[str], good: bool) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: [(0, 0, 0, "", (each, 443)) for each in found])
    if good:
        assert [str(each) for each in outbound.check("https://git.example.test/x").addresses] == found
        return
    with pytest.raises(errors.Invalid) as raised:
        outbound.check("https://git.example.test/x")
    assert raised.value.code == "address_refused"


def test_a_name_that_changes_its_mind_is_asked_once(monkeypatch: Any, settings: Any) -> None:
    looked_up: list[str] = []

    def answers(host: str, *args: Any, **more: Any) -> list[Any]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(looked_up) == 1 else "127.0.0.2", 0))]

    with serving(say(200)) as (place, asked):
        port = place.split(":")[1]
        settings.OUTBOUND_ALLOW = [f"forge.example.test:{port}"]
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *a, **k: real(host, *a, **k) if host[0].isdigit() else answers(host)
        )
        assert outbound.call("GET", f"http://forge.example.test:{port}/x").status == 200
    assert looked_up == ["forge.example.test"]
    assert asked[0][1]["Host"] == f"forge.example.test:{port}"


@pytest.mark.parametrize("text", ["example.com", "http://example.com:80", "10.0.0.0/40", "a b:1", "[::1]"])
def test_a_wrong_exception_stops_the_start(monkeypatch: Any, text: str) -> None:
    monkeypatch.setenv("SLIPWAY_OUTBOUND_ALLOW", f"forge.internal:8443,{text}")
    with pytest.raises(ImproperlyConfigured, match="SLIPWAY_OUTBOUND_ALLOW"):
        env.places("SLIPWAY_OUTBOUND_ALLOW")
    monkeypatch.setenv("SLIPWAY_OUTBOUND_ALLOW", "forge.internal:8443, 10.0.0.0/8, [::1]:9, fd00::/8")
    assert env.places("SLIPWAY_OUTBOUND_ALLOW") == ["forge.internal:8443", "10.0.0.0/8", "[::1]:9", "fd00::/8"]


# -- asking ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def loopback(settings: Any) -> None:
    settings.OUTBOUND_ALLOW = ["127.0.0.0/8"]


def test_a_call_carries_what_it_is_given_and_nothing_of_ours(loopback: None, monkeypatch: Any) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(say(201, b'{"id": 7}', ETag="x")) as (place, asked):
        reply = outbound.call("POST", f"http://{place}/a?b=c", headers={"Authorization": "Bearer t"}, json={"a": 1})
    assert (reply.status, reply.json(), reply.headers["etag"]) == (201, {"id": 7}, "x")
    what, headers, body = asked[0]
    assert (what, body, headers["Authorization"]) == ("POST /a?b=c", b'{"a":1}', "Bearer t")
    assert "Cookie" not in headers


def test_a_redirect_is_not_followed(loopback: None) -> None:
    with serving(say(200)) as (other, never), serving(say(302, Location=f"http://{other}/")) as (place, asked):
        assert code_of(f"http://{place}/") == "outbound_redirect"
    assert (len(asked), never) == (1, [])


def test_safe_calls_are_tried_again_and_others_are_not(loopback: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbound, "_BACKOFF_S", 0.01)
    left = [503, 502]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        say(left.pop() if left else 200)(handler)

    with serving(answer) as (place, asked):
        assert outbound.call("GET", f"http://{place}/").status == 200
        assert len(asked) == 3
        left[:] = [503]
        assert outbound.call("POST", f"http://{place}/", json={}).status == 503
        assert len(asked) == 4
        left[:] = [504, 504, 504, 504]
        assert outbound.call("POST", f"http://{place}/", json={}, safe=True).status == 504
        assert len(asked) == 7
        left[:] = [500]
        assert outbound.call("GET", f"http://{place}/").status == 500
        assert len(asked) == 8


def test_an_answer_is_bounded(loopback: None) -> None:
    with serving(say(200, b"x" * 5000)) as (place, _):
        assert len(outbound.call("GET", f"http://{place}/", limit_bytes=5000).body) == 5000
        assert code_of(f"http://{place}/", limit_bytes=4999) == "outbound_too_large"
        assert outbound.call("GET", f"http://{place}/", limit_bytes=4999, cut=True).body == b"x" * 4999


def test_an_endless_answer_is_bounded(loopback: None) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"400\r\n" + b"x" * 1024 + b"\r\n")

    with serving(endless) as (place, _):
        assert code_of(f"http://{place}/", limit_bytes=100_000) == "outbound_too_large"


@pytest.mark.parametrize("what", ["head", "body", "silence"])
def test_a_server_that_keeps_us_waiting_is_left(loopback: None, what: str) -> None:
    """A byte now and then never runs into a socket's own timeout: the whole call has one."""
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        if what == "body":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
        while not stop.wait(0.05):
            if what != "silence":
                handler.wfile.write(b"x")
                handler.wfile.flush()

    with serving(drip) as (place, _):
        try:
            assert code_of(f"http://{place}/", timeout_s=0.5) == "outbound_timeout"
        finally:
            stop.set()


def test_what_breaks_off_or_is_no_http_is_told(loopback: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbound, "_BACKOFF_S", 0.01)

    def short(handler: BaseHTTPRequestHandler) -> None:
        say(200, b"x", **{"Content-Length": "10"})(handler)
        handler.close_connection = True

    def garbage(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        handler.close_connection = True

    for answer in (short, garbage):
        with serving(answer) as (place, _):
            assert code_of(f"http://{place}/", method="POST") == "outbound_broken"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert code_of(f"http://127.0.0.1:{closed.getsockname()[1]}/") == "unreachable"
    with serving(say(200, b"<html>")) as (place, _), pytest.raises(outbound.OutboundError):
        outbound.call("GET", f"http://{place}/").json()


def test_a_certificate_must_be_good(loopback: None, tmp_path: Path) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made = [
        *words,
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        tmp_path / "key.pem",
        "-out",
        tmp_path / "cert.pem",
    ]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with serving(say(200), context) as (place, asked):
        assert code_of(f"https://{place}/") == "tls_failed"
    assert asked == []
    with serving(say(200)) as (place, _):
        assert code_of(f"https://{place}/") == "tls_failed"


def test_a_large_body_is_streamed_within_its_limit(loopback: None) -> None:
    content = bytes(range(256)) * 4000
    with serving(say(200, content)) as (place, _):
        with outbound.stream(f"http://{place}/", timeout_s=20, limit_bytes=len(content)) as chunks:
            assert b"".join(chunks) == content
        with (
            pytest.raises(outbound.OutboundError, match="more than"),
            outbound.stream(f"http://{place}/", timeout_s=20, limit_bytes=len(content) - 1) as chunks,
        ):
            b"".join(chunks)
    with (
        serving(say(404)) as (place, _),
        pytest.raises(outbound.OutboundError, match="404"),
        outbound.stream(f"http://{place}/", timeout_s=20, limit_bytes=9),
    ):
        pass
