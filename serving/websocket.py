"""Predictions over a WebSocket: ``/api/v1/predict/{org}/{deployment}/ws``, one JSON message in, one answer out, in the order of asking.

The key comes with the handshake (the headers of the predict API), or, since browsers cannot set headers, as the first message
{"key": "sk_live_..."}. A message is a request body of the predict API; its "id" (text or a whole number) is sent back with its answer.
Each message is a call of its own, through the same ``begin`` and ``finish``: right, limits, version, log record. A refusal is the
problem the API would send, as a message; the conversation goes on. Any Origin may connect: only a key opens anything here, never a
cookie, so another site's page can do nothing its owner's key does not allow.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import orjson

from accounts import keys
from accounts.authentication import presented_key
from accounts.caller import Caller
from mlops.core import errors, ids, logs, problems
from mlops.core.errors import NotWarm, SlipwayError
from serving import predict
from serving.door import Door, Receive, Send
from serving.heads import Headers, Scope
from serving.predict import Answer, Call

log = logs.get(__name__)

MESSAGE_BYTES = 1 << 20
IN_FLIGHT = 16  # of one conversation; whoever sends more waits
PER_KEY = 64  # conversations of one key, in each process
FIRST_MESSAGE_S = 10.0
IDLE_S = 300.0
_LOOK_S = 2.0  # how often a silent conversation's key is looked at
_ID_CHARACTERS = 128
_UNAUTHENTICATED, _IDLE, _LEAVING, _TOO_BIG, _TOO_MANY = 4401, 4408, 1012, 1009, 4429


class Predictions:
    """An ASGI application for the scopes of type "websocket"."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._open: dict[str, int] = {}
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """The process ends: conversations are closed once what they asked is answered."""
        self._leaving.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        headers: Headers = dict(scope["headers"])
        talk = _Conversation(self._door, scope, headers, receive, send, self._leaving)
        try:
            place = talk.find_place()
            if talk.presented:
                await talk.check(place)
        except SlipwayError as error:
            await _refuse(scope, send, predict.refuse(error, talk.request_id))
            return
        await send({"type": "websocket.accept", "headers": [(b"x-request-id", talk.request_id.encode())]})
        if not talk.presented and not await talk.hear_key(place):
            return
        key = talk.key_prefix
        if self._open.get(key, 0) >= PER_KEY:
            await talk.close(_TOO_MANY, f"More than {PER_KEY} connections with this key.")
            return
        self._open[key] = self._open.get(key, 0) + 1
        try:
            await talk.run(place)
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


