"""Runners as an event loop asks them: one connection per runner, many questions in flight on it, nothing that blocks.

What a runner's silence, death or nonsense means is not decided here: ``RunnerHost.lost`` does, in a thread, as for everybody else.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mlops.runtime import wire
from mlops.runtime.errors import HostUnavailable
from mlops.runtime.host import RunnerHost
from mlops.runtime.limits import PREDICT_CEILING_S
from mlops.runtime.routes import Runner
from mlops.runtime.spec import ModelSpec, Reply

_SWEEP_S = 0.25  # how late a deadline may be noticed
_CONNECT_S = 10.0
_LOOK_S = 0.05
_TRIES = 3
_THREADS = 4  # for words to runnerd about runners that are lost
_NEVER_SENT = -1


class NotLoaded(Exception):  # noqa: N818  not a failure
    """No runner is known for this question: have the model loaded, in a thread."""


class _Broken(Exception):
    """The connection ended before the reply; ``reached`` says whether the runner may have seen the question."""

    def __init__(self, *, reached: bool) -> None:
        super().__init__("the runner is gone")
        self.reached = reached


class Question:
    """One request to a model. It outlives the task that waits for it: who is cancelled leaves it to be waited for by another."""

    __slots__ = ("begun", "body", "deadline", "error", "header", "id", "reply", "runner", "spec", "told")

    def __init__(self, spec: ModelSpec, header: dict[str, Any], body: bytes) -> None:
        self.spec, self.header, self.body = spec, header, body
        self.id = _NEVER_SENT
        self.begun = self.deadline = 0.0
        self.runner: Runner | None = None
        self.told: Callable[[], None] | None = None  # whom to tell, once, that there is a reply or an error
        self.reply: Reply | None = None
        self.error: Exception | None = None

    def settle(self, reply: Reply | None, error: Exception | None) -> None:
        """The line is done with it."""
        self.reply, self.error = reply, error
        if self.runner is not None:
            self.runner.in_flight -= 1
        told, self.told = self.told, None
        if told is not None:
            told()


class _Line(asyncio.Protocol):
    """A connection to one runner. What is written in one turn of the loop leaves in one write."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str, reply_bytes: int) -> None:
        self._loop, self._path, self._cap = loop, path, reply_bytes
        self._ids = itertools.count(1)
        self._waiting: dict[int, Question] = {}
        self._given_up: set[int] = set()
        self._unsent: list[bytes] = []
        self._flushing = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = wire.FrameBuffer(reply_bytes)
        self.closed = False

    # -- the loop's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a socket's
        if self.closed:
            transport.close()
        elif self._unsent:
            self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._buffer.feed(data):
                question = self._waiting.pop(frame.request_id, None)
                if question is not None:
                    question.settle(Reply(frame.status, frame.header, frame.body), None)
                elif frame.request_id in self._given_up:
                    self._given_up.discard(frame.request_id)
                else:
                    raise wire.WireError("it answered another request")
        except wire.WireError as error:
            self.fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(_Broken(reached=True))

    # -- the asker's side -------------------------------------------------------------------------------------------

    def send(self, question: Question) -> None:
        question.id = next(self._ids)
        self._waiting[question.id] = question
        self._unsent.append(wire.pack(question.id, question.header, question.body))
        if not self._flushing and self._transport is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def fail(self, error: Exception) -> None:
        """Nothing more comes from here: everybody who waits is told."""
        if self.closed:
            return
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, {}
        for question in waiting.values():
            question.settle(None, error)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self.closed:
            return
        unsent, self._unsent = self._unsent, []
        self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def _sweep(self) -> None:
        """Questions past their deadline are given up. The line stays: the answer, should it come, is dropped."""
        now = time.monotonic()
        for late in [each for each in self._waiting.values() if each.deadline <= now]:
            del self._waiting[late.id]
            self._given_up.add(late.id)
            late.settle(None, TimeoutError("deadline"))
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep) if self._waiting else None


class AsyncHost:
    """Asks the runners of one RunnerHost. Belongs to the running event loop."""

    def __init__(self, host: RunnerHost) -> None:
        self.host = host
        self._loop = asyncio.get_running_loop()
        self._lines: dict[str, _Line] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lost-runners")
        self._connecting: set[asyncio.Task[None]] = set()

    def question(
        self,
        spec: ModelSpec,
        body: bytes,
        *,
        content_type: str,
        base_id: uuid.UUID,
        dialect: str,
        extras: dict[str, Any] | None,
    ) -> Question:
        """A request as ``RunnerHost.predict`` would send it."""
        header = {"op": "predict", "dialect": dialect, "content_type": content_type, "base_id": base_id.hex}
        return Question(spec, {**extras, **header} if extras else header, body)

    async def ask(self, question: Question) -> Reply:
        """The runner's reply. Raises HostError, or NotLoaded. After a cancellation it may be called again: it goes on waiting."""
        for _ in range(_TRIES):
            if question.runner is None:
                self._send(question)
            if question.reply is None and question.error is None:
                told = asyncio.Event()
                question.told = told.set
                await told.wait()
            if (reply := self.reply_of(question)) is not None:
                return reply
            await self._loop.run_in_executor(self._threads, self._lost, question)
            question.runner = question.error = None
        raise HostUnavailable("The model's runner could not be reached.", "Try again.", retry_after_s=1)

    def post(self, question: Question, told: Callable[[], None]) -> None:
        """Send the question, once; ``told`` is called when it has its reply or an error, with which ``ask`` goes on. Raises NotLoaded or Busy."""
        question.told = told
        self._send(question)

    def reply_of(self, question: Question) -> Reply | None:
        """The reply of a question that is settled; None when it has an error."""
        if question.reply is not None:
            self.host.note_use(question.spec.key)
        return question.reply

    async def drained(self, patience_s: float) -> None:
        """Wait until nothing is asked any more, or that long."""
        deadline = time.monotonic() + patience_s
        while any(line.busy for line in self._lines.values()) and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)

    def close(self) -> None:
        """No more questions."""
        for line in list(self._lines.values()):
            line.fail(_Broken(reached=True))
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, question: Question) -> None:
        spec = question.spec
        runner = self.host.warm_runner(spec)
        if runner is None:
            raise NotLoaded
        question.begun = time.monotonic()
        timeout_s = min(spec.limits.predict_s, max(PREDICT_CEILING_S, spec.limits.load_s))
        question.deadline = question.header["until"] = question.begun + timeout_s
        question.runner = runner
        runner.in_flight += 1
        self._line(runner.socket_path, spec).send(question)

    def _lost(self, question: Question) -> None:
        error, runner = question.error, question.runner
        assert runner is not None  # noqa: S101  it was sent
        self.host.lost(
            question.spec,
            runner,
            question.begun,
            timed_out=isinstance(error, TimeoutError),
            reached=not isinstance(error, _Broken) or error.reached,
            babble=error if isinstance(error, wire.WireError) else None,
        )

    def _line(self, path: str, spec: ModelSpec) -> _Line:
        line = self._lines.get(path)
        if line is None or line.closed:
            for gone in [known for known, each in self._lines.items() if each.closed]:
                del self._lines[gone]
            line = self._lines[path] = _Line(self._loop, path, spec.limits.reply_bytes)
            task = self._loop.create_task(self._connect(line, path))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        return line

    async def _connect(self, line: _Line, path: str) -> None:
        try:
            sock = await self._loop.run_in_executor(self._threads, wire.connect, path, _CONNECT_S)
            sock.setblocking(False)
            await self._loop.create_unix_connection(lambda: line, sock=sock)
        except OSError:
            line.fail(_Broken(reached=False))
