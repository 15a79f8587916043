"""Everything a model host may refuse or fail with: a code, a sentence, a hint and the HTTP status it deserves."""

from __future__ import annotations

from typing import Any


class Explained(Exception):  # noqa: N818  the base of errors
    """An error for a person to mend: ``code`` is stable, ``message`` says what it is, ``hint`` what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class HostError(Exception):
    """A model could not be loaded or asked. ``retry_after_s`` is set where trying again later makes sense."""

    code = "runner_error"
    status = 500

    def __init__(
        self, detail: str, hint: str = "", *, retry_after_s: float | None = None, fields: dict[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.fields = fields or {}

    def to_json(self) -> dict[str, Any]:
        """The error as it travels between processes (and as a problem body)."""
        problem: dict[str, Any] = {"code": self.code, "status": self.status, "detail": self.detail, "hint": self.hint}
        if self.retry_after_s is not None:
            problem["retry_after_s"] = self.retry_after_s
        if self.fields:
            problem["fields"] = self.fields
        return problem


class SandboxUnavailable(HostError):
    """A layer of the sandbox does not hold: nothing uploaded is run. Names the probe and the fix."""

    code = "sandbox_unavailable"
    status = 503


class HostUnavailable(HostError):
    """The runner host (runnerd) does not answer."""

    code = "runner_host_unavailable"
    status = 503


class ArtifactInvalid(HostError):
    """The artifact is missing, outside the artifact folder, or its bytes are not those of its sha256."""

    code = "artifact_invalid"
    status = 422


class LoadFailed(HostError):
    """The model's own loading raised or crashed; ``fields["log"]`` has the end of what it printed."""

    code = "load_failed"
    status = 422


class LoadTimeout(HostError):
    """The model did not finish loading before its deadline; it was killed."""

    code = "load_timeout"
    status = 504


class ModelCrashed(HostError):
    """The model's process died while it had this request."""

    code = "model_crashed"
    status = 502


class DeadlineExceeded(HostError):
    """The answer did not come in time; the model's process was killed unless it was still answering others."""

    code = "deadline_exceeded"
    status = 504


OUT_OF_MEMORY = "out of memory"  # why a runner ended, in the words of whoever watched its control group


class OutOfMemory(HostError):
    """The model wanted more memory than its quota."""

    code = "out_of_memory"
    status = 502


class ReplyTooLarge(HostError):
    """The model's answer is larger than allowed."""

    code = "reply_too_large"
    status = 502


class Busy(HostError):
    """Not now: the model is being restarted after deaths, or too many requests wait for it."""

    code = "model_busy"
    status = 503


class CacheFull(HostError):
    """The model does not fit beside the pinned ones in the cache's budget."""

    code = "model_cache_full"
    status = 503


_BY_CODE = {
    cls.code: cls
    for cls in (
        SandboxUnavailable, HostUnavailable, ArtifactInvalid, LoadFailed, LoadTimeout, ModelCrashed, DeadlineExceeded,
        OutOfMemory, ReplyTooLarge, Busy, CacheFull,
    )
}  # fmt: skip


def from_json(problem: dict[str, Any]) -> HostError:
    """The error another process sent; an unknown code becomes a plain ``HostError``."""
    cls = _BY_CODE.get(str(problem.get("code")), HostError)
    return cls(
        str(problem.get("detail", "The runner host refused.")),
        str(problem.get("hint", "")),
        retry_after_s=problem.get("retry_after_s"),
        fields=problem.get("fields"),
    )
