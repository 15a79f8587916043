"""The fast door: an ASGI application in front of Django for the common prediction request. Everything else is Django's, unread.

Common is: POST to a deployment's predict address, JSON of a known length, an API key, and key, limits, route and version known to this
process. Then the event loop answers by itself, through the same ``begin`` and ``finish`` as every door (serving/predict.py). Nothing
here asks the database or waits for anything but the client and the runner; what may take long is done in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from concurrent.futures import Executor
from typing import Any, Protocol

from django.db import close_old_connections

from accounts import keys
from mlops.core import errors, logs, problems
from mlops.core.errors import NotWarm
from mlops.runtime.async_host import AsyncHost, NotLoaded, Question
from mlops.runtime.host import HostError, Reply, RunnerHost, get_host
from serving import predict
from serving.heads import Heads, Scope
from serving.predict import Answer, Call, Refused, Ticket

log = logs.get(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_S = 60.0  # a body that takes longer to arrive is refused
_PATIENCE_S = 5.0  # at the end, for what the models still work at


class Django(Protocol):
    """mlops.bridge.Bridge, as far as the door knows it."""

    pool: Executor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class ClientGone(Exception):  # noqa: N818  nobody's failure
    """The client left before its request was whole."""


class Door:
    """``Door(django)`` is an ASGI application. ``added`` is what Django's middleware adds to every answer."""

    def __init__(self, django: Django, middleware_headers: Callable[[bool], list[tuple[bytes, bytes]]]) -> None:
        self._django = django
        self.added = {secure: middleware_headers(secure) for secure in (False, True)}
        self.heads = Heads()
        self._asked: AsyncHost | None = None
        self._later: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = self.heads.read(scope)
        if head is not None and self.asked is not None:
            try:
                ticket = predict.begin(head.call(keys.peek(head.presented)), warm=True)
            except NotWarm:
                pass
            else:
                await self._serve(ticket, head.secure, scope, receive, send)
                return
        await self._django(scope, receive, send)

    @property
    def asked(self) -> AsyncHost | None:
        """The runners as this loop asks them; None where models run in this process."""
        host = get_host()
        if self._asked is None or self._asked.host is not host:
            self._asked = AsyncHost(host) if isinstance(host, RunnerHost) else None
        return self._asked

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

    def question(self, asked: AsyncHost, ticket: Ticket) -> Question:
        """What ``asked`` is asked for this call."""
        call, line = ticket.call, ticket.line
        if line is None:
            raise RuntimeError("a refused call was put to a model")
        return asked.question(
            line.spec,
            ticket.body,
            content_type=call.content_type,
            base_id=ticket.base,
            dialect=call.dialect,
            extras=call.extras,
        )

    async def reply(self, ticket: Ticket, question: Question | None = None) -> Reply | Refused:
        """What the model says. Cancelled, it leaves the answer to be logged by a task of its own: the model was asked.

        ``question``: it was asked before, and got no answer.
        """
        asked = self.asked
        if asked is None or ticket.line is None:
            return await self._reply_of_thread(ticket)
        question = question or self.question(asked, ticket)
        try:
            return await asked.ask(question)
        except NotLoaded:
            return await self._reply_of_thread(ticket)
        except HostError as error:
            return error
        except asyncio.CancelledError:
            self.keep(_logged(ticket, asked.ask(question)))
            raise

    async def _reply_of_thread(self, ticket: Ticket) -> Reply | Refused:
        thread = asyncio.get_running_loop().run_in_executor(self._django.pool, _with_database, predict.ask, (ticket,))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            self.keep(_logged(ticket, thread))
            raise

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this in a task of its own, which ``close`` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _head(self, answer: Answer, secure: bool) -> Message:
        own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields_of(answer)]
        return {"type": "http.response.start", "status": answer.status, "headers": [*self.added[secure], *own]}

    async def close(self) -> None:
        """What was asked is waited for and logged; then no more."""
        if self._asked is not None:
            await self._asked.drained(_PATIENCE_S)
        if self._later:
            await asyncio.wait(self._later, timeout=_PATIENCE_S)
        if self._asked is not None:
            self._asked.close()


def fields_of(answer: Answer) -> list[tuple[str, str]]:
    """The header fields that an answer has of its own."""
    return [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        *answer.headers.items(),
    ]


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
