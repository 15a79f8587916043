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
from gunicorn.asgi.protocol import (
    _CACHED_SERVER_HEADER,
    ASGIProtocol,
    _get_cached_date_header,
    _get_cached_status_line,
    _validate_response_headers,
)
from gunicorn.asgi.websocket import (
    CLOSE_MESSAGE_TOO_BIG,
    MAX_CONTROL_PAYLOAD,
    OPCODE_BINARY,
    OPCODE_CONTINUATION,
    OPCODE_PING,
    OPCODE_TEXT,
    WebSocketDisconnected,
    WebSocketProtocol,
)
from gunicorn.workers import gasgi
from gunicorn.workers.gasgi import ASGIWorker

_LINGER_S = 1.0  # at the end, a connection that was idle for less may have its next request on the way
_PING_S = 20.0
_PIECE_BYTES = 1 << 16
_PIECES = 1 << 13  # of one message
_SKIP_S = 10.0  # for the rest of a message that is refused unread
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
    """One connection. Its first request, too, must be there within ``keepalive`` seconds, headers and all.

    A request that the application's express lane knows (serving/express.py) goes past the parser, the tasks and the application: it is
    offered as it came, when nothing else is under way on the connection. Its answer has the same bytes.
    """

    _lane: Any = None
    _peer = b""  # what, besides a head's bytes, has a part in how it is read; known once the first request was
    _untouched = True  # the parser has nothing of the next request
    _opening: bytes | None = None  # what began the request that is being served
    _on_lane = False  # a request is being answered there
    _behind = b""  # what came meanwhile
    _spoke = 0.0  # when the lane's last answer left
    _idle_looks = 0
    _idle_since = (0.0, 0.0)

    def connection_made(self, transport: asyncio.Transport) -> None:
        worker: WebWorker = self.worker
        if len(worker.connections) >= worker.cfg.worker_connections:
            self._conn_lost_handled = self._closed = True  # it never began
            transport.write(_FULL)
            transport.close()
            return
        worker.connections.add(self)
        if self._pre_request is None and self._post_request is None and not self.log.access_log_enabled:
            self._lane = getattr(self.app, "lane", None)
        super().connection_made(transport)
        self._arm_keepalive_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    # -- the express lane -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._on_lane or self._behind:
            self._behind += data
            if len(self._behind) > self._max_buffer_size:
                self._pause_reading()
            return
        if self._peer and self._untouched and self._may_take():
            self._on_lane = True
            try:
                if self._lane.take(self._peer, data, self._say):
                    return
            except Exception:
                self._on_lane = False
                raise
            self._on_lane = False
        super().data_received(data)

    def _may_take(self) -> bool:
        worker = self.worker
        return (
            self._awaiting_request
            and not self._closed
            and worker.alive
            and worker.nr + 1 < worker.max_requests
            and not self._flow_control.write_paused
        )

    def _say(self, status: int, lines: bytes, body: bytes) -> None:
        """An answer from the lane."""
        self._on_lane = False
        self._spoke = self.worker.loop.time()
        self.worker.nr += 1
        if self._closed:
            return
        begin, end = _get_cached_status_line((1, 1), status), _get_cached_date_header()
        self._safe_write(b"".join((begin, lines, _CACHED_SERVER_HEADER, end, b"\r\n", body)))
        if self._behind:
            # Later: we stand in the runner's line, which belongs to everybody, and this is the client's next request.
            self.worker.loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        """What came while the lane answered. Its order holds: until then, more of it goes behind it."""
        data, self._behind = self._behind, b""
        if self._closed:
            return
        self._resume_reading()
        try:
            self.data_received(data)
        except Exception:
            self.transport.abort()
            raise

    def _feed_callback_parser(self, data: bytes) -> bool:
        if self._untouched:
            self._untouched, self._opening = False, data
        try:
            alive: bool = super()._feed_callback_parser(data)
        except Exception:  # noqa: BLE001  the parser lets a few through, like the ValueError of a number with 5,000 digits
            self._send_error_response(400, "Bad Request")
            self._close_transport()
            return False
        return alive

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:
        """Without a task of its own for each request: no application here goes on after the end of its answer."""
        opening, self._opening = self._opening, None
        keepalive: bool = await self._handle_http_request(request, sockname, peername)
        self._untouched = True
        if keepalive and self._lane is not None and opening is not None and opening.startswith(self._lane.start):
            self._peer = self._peer or repr((self._is_ssl, self._forwarded_trust)).encode()
            self._lane.remember(self._peer, opening, self._build_http_scope(request, sockname, peername))
        return keepalive

    # -- idle connections -------------------------------------------------------------------------------------------------

    def _keepalive_timeout(self) -> None:
        """The lane leaves the timer alone: what it answered meanwhile counts now."""
        left_s = self._spoke + self._keepalive - self.worker.loop.time()
        if self._on_lane or left_s > 0:
            again_s = max(left_s, _LOOK_S)
            self._keepalive_handle = self.worker.loop.call_later(again_s, self._keepalive_timeout)
        else:
            super()._keepalive_timeout()

    def close_if_idle(self) -> None:
        """Called again and again. Looks are counted, not seconds: a process that got no processor time has not read what came meanwhile."""
        timer = self._keepalive_handle
        if timer is None or not self._awaiting_request or self._on_lane or self._behind:
            self._idle_looks = 0
            return
        since = (timer.when(), self._spoke)
        self._idle_looks = self._idle_looks + 1 if since == self._idle_since else 0
        self._idle_since = since
        if self._idle_looks * _LOOK_S >= _LINGER_S:
            super()._keepalive_timeout()


class WebSocket(WebSocketProtocol):
    """A WebSocket that finds out when its peer is gone, refuses with a reason, and unmasks in one step instead of byte by byte."""

    _heard = 0.0
    _limit_bytes = 0

    async def run(self) -> None:
        self.scope["extensions"] = {"websocket.http.response": {}}
        self._limit_bytes = self.max_message_size
        self.max_message_size = 0
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
            if self.accepted and not self.closed and not self._close_sent:
                await self._send_frame(OPCODE_PING, b"")

    async def _read_frame(self) -> tuple[int, bytes] | None:
        """Small pieces have a limit too; and after our Close nothing that comes is a message any more."""
        frame: tuple[int, bytes] | None = await super()._read_frame()
        if self._fragments_size > self._limit_bytes or len(self._fragments) > _PIECES:
            await self._refuse_size()
        if self._close_sent:
            self._fragments, self._fragments_size = [], 0
            if frame is not None and frame[0] in (OPCODE_TEXT, OPCODE_BINARY):
                return OPCODE_CONTINUATION, b""
        return frame

    async def _refuse_size(self) -> None:
        if not self._close_sent:
            await self._send_close(CLOSE_MESSAGE_TOO_BIG, f"A message may have {self._limit_bytes} bytes.")
            asyncio.get_running_loop().call_later(
                _SKIP_S, self.transport.abort
            )  # who does not hear that is not waited for

    async def _read_exact(self, n: int) -> bytes | None:
        """A message over the limit is skipped, not left unread: to close upon unread bytes is a reset, which takes the reason away with it."""
        if n <= MAX_CONTROL_PAYLOAD or (not self._close_sent and self._fragments_size + n <= self._limit_bytes):
            found: bytes | None = await super()._read_exact(n)
            return found
        await self._refuse_size()
        while n and (piece := await super()._read_exact(min(n, _PIECE_BYTES))) is not None:
            n -= len(piece)
        return None if n else b""

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
        elif message["type"] == "websocket.send" and self._close_sent:
            raise WebSocketDisconnected("nothing follows a Close frame")
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
