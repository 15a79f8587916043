"""The express lane: a request whose head is byte for byte one that was served before is answered without reading the head again.

Clients with a kept connection repeat their heads. A head is read properly once (gunicorn's parser, then serving/heads.py); what it
says is remembered under its SHA-256, so the same bytes mean the same: there is no second reader of HTTP, and no secret in memory.
Key, limits, route, version and runner are looked up for every request, by ``predict.begin``, as at every door. What memory does not
know is left to the doors behind.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from accounts import keys
from mlops.core import logs, problems
from mlops.core.errors import NotWarm
from mlops.runtime.async_host import AsyncHost, NotLoaded, Question
from mlops.runtime.host import HostError, Reply
from serving import predict
from serving.door import Door, fields_of
from serving.heads import PREFIX, Head, Scope
from serving.predict import Answer, Refused, Ticket

log = logs.get(__name__)

Say = Callable[[int, bytes, bytes], None]  # status, header lines, body

_END = b"\r\n\r\n"
_HEAD_BYTES = 4096
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a head. Its key only as ``keys.digest_of``."""

    head: Head
    key: str


class Express:
    """Belongs to the running event loop, like its door. What does not begin with ``start`` need not be shown to ``remember``."""

    start = b"POST " + PREFIX

    def __init__(self, door: Door) -> None:
        self._door = door
        self._plans: dict[bytes, Plan] = {}
        self._lines = {secure: _lines(door.added[secure]) for secure in (False, True)}

    def remember(self, peer: bytes, request: bytes, scope: Scope) -> None:
        """A request that was served as HTTP/1.1 on a connection that is kept: its bytes as they came, and what the server read in them.

        ``peer``: whatever of the connection, besides the bytes, had a part in that.
        """
        end = _end(request)
        head = self._door.heads.read(scope) if end and scope["http_version"] == "1.1" else None
        if head is None or len(request) != end + head.length or any(name == b"expect" for name, _ in scope["headers"]):
            return
        name, digest = _name(peer, request[:end]), keys.digest_of(head.presented)
        try:
            keys.peek_again(digest)
        except NotWarm:  # a stranger's head is not worth a place; and a good one comes again
            return
        if name not in self._plans and len(self._plans) >= _REMEMBERED:
            self._plans.clear()
        self._plans[name] = Plan(replace(head, presented=""), digest)

    def find(self, peer: bytes, data: bytes) -> tuple[Plan, bytes] | None:
        """What the head of a whole request says, and the body after it; None when its head is not known."""
        end = _end(data)
        plan = self._plans.get(_name(peer, data[:end])) if end else None
        return (plan, data[end:]) if plan is not None and len(data) == end + plan.head.length else None

    def take(self, peer: bytes, data: bytes, say: Say) -> bool:
        """Whether ``data`` is a whole request that this lane answers: then ``say`` is called once, now or later."""
        found, asked = self.find(peer, data), self._door.asked
        if found is None or asked is None:
            return False
        plan, body = found
        try:
            ticket = predict.begin(plan.head.call(keys.peek_again(plan.key)), warm=True)
        except NotWarm:
            return False
        ticket.body = body
        if ticket.refused is not None:
            self._say(ticket, plan.head.secure, ticket.refused, say)
            return True
        question = self._door.question(asked, ticket)
        try:
            asked.post(question, functools.partial(self._told, asked, ticket, plan.head.secure, question, say))
        except NotLoaded:
            self._wait(ticket, plan.head.secure, None, say)
        except HostError as error:
            self._say(ticket, plan.head.secure, error, say)
        return True

    def _told(self, asked: AsyncHost, ticket: Ticket, secure: bool, question: Question, say: Say) -> None:
        if (reply := asked.reply_of(question)) is not None:
            self._say(ticket, secure, reply, say)
        else:
            self._wait(ticket, secure, question, say)

    def _wait(self, ticket: Ticket, secure: bool, question: Question | None, say: Say) -> None:
        """The model must be loaded, or its runner was lost: that takes threads, and time."""

        async def wait() -> None:
            found: Reply | Refused
            try:
                found = await self._door.reply(ticket, question)
            except Exception as error:
                log.exception("request_crashed", request_id=ticket.call.request_id, exc_info=error)
                found = problems.crash()
            self._say(ticket, secure, found, say)

        self._door.keep(wait())

    def _say(self, ticket: Ticket, secure: bool, found: Reply | Refused, say: Say) -> None:
        """Never raises: others wait on the same runner's line."""
        try:
            answer = predict.finish(ticket, found)
            head = _head(answer)
        except Exception as error:
            log.exception("request_crashed", request_id=ticket.call.request_id, exc_info=error)
            answer = predict.refuse(problems.crash(), ticket.call.request_id)
            head = _head(answer)
        say(answer.status, self._lines[secure] + head, answer.body)


def _head(answer: Answer) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in fields_of(answer)]).encode("latin-1")


def _end(data: bytes) -> int:
    """The length of the head that ``data`` begins with; 0 when it is not there, or long."""
    found = data.find(_END, 0, _HEAD_BYTES)
    return found + len(_END) if found > 0 else 0


def _name(peer: bytes, head: bytes) -> bytes:
    return hashlib.sha256(peer + head).digest()


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in headers)
