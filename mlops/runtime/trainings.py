"""Trainings of users' code, from the supervisor's end: begun, watched, ended at their bounds, remembered for a while.

Each is one process like a runner, with one folder to write. It belongs to runnerd, not to whoever asked: a worker may die meanwhile.
When runnerd dies its trainings die with it; ``told`` then knows nothing of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from mlops.runtime import wire
from mlops.runtime.environments import tree
from mlops.runtime.errors import ArtifactInvalid, Busy, HostError
from mlops.runtime.limits import THREADS
from mlops.runtime.loading import Loader, tail
from mlops.runtime.nursery import Config, Nursery
from mlops.runtime.runners import Child
from mlops.runtime.spec import ModelSpec

logger = logging.getLogger("slipway.runnerd")
_LOOK_S = 0.25  # between two looks at what it has written
_KEPT = 64  # ended ones that are remembered
_LOG_CHARACTERS = 64_000
_END_S = 5.0


class TrainingFailed(HostError):
    """The user's training did not come to its end; ``fields["reason"]`` says how."""

    code = "train_failed"
    status = 422


@dataclass
class Training:
    """``state``: running, done, failed or stopped."""

    spec: ModelSpec
    folder: str
    out_bytes: int
    began: float = field(default_factory=time.time)
    state: str = "running"
    child: Child | None = None
    log: str = ""
    error: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    ended: float = 0.0
    stop: str = ""  # why somebody wants it to end
    bytes: int = 0

    def told(self) -> dict[str, Any]:
        child = self.child
        log = child.log.text() if child is not None else self.log
        return {
            "state": self.state,
            "seconds": round((self.ended or time.time()) - self.began, 1),
            "log": tail(log, _LOG_CHARACTERS),
            "error": self.error,
            "metrics": self.metrics,
            "written_bytes": self.bytes,
        }


