"""Real receivers on loopback, and names that lead to them: what a channel sends is recorded as it came over the wire."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from mlops.core import outbound
from tests.core.test_outbound import Answer, say, serving

SERVICES = (
    "hooks.slack.com", "discord.com", "events.pagerduty.com", "events.eu.pagerduty.com", "prod-7.westeurope.logic.azure.com", "ntfy.sh",
)  # fmt: skip
Asked = list[tuple[str, dict[str, str], bytes]]


@contextlib.contextmanager
def receiving(*answers: Answer) -> Iterator[tuple[str, Asked]]:
    """``http://host:port`` of a server that gives these answers in turn (the last one again and again), and what it was asked."""
    left = list(answers or [say(200)])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    with serving(answer) as (place, asked):
        yield f"http://{place}", asked


def certificate(folder: Path, names: tuple[str, ...] = SERVICES) -> tuple[Path, Path]:
    """A certificate for these names and its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    alternatives = ",".join([f"DNS:{name}" for name in names] + ["IP:127.0.0.1"])
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=slipway test"]
    made = [*words, "-addext", f"subjectAltName={alternatives}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    return cert, key


class Internet:
    """The services' names lead to one TLS server on loopback: names are looked up, addresses checked, TLS spoken, as outside."""

    def __init__(self, asked: Asked, answers: list[Answer]) -> None:
        self.asked, self.answers = asked, answers
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []

    def hosts(self) -> list[str]:
        return [headers["Host"] for _, headers, _ in self.asked]


@pytest.fixture
def internet(monkeypatch: Any, settings: Any, tmp_path: Path) -> Iterator[Internet]:
    cert, key = certificate(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(cert, key)
    client_side = ssl.create_default_context(cafile=str(cert))
    answers: list[Answer] = [say(200, b"ok")]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (answers.pop(0) if len(answers) > 1 else answers[0])(handler)

    with serving(answer, server_side) as (place, asked):
        net = Internet(asked, answers)
        port, connect, look_up = int(place.split(":")[1]), socket.create_connection, socket.getaddrinfo

        def names(host: str, *more: Any, **options: Any) -> list[Any]:
            if host not in SERVICES:
                return look_up(host, *more, **options)
            net.looked_up.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

        def to_server(address: tuple[str, int], *more: Any, **options: Any) -> socket.socket:
            net.connected.append(address)
            return connect(("127.0.0.1", port if address[1] == 443 else address[1]), *more, **options)

        monkeypatch.setattr(socket, "getaddrinfo", names)
        monkeypatch.setattr(socket, "create_connection", to_server)
        monkeypatch.setattr(outbound, "_tls", lambda: client_side)
        settings.OUTBOUND_ALLOW = ["127.0.0.0/8"]
        yield net
