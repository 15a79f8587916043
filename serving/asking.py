"""Put many rows to a version from a job: patient with a host that is being restarted, and with a row that kills the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mlops.core import logs
from mlops.core.errors import SlipwayError
from mlops.runtime.errors import ArtifactInvalid, Busy, CacheFull, HostUnavailable
from mlops.runtime.host import HostError, ModelSpec, Reply, get_host
from registry.models import ModelVersion
from registry.services import artifacts
from serving.errors import from_host, from_reply

log = logs.get(__name__)

FIRST_TAKE, MOST_TAKE = 64, 5_000
TARGET_S = 0.5  # of one question: long enough to be efficient, short enough to be cancelled between two
WAIT_S = 90.0
DEADLY_ROWS = 25
_DEATHS = ("model_crashed", "deadline_exceeded", "out_of_memory", "reply_too_large")


def patiently(ask: Callable[[], Reply], beat: Callable[[], None], restore: Callable[[], Any]) -> Reply:
    """The answer, waiting for a host or a model that is being restarted. ``restore`` brings a file back that the host misses. Raises HostError."""
    until, pause_s = time.monotonic() + WAIT_S, 0.2
    while True:
        try:
            return ask()
        except ArtifactInvalid:
            if time.monotonic() > until:
                raise
            restore()
        except (Busy, HostUnavailable) as error:
            if time.monotonic() > until:
                raise
            pause_s = min(5.0, max(pause_s * 1.5, error.retry_after_s or 0))
        beat()
        time.sleep(pause_s)


class Asker:
    """One version, asked chunk by chunk in a runner of its own: live callers neither wait for it nor lose their runner when a row kills it.

    A chunk is what ``mlops.runtime.bulk.reading`` makes. ``deadly`` counts the rows that ended the model, each of them alone.
    """

    def __init__(self, version: ModelVersion, spec: ModelSpec, beat: Callable[[], None], *, deadly: int = 0) -> None:
        self.version, self.spec, self.beat, self.deadly = version, spec, beat, deadly
        self.shared: ModelSpec | None = artifacts.spec_for(version)  # where there is no room for a second copy
        self.host = get_host()
        self.take = FIRST_TAKE

    def some(self, chunk: bytes, *, rows: int, skip: int, **args: Any) -> Reply | None:
        """Answers to the next rows of a chunk of ``rows``: ``header["answered"]`` says how many. None: ask again, for fewer.

        ``args``: start, format, head (see ``predict_rows``). Raises SlipwayError.
        """
        take = min(self.take, rows - skip)
        begun = time.monotonic()
        found = self._ask(chunk, {**args, "skip": skip, "take": take})
        if isinstance(found, SlipwayError):
            return self._narrow(chunk, {**args, "skip": skip}, take, found)
        _check(found, take)
        passed = max(1e-3, time.monotonic() - begun)
        self.take = max(1, min(MOST_TAKE, 2 * self.take, int(take * TARGET_S / passed) + 1))
        return found

    def _ask(self, chunk: bytes, args: dict[str, Any]) -> Reply | SlipwayError:
        """The reply, or how the model ended over these rows. Raises SlipwayError for everything else."""
        limit_s = self.spec.limits.predict_s
        try:
            reply = patiently(
                lambda: self.host.call(
                    self.spec, "predict_rows", {**args, "seconds": limit_s / 2}, chunk, timeout_s=limit_s
                ),
                self.beat,
                lambda: artifacts.materialise(self.version),
            )
        except CacheFull as error:
            if self.shared is None:
                raise from_host(error) from error
            self.spec, self.shared = self.shared, None
            return self._ask(chunk, args)
        except HostError as error:
            problem = from_host(error)
        else:
            if reply.status == 200:
                return reply
            problem = from_reply(reply)
        if problem.code not in _DEATHS or args.get("condemn"):
            raise problem
        return problem

    def _narrow(self, chunk: bytes, args: dict[str, Any], take: int, problem: SlipwayError) -> Reply | None:
        """The model died, hung or outgrew its limits: ask for fewer rows, until one stands alone with it."""
        self.beat()
        if take > 1:
            self.take = max(1, take // 4)
            return None
        self.deadly += 1
        if self.deadly > DEADLY_ROWS:
            raise SlipwayError(
                f"The model ended on {self.deadly} rows, each of them alone; the last time: {problem.detail}",
                code="model_dies",
                hint="Mend the model or take such rows out, then send them again.",
            )
        self.take = FIRST_TAKE
        condemn = {"code": problem.code, "message": problem.detail[:300]}
        found = self._ask(chunk, {**args, "take": 1, "condemn": condemn})
        if isinstance(found, SlipwayError):
            raise found
        _check(found, 1)
        return found

    def end(self) -> None:
        """End the runner, if it was one of our own. A host that is gone has none."""
        if self.shared is None:
            return
        try:
            self.host.unload(self.spec.key)
        except HostError as error:
            log.info("runner_not_ended", key=self.spec.key, error=error.detail)


def _check(reply: Reply, take: int) -> None:
    """What a runner says of its answer is its tenant's claim: the counts must fit."""
    head = reply.header
    answered, failed, sizes = head["answered"], head["failed"], head["sizes"]
    if not (1 <= answered <= take and 0 <= failed <= answered and min(sizes) >= 0 and sum(sizes) == len(reply.body)):
        raise SlipwayError("The model's runner gave an answer that does not add up.", code="model_error", status=502)
