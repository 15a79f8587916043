"""gunicorn's own ASGI worker with what a public server needs besides: slow senders and idle connections do not stay for ever.

Leans on gunicorn 27's inner names (the pin is exact; tests/serving/test_web_worker.py would notice a change).
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import struct
from http import HTTPStatus
from typing import Any

from gunicorn.asgi import websocket
from gunicorn.asgi.protocol import ASGIProtocol, _validate_response_headers
from gunicorn.asgi.websocket import OPCODE_PING, WebSocketProtocol
from gunicorn.workers import gasgi
from gunicorn.workers.gasgi import ASGIWorker

_LINGER_S = 1.0  # at the end, a connection that was idle for less may have its next request on the way
_PING_S = 20.0
_LOOK_S = 0.05
_RELIEF_S = 20.0  # after a reload, an old worker goes on serving for at most so long until a new one does
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Succession:
    """Which workers shall take over, and whether one of them listens: two numbers that the master shares with all its workers."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 16)

    def begin(self, first_age: int) -> None:
        """A reload: workers of this age and younger (gunicorn counts up) take over."""
        self._shared[:8] = struct.pack("q", first_age)

    def listens(self, age: int) -> None:
        self._shared[8:] = struct.pack("q", age)

    def awaited(self, age: int) -> bool:
        """Whether a worker of this age must still serve, for its successors do not yet."""
        first, listening = struct.unpack("qq", self._shared[:])
        return age < first > listening


succession = Succession()  # made in the master: gunicorn looks the worker class up there


class WebProtocol(ASGIProtocol):
    """One connection. Its first request, too, must be there within ``keepalive`` seconds, headers and all."""

    _idle_looks = 0
    _idle_until = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        worker: WebWorker = self.worker
        if len(worker.connections) >= worker.cfg.worker_connections:
            self._conn_lost_handled = self._closed = True  # it never began
            transport.write(_FULL)
            transport.close()
            return
        worker.connections.add(self)
        super().connection_made(transport)
        self._arm_keepalive_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:
        """Without a task of its own for each request: no application here goes on after the end of its answer."""
        keepalive: bool = await self._handle_http_request(request, sockname, peername)
        return keepalive

    def close_if_idle(self) -> None:
        """Called again and again. Looks are counted, not seconds: a process that got no processor time has not read what came meanwhile."""
        timer = self._keepalive_handle
        if timer is None or not self._awaiting_request:
            self._idle_looks = 0
            return
        self._idle_looks = self._idle_looks + 1 if timer.when() == self._idle_until else 0
        self._idle_until = timer.when()
        if self._idle_looks * _LOOK_S >= _LINGER_S:
            self._keepalive_timeout()


class WebSocket(WebSocketProtocol):
    """A WebSocket that finds out when its peer is gone, refuses with a reason, and unmasks in one step instead of byte by byte."""

    _heard = 0.0

    async def run(self) -> None:
        self.scope["extensions"] = {"websocket.http.response": {}}
        pings = asyncio.create_task(self._ping())
        try:
            await super().run()
        finally:
            pings.cancel()

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        while not self.closed:
            await asyncio.sleep(_PING_S)
            if loop.time() - self._heard > 2.5 * _PING_S:
                self.transport.abort()
                return
            if self.accepted and not self.closed:
                await self._send_frame(OPCODE_PING, b"")

    def feed_data(self, data: bytes) -> None:
        self._heard = asyncio.get_running_loop().time()
        super().feed_data(data)

    def _unmask(self, payload: bytes, masking_key: bytes) -> bytes:
        size = len(payload)
        mask = (masking_key * (size // 4 + 1))[:size]
        return (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.http.response.start":
            self._refusal = message
        elif message["type"] == "websocket.http.response.body":
            self._say_no(self._refusal, message["body"])
        else:
            await super()._send(message)

    def _say_no(self, start: dict[str, Any], body: bytes) -> None:
        self._denied = self.closed = True
        self._close_event.set()
        status = start["status"]
        head = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()), b"Connection: close"]
        head += [name + b": " + value for name, value in [*start["headers"], (b"content-length", b"%d" % len(body))]]
        _validate_response_headers(start["headers"])
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        self.transport.close()


class WebWorker(ASGIWorker):
    """Serves ``WebProtocol``; on the way out it lets go of idle connections instead of waiting for their time-out."""

    connections: set[WebProtocol]

    def init_process(self) -> None:
        self.connections = set()
        self._listens = False
        ASGIProtocol._check_h1c_protocol_available()  # else it is noted at our class, and looked for at theirs
        gasgi.ASGIProtocol, websocket.WebSocketProtocol = WebProtocol, WebSocket
        super().init_process()

    def init_signals(self) -> None:
        """uvloop hears of no signal before it runs: until then, plain handlers take the word to end."""
        super().init_signals()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: self.handle_exit_signal())

    async def _serve(self) -> None:
        super().init_signals()
        await super()._serve()

    def notify(self) -> None:
        """The heartbeat, once a second."""
        super().notify()
        if self.servers and not self._listens:
            self._listens = True
            succession.listens(self.age)
            for each in self.sockets:  # the loop set its own, of 100: too few while workers change
                each.sock.listen(self.cfg.backlog)

    async def _relieved(self) -> None:
        """A reload ends old workers before the new ones have read their code: until one listens, nobody else would answer."""
        deadline = self.loop.time() + _RELIEF_S
        while succession.awaited(self.age) and self.loop.time() < deadline:
            if self._quick_shutdown or self.ppid != os.getppid():
                return
            self.notify()
            await asyncio.sleep(_LOOK_S)

    async def _shutdown(self) -> None:
        await self._relieved()
        for server in self.servers:
            server.close()
        if (leave := getattr(self.asgi, "leave", None)) is not None:
            leave()
        deadline = self.loop.time() + self.cfg.graceful_timeout
        while self.connections and self.loop.time() < deadline and not self._quick_shutdown:
            for connection in list(self.connections):
                connection.close_if_idle()
            await asyncio.sleep(_LOOK_S)
        await super()._shutdown()
