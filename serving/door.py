"""The fast door: an ASGI application in front of Django for the common prediction request. Everything else is Django's, unread.

Common is: POST to a deployment's predict address, JSON of a known length, an API key, and key, limits, route and version known to this
process. Then the event loop answers by itself, through the same ``begin`` and ``finish`` as every door (serving/predict.py). Nothing
here asks the database or waits for anything but the client and the runner; what may take long is done in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from concurrent.futures import Executor
from typing import Any, Protocol

from django.conf import settings
from django.db import close_old_connections
from django.http.request import split_domain_port, validate_host

from accounts import keys
from accounts.authentication import presented_key
from accounts.caller import Caller
from mlops.core import errors, ids, logs, problems
from mlops.core.errors import NotWarm
from mlops.runtime.async_host import AsyncHost, NotLoaded
from mlops.runtime.host import HostError, Reply, RunnerHost, get_host
from serving import predict
from serving.predict import BODY_LIMIT_BYTES, Answer, Call, Refused, Ticket

log = logs.get(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]

PREFIX = b"/api/v1/predict/"
BODY_S = 60.0  # a body that takes longer to arrive is refused
_PLACE = re.compile(rb"/api/v1/predict/([-a-zA-Z0-9_]+)/([-a-zA-Z0-9_]+)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_REMEMBERED = 10_000
# Whoever sends one of these means something that only Django's door knows.
_NOT_COMMON = frozenset({b"transfer-encoding", b"content-encoding", b"cookie", b"idempotency-key", b"x-forwarded-host"})


class Django(Protocol):
    """mlops.bridge.Bridge, as far as the door knows it."""

    pool: Executor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class ClientGone(Exception):  # noqa: N818  nobody's failure
    """The client left before its request was whole."""


class Door:
    """``Door(django)`` is an ASGI application. ``learn`` tells it, once, what Django's middleware adds to every answer."""

    def __init__(self, django: Django, middleware_headers: Callable[[bool], list[tuple[bytes, bytes]]]) -> None:
        self._django = django
        self._added = {secure: middleware_headers(secure) for secure in (False, True)}
        self.https_only = settings.SECURE_SSL_REDIRECT
        self._proxy = settings.SECURE_PROXY_SSL_HEADER
        self._places: dict[bytes, tuple[str, str] | None] = {}
        self._hosts: dict[bytes, bool] = {}
        self._asked: AsyncHost | None = None
        self._later: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and (found := self.recognise(scope)) is not None:
            call, secure = found
            try:
                ticket = predict.begin(call, warm=True)
            except NotWarm:
                pass
            else:
                await self._serve(ticket, secure, scope, receive, send)
                return
        await self._django(scope, receive, send)

    # -- is it common? --------------------------------------------------------------------------------------------------

    def recognise(self, scope: Scope) -> tuple[Call, bool] | None:
        """The call, and whether it came by HTTPS; None when this is for Django."""
        place = self.place(scope["raw_path"])
        if place is None:
            return None
        raw = scope["headers"]
        headers: Headers = dict(raw)
        if len(headers) != len(raw) or not _NOT_COMMON.isdisjoint(headers) or not self.host_allowed(headers):
            return None
        if not _has_json(headers) or self.asked is None:
            return None
        version = _version(scope["query_string"], headers)
        secure = self.secure(scope, headers)
        if version is None or (self.https_only and not secure):
            return None
        try:
            caller = _caller(headers)
        except NotWarm:
            return None
        call = Call(
            caller,
            place[0],
            place[1],
            _unread,
            headers[b"content-type"].decode("latin-1"),
            request_id(headers),
            version,
            sticky=headers.get(b"x-slipway-sticky", b"").decode("latin-1"),
        )
        return call, secure

    @property
    def asked(self) -> AsyncHost | None:
        """The runners as this loop asks them; None where models run in this process."""
        host = get_host()
        if self._asked is None or self._asked.host is not host:
            self._asked = AsyncHost(host) if isinstance(host, RunnerHost) else None
        return self._asked

    def place(self, raw_path: bytes) -> tuple[str, str] | None:
        """Organisation and deployment of a plain predict address."""
        try:
            return self._places[raw_path]
        except KeyError:
            found = _PLACE.fullmatch(raw_path)
            place = (found[1].decode(), found[2].decode()) if found else None
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            if len(raw_path) < 256:
                self._places[raw_path] = place
            return place

    def host_allowed(self, headers: Headers) -> bool:
        raw = headers.get(b"host", b"")
        known = self._hosts.get(raw)
        if known is None:
            domain, _ = split_domain_port(raw.decode("latin-1"))
            known = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
            if len(self._hosts) >= _REMEMBERED:
                self._hosts.clear()
            self._hosts[raw] = known
        return known

    def secure(self, scope: Scope, headers: Headers) -> bool:
        """As ``HttpRequest.is_secure``."""
        if self._proxy is not None:
            name, https = self._proxy
            said = headers.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode())
            if said is not None:
                return said.partition(b",")[0].strip().decode("latin-1") == https
        return bool(scope["scheme"] == "https")

    # -- then answer it ---------------------------------------------------------------------------------------------------

    async def _serve(self, ticket: Ticket, secure: bool, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answered(ticket, scope, receive)
        except ClientGone:
            return
        except Exception as error:
            log.exception("request_crashed", path=scope["path"], request_id=ticket.call.request_id, exc_info=error)
            answer = predict.refuse(problems.crash(), ticket.call.request_id)
        await send(self._head(answer, secure))
        await send({"type": "http.response.body", "body": answer.body})

    async def _answered(self, ticket: Ticket, scope: Scope, receive: Receive) -> Answer:
        if ticket.refused is not None:
            await _passed_over(receive)
            return predict.finish(ticket, ticket.refused)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            ticket.body = message["body"]
        else:
            refused = await _rest(ticket, message, receive)
            if refused is not None:
                return predict.finish(ticket, refused)
        return predict.finish(ticket, await self.reply(ticket))

    async def answer(self, call: Call, body: bytes, refused: Refused | None = None) -> Answer:
        """A call that brings its body along, whether memory knows everything or not."""
        try:
            ticket = predict.begin(call, warm=True)
        except NotWarm:
            ticket = await self.in_thread(predict.begin, call)
        ticket.body = body
        refused = ticket.refused or refused
        if refused is not None:
            return predict.finish(ticket, refused)
        return predict.finish(ticket, await (self.reply(ticket) if body else self._reply_of_thread(ticket)))

    async def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Where the database may be asked."""
        return await asyncio.get_running_loop().run_in_executor(self._django.pool, _with_database, work, arguments)

    async def reply(self, ticket: Ticket) -> Reply | Refused:
        """What the model says. Cancelled, it leaves the answer to be logged by a task of its own: the model was asked."""
        asked, call, line = self.asked, ticket.call, ticket.line
        if asked is None or line is None:
            return await self._reply_of_thread(ticket)
        question = asked.question(
            line.spec,
            ticket.body,
            content_type=call.content_type,
            base_id=ticket.base,
            dialect=call.dialect,
            extras=call.extras,
        )
        try:
            return await asked.ask(question)
        except NotLoaded:
            return await self._reply_of_thread(ticket)
        except HostError as error:
            return error
        except asyncio.CancelledError:
            self._keep(_logged(ticket, asked.ask(question)))
            raise

    async def _reply_of_thread(self, ticket: Ticket) -> Reply | Refused:
        thread = asyncio.get_running_loop().run_in_executor(self._django.pool, _with_database, predict.ask, (ticket,))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            self._keep(_logged(ticket, thread))
            raise

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _head(self, answer: Answer, secure: bool) -> Message:
        headers = [
            *self._added[secure],
            (b"content-type", answer.content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        for name, value in answer.headers.items():
            headers.append((name.encode("latin-1"), value.encode("latin-1")))
        return {"type": "http.response.start", "status": answer.status, "headers": headers}

    async def close(self) -> None:
        """What was asked is waited for and logged; then no more."""
        if self._later:
            await asyncio.wait(self._later, timeout=5)
        if self._asked is not None:
            self._asked.close()


def request_id(headers: Headers) -> str:
    """As ``RequestIdMiddleware``: the client's own when it is well-formed."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(text := given.decode("latin-1")):
        return text
    return str(ids.uuid7())


def _has_json(headers: Headers) -> bool:
    """JSON, of a length that may be read at once."""
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        return False
    length = headers.get(b"content-length", b"")
    return length.isdigit() and len(length) < 10 and 0 < int(length) <= BODY_LIMIT_BYTES


def _version(query: bytes, headers: Headers) -> str | None:
    """The version that is asked for, or an empty string; None for a query that Django must read."""
    if not query:
        return headers.get(b"x-slipway-version", b"").decode("latin-1")
    name, _, value = query.partition(b"=")
    return value.decode() if name == b"version" and value.isdigit() and len(value) < 9 else None


def _caller(headers: Headers) -> Caller:
    """Raises NotWarm without a key that is known to be good."""
    presented = presented_key(
        {
            "X-API-Key": headers.get(b"x-api-key", b"").decode("latin-1"),
            "Authorization": headers.get(b"authorization", b"").decode("latin-1"),
        }
    )
    if not presented:
        raise NotWarm
    return keys.peek(presented)


def _unread() -> bytes:
    raise RuntimeError("the fast door reads the body itself")


async def _rest(ticket: Ticket, message: Message, receive: Receive) -> errors.SlipwayError | None:
    """A body in several pieces. Raises ClientGone."""
    pieces = []
    try:
        async with asyncio.timeout(BODY_S):
            while message["type"] == "http.request":
                pieces.append(message["body"])
                if not message.get("more_body", False):
                    ticket.body = b"".join(pieces)
                    return None
                message = await receive()
    except TimeoutError:
        return errors.SlipwayError(
            f"The body did not arrive within {BODY_S:g} s.", code="body_too_slow", status=408, hint="Send it faster."
        )
    raise ClientGone


async def _passed_over(receive: Receive) -> None:
    """Take the body of a refused call off the connection: gunicorn ends one that still has some, without a word to the client."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BODY_S):
            message: Message = {"type": "http.request", "more_body": True}
            while message["type"] == "http.request" and message.get("more_body", False):
                message = await receive()


def _with_database(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """In a thread, which may load the model, or bring its file back, as Django's own requests do."""
    close_old_connections()
    try:
        return work(*arguments)
    finally:
        close_old_connections()


async def _logged(ticket: Ticket, reply: Awaitable[Reply | Refused]) -> None:
    """The client left: nobody hears the answer, the log has it."""
    try:
        found = await reply
    except HostError as error:
        found = error
    except NotLoaded:
        return
    predict.finish(ticket, found)
