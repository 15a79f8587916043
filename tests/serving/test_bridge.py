"""Django behind the event loop: what streams streams, who leaves frees the thread, half a body is never a whole one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlops.bridge import Bridge
from tests.serving import loop

SCOPE = {
    "type": "http", "method": "GET", "raw_path": b"/a%20b", "query_string": b"q=\xe9", "http_version": "1.1", "scheme": "http",
    "headers": [(b"host", b"x"), (b"x-two", b"1"), (b"x-two", b"2")], "client": ("10.0.0.1", 5), "server": ("127.0.0.1", 80),
}  # fmt: skip


class Client:
    """The server's side of one request: what it sends, what it receives, and when it leaves."""

    def __init__(self, *pieces: bytes, leaves_after: int | None = None) -> None:
        self.pieces, self.leaves_after = list(pieces), leaves_after
        self.sent: list[dict[str, Any]] = []
        self.heard = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.leaves_after is not None:
            if not self.leaves_after:
                return {"type": "http.disconnect"}
            self.leaves_after -= 1
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or self.leaves_after is not None}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.heard.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def _ask(app: Callable[..., Any], client: Client, **scope: Any) -> None:
    bridge = Bridge(app, 1)
    try:
        loop.run(bridge({**SCOPE, **scope}, client.receive, client.send))
    finally:
        bridge.shutdown()


def test_an_answer_in_memory_is_sent_at_once_and_the_request_is_told_as_wsgi_wants_it() -> None:
    seen: dict[str, Any] = {}

    class Plain(list[bytes]):
        streaming = False

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Plain:
        seen.update(environ)
        start("201 Created", [("X-A", "b")])
        return Plain([b"one", b"two"])

    client = Client()
    _ask(app, client)
    assert client.sent == [
        {"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"b")]},
        {"type": "http.response.body", "body": b"onetwo"},
    ]
    assert (seen["PATH_INFO"], seen["QUERY_STRING"], seen["HTTP_X_TWO"]) == ("/a b", "q=\xe9", "1,2")
    assert seen["REMOTE_ADDR"] == "10.0.0.1"


def test_each_piece_of_a_stream_leaves_before_the_next_is_made() -> None:
    client = Client()
    counts: list[int] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [])
        for number in range(3):
            counts.append(len(client.sent))
            yield b"%d" % number

    _ask(app, client)
    assert client.body == b"012"
    assert counts == [0, 2, 3]


def test_a_client_that_leaves_in_the_middle_of_a_stream_frees_the_thread() -> None:
    closed = threading.Event()

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [])
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.set()

    async def leave() -> None:
        client = Client()
        task = asyncio.create_task(bridge(SCOPE, client.receive, client.send))
        await client.heard.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(closed.wait, 10)

    bridge = Bridge(app, 1)
    loop.run(leave())
    assert closed.is_set()
    bridge.shutdown()


def test_a_client_that_neither_reads_nor_stays_frees_the_thread() -> None:
    """The server's ``send`` waits for a reader that never comes back."""
    closed = threading.Event()

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [])
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.set()

    async def stuck(message: dict[str, Any]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def leave() -> None:
        task = asyncio.create_task(bridge(SCOPE, Client().receive, stuck))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(closed.wait, 10)

    begun = asyncio.Event()
    bridge = Bridge(app, 1)
    loop.run(leave())
    assert closed.is_set()
    bridge.shutdown()


def _reader(found: list[Any]) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        stream = environ["wsgi.input"]
        try:
            while piece := stream.read(100_000):
                found.append(piece)
        except OSError as error:
            found.append(error)
        start("200 OK", [])
        return [b"done"]

    return app


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_body_is_read_whole_whatever_its_size_and_its_pieces(size: int) -> None:
    found: list[Any] = []
    body = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    pieces = [body[start : start + 70_000] for start in range(0, len(body), 70_000)]
    client = Client(*pieces)
    headers = [(b"host", b"x"), (b"content-length", b"%d" % len(body))]
    _ask(_reader(found), client, method="POST", headers=headers)
    assert b"".join(found) == body
    assert client.body == b"done"


def test_a_body_without_a_length_is_read_to_its_end() -> None:
    found: list[Any] = []
    client = Client(b"one", b"", b"two")
    _ask(_reader(found), client, method="POST", headers=[(b"transfer-encoding", b"chunked")])
    assert b"".join(found) == b"onetwo"


def test_half_a_large_body_is_an_error_to_its_reader() -> None:
    found: list[Any] = []
    client = Client(b"x" * 50_000, b"x" * 50_000, leaves_after=2)
    headers = [(b"host", b"x"), (b"content-length", b"5000000")]
    _ask(_reader(found), client, method="POST", headers=headers)
    assert isinstance(found[-1], ConnectionError)


def test_half_a_small_body_reaches_nobody() -> None:
    found: list[Any] = []
    client = Client(b"x" * 10, leaves_after=1)
    _ask(_reader(found), client, method="POST", headers=[(b"host", b"x"), (b"content-length", b"100")])
    assert (found, client.sent) == ([], [])


def test_head_has_the_headers_and_no_body() -> None:
    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("Content-Length", "4")])
        return [b"body"]

    client = Client()
    _ask(app, client, method="HEAD")
    assert client.body == b""
    assert client.sent[0]["headers"] == [(b"content-length", b"4")]


def test_the_whole_address_in_the_request_line_is_taken_for_its_path() -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        seen.update(environ)
        start("200 OK", [])
        return [b""]

    _ask(app, Client(), raw_path=b"http://elsewhere.example/a/b")
    assert seen["PATH_INFO"] == "/a/b"


def test_bodies_that_come_slowly_hold_no_thread_of_other_requests() -> None:
    found: list[Any] = []
    read = _reader(found)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            start("200 OK", [])
            return [b"at once"]
        return read(environ, start)

    class Slow(Client):
        async def receive(self) -> dict[str, Any]:
            if not self.pieces:
                asked.set()
                await go_on.wait()
                self.pieces.append(b"y")
            return await super().receive()

    async def both() -> None:
        headers = [(b"host", b"x"), (b"content-length", b"5000000")]
        sending = asyncio.create_task(bridge({**SCOPE, "method": "POST", "headers": headers}, slow.receive, slow.send))
        await asked.wait()
        await asyncio.wait_for(bridge(SCOPE, quick.receive, quick.send), 20)
        go_on.set()
        await sending

    asked, go_on, slow, quick = asyncio.Event(), asyncio.Event(), Slow(), Client()
    bridge = Bridge(app, 1)
    loop.run(both())
    assert (quick.body, slow.body) == (b"at once", b"done")
    bridge.shutdown()