class Trainings:
    """Thread-safe. ``most`` at one time."""

    def __init__(self, config: Config, nursery: Nursery, loader: Loader, most: int = 1) -> None:
        self._config, self._nursery, self._loader, self._most = config, nursery, loader, most
        self._lock = threading.Lock()
        self._all: dict[str, Training] = {}

    def start(self, spec: ModelSpec, folder: str, out_bytes: int) -> None:
        """Begin, unless a training of this key is known already. Raises Busy when others are at it, ArtifactInvalid, HostError."""
        self._nursery.require_sandbox()
        self._check(spec, folder)
        with self._lock:
            if spec.key in self._all:
                return
            if sum(each.state == "running" for each in self._all.values()) >= self._most:
                raise Busy(
                    "Another training is under way on this server.", "This one waits for its turn.", retry_after_s=30
                )
            training = self._all[spec.key] = Training(spec, folder, out_bytes)
            self._forget_oldest()
        threading.Thread(target=self._run, args=(training,), name="training", daemon=True).start()

    def told(self, key: str) -> dict[str, Any]:
        """How it goes; ``{"state": "unknown"}`` of one that this runner host never had or has forgotten."""
        training = self._all.get(key)
        return {"state": "unknown"} if training is None else training.told()

    def stop(self, key: str, why: str) -> bool:
        """End it now. False when it does not run."""
        training = self._all.get(key)
        if training is None or training.state != "running":
            return False
        training.stop = why or "stopped"
        if training.child is not None:
            training.child.kill()
        return True

    def forget(self, key: str) -> None:
        """Away with what is known of one that has ended."""
        with self._lock:
            training = self._all.get(key)
            if training is not None and training.state != "running":
                del self._all[key]

    def _forget_oldest(self) -> None:
        ended = [key for key, each in self._all.items() if each.state != "running"]
        for key in ended[: max(0, len(ended) - _KEPT)]:
            del self._all[key]

    def _check(self, spec: ModelSpec, folder: str) -> None:
        """``folder`` is ROOT/<name>, with data and work in it, none of them a link. Raises ArtifactInvalid."""
        if os.path.dirname(os.path.realpath(folder)) not in self._config.trainings:
            raise ArtifactInvalid(
                "The training's folder is outside the trainings folder.",
                "Start runnerd with --trainings of the web's SLIPWAY_VAR.",
            )
        if spec.options.get("data") != os.path.join(folder, "data") or spec.options.get("work") != os.path.join(
            folder, "work"
        ):
            raise ArtifactInvalid("The training's data and work lie elsewhere.")
        for path in (folder, str(spec.options["data"]), str(spec.options["work"])):
            try:
                plain = stat.S_ISDIR(os.lstat(path).st_mode)
            except OSError as error:
                raise ArtifactInvalid(f"The training's folder cannot be read: {error.strerror}.") from error
            if not plain:
                raise ArtifactInvalid("The training's folder is not a plain one.")

    # -- one training ---------------------------------------------------------------------------------------------

    def _run(self, training: Training) -> None:
        try:
            self._nursery.prove_trainings(os.path.dirname(training.folder))
            child = self._loader.training(
                training.spec,
                str(training.spec.options["data"]),
                str(training.spec.options["work"]),
                training.out_bytes,
            )
            training.child = child
            if training.stop:
                child.kill()
            try:
                training.metrics = self._watch(training, child)
            finally:
                self._end(training, child)
            training.state = "done"
        except HostError as error:
            training.error = error.to_json()
            training.state = "stopped" if training.stop else "failed"
        except Exception as error:  # nobody waits for this thread: the row must end
            logger.exception("training failed")
            training.error = HostError(
                f"The runner host failed: {type(error).__name__}.", "See runnerd's log."
            ).to_json()
            training.state = "failed"
        finally:
            training.ended = time.time()

    def _end(self, training: Training, child: Child) -> None:
        """Nothing of it writes any more when this returns."""
        child.kill()
        child.exited.wait(_END_S)
        child.log.ended.wait(0.5)
        training.log, training.child = child.log.text(), None
        training.bytes = self._written(training)
        child.close()

    def _watch(self, training: Training, child: Child) -> dict[str, float]:
        """Until it says how it went. Raises HostError."""
        limit_s = training.spec.limits.load_s
        deadline = time.monotonic() + limit_s
        with contextlib.suppress(TimeoutError):
            child.send({"op": "train", "spec": training.spec.to_json()}, deadline)
        while True:
            try:
                event = child.next_event(min(deadline, time.monotonic() + _LOOK_S))
            except TimeoutError:
                self._look(training, child, deadline, limit_s)
                continue
            except wire.WireError:
                raise self._ended(training, child) from None
            found = self._heard(training, event)
            if found is not None:
                self._look(training, child, deadline + _END_S, limit_s)
                return found

    def _heard(self, training: Training, event: dict[str, Any]) -> dict[str, float] | None:
        name = event.get("event")
        if name == "locked":
            return None
        if name == "trained" and isinstance(event.get("metrics"), dict):
            with contextlib.suppress(TypeError, ValueError):
                return {str(key)[:60]: float(value) for key, value in list(event["metrics"].items())[:50]}
            return {}
        if name == "train_failed":
            raise TrainingFailed(
                str(event.get("detail", ""))[:2000],
                str(event.get("hint", ""))[:2000],
                fields={"reason": str(event.get("code", ""))[:60]},
            )
        if name == "load_failed":  # its libraries could not be imported
            raise TrainingFailed(str(event.get("detail", ""))[:2000], str(event.get("hint", ""))[:2000])
        if name == "sandbox_failed":
            raise self._loader.leaked(training.spec, event)
        raise TrainingFailed("The training spoke nonsense on its line and was stopped.", fields={"reason": "babble"})

    def _look(self, training: Training, child: Child, deadline: float, limit_s: float) -> None:
        """Its bounds. Raises TrainingFailed."""
        training.bytes = self._written(training)
        if training.bytes > training.out_bytes:
            raise TrainingFailed(
                f"The training wrote more than {training.out_bytes >> 20:,} MB and was stopped.",
                "Write the model alone into out_dir.",
                fields={"reason": "too_large"},
            )
        if child.threads() > THREADS + 8:
            raise TrainingFailed(
                "The training had too many threads and was stopped.", "Use fewer jobs.", fields={"reason": "threads"}
            )
        if time.monotonic() > deadline:
            raise TrainingFailed(
                f"The training did not end within {_minutes(limit_s)} and was stopped.",
                "Train on fewer rows, or allow it more time.",
                fields={"reason": "timeout"},
            )

    def _written(self, training: Training) -> int:
        return tree.size_of(training.spec.options["work"], training.out_bytes)

    def _ended(self, training: Training, child: Child) -> HostError:
        """Why its process is gone."""
        child.exited.wait(1.0)
        child.log.ended.wait(0.2)
        if training.stop:
            return TrainingFailed(training.stop, fields={"reason": "stopped"})
        if child.orphaned:
            return HostError("The runner host's template process ended while the training ran.", "It is tried again.")
        log, how = child.log.text(), child.why_it_ended()
        if child.out_of_memory or "bad_alloc" in log[-4000:] or "annot allocate memory" in log[-4000:]:
            return TrainingFailed(
                "The training needs more memory than it may use.",
                "Train on fewer rows, or allow it more memory.",
                fields={"reason": "out_of_memory"},
            )
        if how == "SIGXCPU":
            how = "it used up its processor time"
        return TrainingFailed(
            f"The training's process died ({how}).", "Its log may say why.", fields={"reason": "crashed"}
        )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:g} s"