class _Conversation:
    """One connection, from its handshake to its end."""

    def __init__(
        self, door: Door, scope: Scope, headers: Headers, receive: Receive, send: Send, leaving: asyncio.Event
    ) -> None:
        self._door, self._scope, self._headers = door, scope, headers
        self._receive, self._send, self._leaving = receive, send, leaving
        self.request_id = str(ids.uuid7())
        self.presented = presented_key(
            {
                "X-API-Key": headers.get(b"x-api-key", b"").decode("latin-1"),
                "Authorization": headers.get(b"authorization", b"").decode("latin-1"),
            }
        )
        self._caller: Caller | None = None
        self._heard = time.monotonic()
        self._answers: asyncio.Queue[tuple[Any, asyncio.Task[Answer]] | None] = asyncio.Queue(IN_FLIGHT)

    @property
    def key_prefix(self) -> str:
        return self._caller.key.prefix if self._caller is not None and self._caller.key is not None else ""

    # -- the handshake ----------------------------------------------------------------------------------------------------

    def find_place(self) -> tuple[str, str]:
        """Organisation and deployment of the address. Raises SlipwayError."""
        if not self._door.heads.host_allowed(self._headers):
            raise errors.BadRequest("This server is not known by that name.", hint="Check the Host header.")
        raw_path = self._scope["raw_path"]
        place = self._door.heads.place(raw_path.removesuffix(b"/ws")) if raw_path.endswith(b"/ws") else None
        if place is None:
            raise errors.NotFound("There is no WebSocket at this address.")
        if self._door.heads.https_only and not self._door.heads.secure(
            {**self._scope, "scheme": self._scheme()}, self._headers
        ):
            raise errors.Forbidden("This server speaks HTTPS only.", hint="Connect with wss://.")
        return place

    def _scheme(self) -> str:
        return "https" if self._scope["scheme"] == "wss" else "http"

    async def check(self, place: tuple[str, str]) -> None:
        """The key is good for this deployment. Raises SlipwayError."""
        self._caller = await self._find_caller()
        await self._door.in_thread(predict.check, self._call(place, b""))

    async def hear_key(self, place: tuple[str, str]) -> bool:
        """The first message brings the key. Closes and returns False when it does not."""
        try:
            async with asyncio.timeout(FIRST_MESSAGE_S):
                message = await self._receive()
        except TimeoutError:
            await self.close(_IDLE, "No key came.")
            return False
        if message["type"] != "websocket.receive":
            return False
        parsed = _parsed(_bytes(message))
        self.presented = str(parsed.get("key") or "") if parsed is not None else ""
        try:
            if not self.presented:
                raise errors.Unauthenticated(
                    "The first message must bring a key.", hint='Send {"key": "sk_live_..."} before anything else.'
                )
            await self.check(place)
        except SlipwayError as error:
            await self._say(predict.refuse(error, self.request_id).body)
            await self.close(_UNAUTHENTICATED if error.status == 401 else 4000 + error.status, error.detail)
            return False
        await self._say(b'{"ready":true}')
        return True

    async def _find_caller(self) -> Caller:
        try:
            return keys.peek(self.presented)
        except NotWarm:
            key = await self._door.in_thread(keys.find_cached, self.presented)
        if key is None:
            raise errors.Unauthenticated(
                "This API key is unknown, revoked or expired.",
                code="invalid_key",
                hint="Make a new key under Settings, API keys.",
            )
        return Caller(key=key)

    # -- the conversation -------------------------------------------------------------------------------------------------

    async def run(self, place: tuple[str, str]) -> None:
        """Until the client, the key or the process ends."""
        parts = {
            asyncio.create_task(self._listen(place)),
            asyncio.create_task(self._speak()),
            asyncio.create_task(self._watch()),
        }
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            code, reason = next((task.result() for task in done if task.exception() is None), (1011, "Internal error."))
            for task in done:
                if (error := task.exception()) is not None:
                    log.error("websocket_crashed", request_id=self.request_id, exc_info=error)
            if code:
                await self.close(code, reason)
        finally:
            for task in parts:
                task.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            while not self._answers.empty():
                if (waiting := self._answers.get_nowait()) is not None:
                    waiting[1].cancel()  # the model's answer is logged all the same

    async def _listen(self, place: tuple[str, str]) -> tuple[int, str]:
        """Take messages and have each answered."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                await self._answers.join()  # nobody listens, but what was asked is logged
                return 0, ""
            self._heard = time.monotonic()
            body = _bytes(message)
            if len(body) > MESSAGE_BYTES:
                return _TOO_BIG, f"A message may have {MESSAGE_BYTES} bytes."
            parsed = _parsed(body)
            name = parsed.get("id") if parsed is not None else None
            answer = asyncio.create_task(self._answer(place, body, name))
            await self._answers.put((name, answer))

    async def _speak(self) -> tuple[int, str]:
        """Send the answers in the order of the questions."""
        while True:
            waiting = await self._answers.get()
            if waiting is None:
                return 0, ""
            name, task = waiting
            try:
                answer = await task
                body = answer.body
                if name is not None and _is_id(name):
                    body = b'{"id":' + orjson.dumps(name) + b"," + body[1:]
                await self._say(body)
                if answer.status == 401:
                    return _UNAUTHENTICATED, answer.detail
            finally:
                self._answers.task_done()

    async def _watch(self) -> tuple[int, str]:
        """Notice a revoked key, a silent client and the end of the process."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._leaving.wait()
            except TimeoutError:
                pass
            else:
                await self._answers.join()
                return _LEAVING, "The server restarts: connect again."
            if time.monotonic() - self._heard > IDLE_S and self._answers.empty():
                return _IDLE, f"No message for {IDLE_S:g} s."
            try:
                await self._find_caller()
            except SlipwayError as error:
                if error.status == 401:
                    return _UNAUTHENTICATED, error.detail

    async def _answer(self, place: tuple[str, str], body: bytes, name: Any) -> Answer:
        request_id = str(ids.uuid7())
        try:
            self._caller = await self._find_caller()
            call = self._call(place, body)
            call.request_id = request_id
            if name is not None and not _is_id(name):
                return await self._door.answer(call, body, refused=_bad_id())
            return await self._door.answer(call, body)
        except SlipwayError as error:
            return predict.refuse(error, request_id)
        except Exception as error:
            log.exception("request_crashed", path=self._scope["path"], request_id=request_id, exc_info=error)
            return predict.refuse(problems.crash(), request_id)

    def _call(self, place: tuple[str, str], body: bytes) -> Call:
        assert self._caller is not None  # noqa: S101  found before
        query = self._scope["query_string"]
        version = query.removeprefix(b"version=") if query.startswith(b"version=") else b""
        return Call(
            self._caller,
            place[0],
            place[1],
            lambda: body,
            "application/json",
            self.request_id,
            (version or self._headers.get(b"x-slipway-version", b"")).decode("latin-1"),
            sticky=self._headers.get(b"x-slipway-sticky", b"").decode("latin-1"),
        )

    async def _say(self, body: bytes) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the client is gone: what it asked is logged all the same
            await self._send({"type": "websocket.send", "text": body.decode()})

    async def close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason[:120]})


async def _refuse(scope: Scope, send: Send, answer: Answer) -> None:
    """No to a handshake: with status and problem where the server can say so, else a bare 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-type", answer.content_type.encode()))
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})


def _bytes(message: Any) -> bytes:
    text = message.get("text")
    return text.encode() if text is not None else message.get("bytes") or b""


def _parsed(body: bytes) -> dict[str, Any] | None:
    """The message as an object; None when it is none: the runner says what is wrong with it."""
    if len(body) > MESSAGE_BYTES:
        return None
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _is_id(name: Any) -> bool:
    return (isinstance(name, str) and len(name) <= _ID_CHARACTERS) or type(name) is int


def _bad_id() -> SlipwayError:
    return errors.BadRequest(
        f'"id" must be a whole number or a text of at most {_ID_CHARACTERS} characters.', code="invalid_id"
    )
