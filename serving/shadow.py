"""Asking shadow versions, after the answer: handed over without waiting, asked by threads of this process, told through the spool.

A shadow can neither slow nor fail an answer: what does not fit (``WAITING`` requests, ``WAITING_BYTES``) is not asked, and counted.
Both answers go to the spool as they are; the shipper compares them (serving/shadow_records.py).
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops.core import logs
from mlops.runtime.host import HostError, get_host
from serving import prediction_log, spool
from serving.dialects import parted
from serving.routing import Line

if TYPE_CHECKING:
    from serving.predict import Ticket

log = logs.get(__name__)

WAITING = 256
WAITING_BYTES = 32 << 20
THREADS = 2
_IDLE_S = 30.0
_NOBODY = 0  # owner of a spool frame whose loss is no loss of the prediction log


@dataclass(frozen=True, slots=True)
class Offer:
    """One answered request, and the shadow to put it to. ``asked`` and ``answered``: request and answer in the native dialect."""

    shadow: Line
    head: dict[str, Any]
    body: bytes
    content_type: str
    dialect: str
    extras: dict[str, Any] | None
    asked: bytes
    answered: bytes

    @property
    def size(self) -> int:
        return len(self.body) + len(self.answered) + (len(self.asked) if self.asked is not self.body else 0)


class Shadows:
    """The offers of this process, and the threads that take them. ``offer`` may be called from an event loop."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.close)

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Offer] = deque()
        self._bytes = self._threads = self._busy = 0
        self._dropped: dict[tuple[int, int, int], int] = {}

    def offer(self, ticket: Ticket, asked: bytes, answered: bytes) -> None:
        """Have the table's shadows asked what the ticket's line has answered. Never waits, never raises."""
        table, line, call = ticket.table, ticket.line, ticket.call
        for shadow in table.shadows if table is not None and line is not None else ():
            head = {
                "kind": "shadow", "organization": table.organization_id, "deployment": table.deployment_id,
                "version": shadow.version_id, "champion": line.version_id, "id": ticket.base.hex, "at": ticket.at,
            }  # fmt: skip
            self._put(Offer(shadow, head, ticket.body, call.content_type, call.dialect, call.extras, asked, answered))

    def _put(self, offer: Offer) -> None:
        with self._changed:
            if len(self._waiting) >= WAITING or self._bytes + offer.size > WAITING_BYTES:
                self._drop(offer.head)
                return
            self._waiting.append(offer)
            self._bytes += offer.size
            if self._threads < THREADS and self._threads - self._busy < len(self._waiting):
                self._threads += 1
                threading.Thread(target=self._run, name="shadow", daemon=True).start()
            self._changed.notify()

    def _drop(self, head: dict[str, Any]) -> None:
        key = (head["organization"], head["deployment"], head["version"])
        self._dropped[key] = self._dropped.get(key, 0) + 1

    def _run(self) -> None:
        while (offer := self._next()) is not None:
            try:
                _ask(offer, self._told(offer.head))
            except Exception:
                log.exception("shadow_failed", version=offer.shadow.version_id)
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _next(self) -> Offer | None:
        with self._changed:
            if not self._waiting and not self._changed.wait_for(lambda: bool(self._waiting), _IDLE_S):
                self._threads -= 1
                return None
            offer = self._waiting.popleft()
            self._bytes -= offer.size
            self._busy += 1
            return offer

    def _told(self, head: dict[str, Any]) -> int:
        """How many were dropped of this shadow since it was last told."""
        with self._changed:
            return self._dropped.pop((head["organization"], head["deployment"], head["version"]), 0)

    def settle(self, timeout_s: float) -> bool:
        """Wait until everything that was offered has been asked: for tests and endings."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def close(self) -> None:
        """At the end of the process: what was not asked is told as dropped."""
        with self._changed:
            while self._waiting:
                self._drop(self._waiting.popleft().head)
            self._bytes = 0
            dropped, self._dropped = self._dropped, {}
        for (organization, deployment, version), count in dropped.items():
            head = {
                "kind": "shadow", "organization": organization, "deployment": deployment, "version": version,
                "champion": None, "at": time.time(), "status": 0, "dropped": count,
            }  # fmt: skip
            prediction_log.writer().append(spool.frame(head, b"", b""), _NOBODY)


def _ask(offer: Offer, dropped: int) -> None:
    """Put the request to the shadow; both answers to the spool."""
    head = {**offer.head, "dropped": dropped, "answer": len(offer.answered)}
    try:
        reply = get_host().predict(
            offer.shadow.spec, offer.body, content_type=offer.content_type, dialect=offer.dialect, extras=offer.extras
        )
    except HostError as error:
        head |= {"status": error.status, "code": error.code}
        said = b""
    else:
        body, native = parted(reply.body, reply.header.get("log"))
        said = (native[1] if native else body) if reply.status == 200 else b""
        head["status"] = reply.status
    prediction_log.writer().append(spool.frame(head, offer.asked, offer.answered + said), _NOBODY)


shadows = Shadows()
