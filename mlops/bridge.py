"""Django, a WSGI application, behind an ASGI server: each request has one thread from beginning to end, as under gunicorn's own threads.

The thread's database connection, its signals and its file handles therefore stay as Django means them. Bodies and answers of any size
stream through in pieces. A request whose body is small gets its thread when the body is there, so that slow senders hold none; large bodies
have threads of their own, so that however many come slowly, everything else is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SMALL_BODY_BYTES = 1 << 20


class ClientGone(ConnectionError):
    """The client closed the connection in the middle of something."""


class Bridge:
    """``Bridge(django, threads)`` is an ASGI application for HTTP. ``pool`` is where its requests run; large bodies have as many threads more."""

    def __init__(self, app: Callable[..., Iterable[bytes]], threads: int) -> None:
        self.app = app
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="django")
        self.receiving = ThreadPoolExecutor(threads, thread_name_prefix="receiving")

    def shutdown(self) -> None:
        """Waits for the requests that run."""
        self.pool.shutdown()
        self.receiving.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        environ = _environ(scope)
        loop = asyncio.get_running_loop()
        exchange = _Exchange(self.app, environ, loop, receive, send)
        try:
            whole = await _whole(environ, receive)
            environ["wsgi.input"] = whole or io.BufferedReader(_Body(exchange), 1 << 16)
            last = await loop.run_in_executor(self.receiving if whole is None else self.pool, exchange.run)
        except ClientGone:
            return
        except BaseException:
            exchange.leave()
            raise
        if exchange.head is not None:
            await send(exchange.head)
        await send({"type": "http.response.body", "body": last})


class _Exchange:
    """One request and its answer, between the loop and a thread."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        environ: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        receive: Receive,
        send: Send,
    ) -> None:
        self.app, self.environ, self.loop, self.receive, self.send = app, environ, loop, receive, send
        self.head: Message | None = None  # the start of the answer, until it is sent
        self.body_ended = False
        self._left = False
        self._underway: asyncio.Task[Any] | None = None

    def run(self) -> bytes:
        """In the thread: let the application answer. Returns what is left to be sent: of a plain answer, all of it."""
        silent = self.environ["REQUEST_METHOD"] == "HEAD"
        found = self.app(self.environ, self.start_response)
        try:
            if silent:
                return b""
            if not getattr(found, "streaming", True):  # Django knows its own answers: this one is in memory
                return b"".join(found)
            for piece in found:
                if piece:
                    self._wait(self._sent(piece))
            return b""
        except (ClientGone, CancelledError):
            raise ClientGone from None
        finally:
            close = getattr(found, "close", None)
            if close is not None:
                close()

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.head = {"type": "http.response.start", "status": int(status[:3]), "headers": encoded}
        return lambda piece: self._wait(self._sent(piece))

    def more(self) -> bytes:
        """In the thread: the next piece of the body; empty at its end."""
        if self.body_ended:
            return b""
        return self._wait(self._received())

    def leave(self) -> None:
        """In the loop: the client is gone, or the server ends; the thread shall notice at its next step."""
        self._left = True
        if self._underway is not None:
            self._underway.cancel()

    def _wait(self, step: Any) -> Any:
        if self._left:
            step.close()
            raise ClientGone
        return asyncio.run_coroutine_threadsafe(step, self.loop).result()

    async def _received(self) -> bytes:
        while True:
            async with self._cancellable():
                message = await self.receive()
            if message["type"] != "http.request":
                self._left = True
                raise ClientGone("The client went away while it sent its request.")
            self.body_ended = not message.get("more_body", False)
            if message.get("body") or self.body_ended:
                return bytes(message.get("body", b""))

    async def _sent(self, piece: bytes) -> None:
        async with self._cancellable():
            if self.head is not None:
                head, self.head = self.head, None
                await self.send(head)
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})

    @contextlib.asynccontextmanager
    async def _cancellable(self) -> Any:
        self._underway = asyncio.current_task()
        try:
            if self._left:
                raise ClientGone
            yield
        finally:
            self._underway = None


class _Body(io.RawIOBase):
    """``wsgi.input`` of a large body. Ends early only with ClientGone: half a body is never taken for a whole one."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._piece:
            self._piece = memoryview(self._exchange.more())
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


async def _whole(environ: dict[str, Any], receive: Receive) -> io.BytesIO | None:
    """The body when it is small. None: it is large, or does not say how long it is. Raises ClientGone."""
    length = environ.get("CONTENT_LENGTH", "")
    chunked = "HTTP_TRANSFER_ENCODING" in environ
    if chunked or (length and (not length.isdigit() or int(length) > SMALL_BODY_BYTES)):
        return None
    pieces = []
    more = bool(length and int(length))
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return io.BytesIO(b"".join(pieces))


def _environ(scope: Scope) -> dict[str, Any]:
    client, server = scope.get("client"), scope.get("server")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(_path(scope["raw_path"])).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": str(server[0]) if server else "localhost",
        "SERVER_PORT": str(server[1]) if server else "80",
        "REMOTE_ADDR": str(client[0]) if client else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1")
        if name not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            name = f"HTTP_{name}"
        environ[name] = f"{environ[name]},{value}" if name in environ else value
    return environ


def _path(target: bytes) -> bytes:
    """A client may name the whole address in its request line."""
    if target.startswith(b"/"):
        return target
    _, found, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if found else target
