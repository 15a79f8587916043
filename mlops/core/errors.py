"""Every error a person or a client may see: a code for programs, a sentence for people, a hint that says what to do.

Raise them anywhere; ``mlops.core.problems`` turns them into problem+json, a page or a toast, once, at the edge.
"""

from __future__ import annotations

from typing import Any


class SlipwayError(Exception):
    """An expected failure. ``detail`` says what happened, ``hint`` what to do, ``fields`` which input was wrong."""

    code = "error"
    status = 400
    hint = ""

    def __init__(
        self,
        detail: str,
        *,
        code: str = "",
        hint: str = "",
        fields: dict[str, list[str]] | list[dict[str, Any]] | None = None,
        status: int = 0,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.hint = hint or type(self).hint
        self.status = status or type(self).status
        self.fields = fields
        self.retry_after_s = retry_after_s
        self.headers = headers or {}  # sent with the answer, e.g. RateLimit-*

    def as_problem(self) -> dict[str, Any]:
        """The RFC 9457 body, without request id."""
        problem: dict[str, Any] = {
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.hint:
            problem["hint"] = self.hint
        if self.fields:
            problem["errors"] = self.fields
        return problem


class NotWarm(Exception):  # noqa: N818  not a failure
    """Memory alone cannot answer this: go the way that may ask the database. Never shown to anyone."""


class BadRequest(SlipwayError):
    code, status = "bad_request", 400


class Unauthenticated(SlipwayError):
    code, status = "unauthenticated", 401
    hint = "Send an API key: Authorization: Bearer sk_live_..."


class Forbidden(SlipwayError):
    code, status = "forbidden", 403


class NotFound(SlipwayError):
    """Also the answer for another organisation's rows: a stranger cannot tell them from missing ones."""

    code, status = "not_found", 404
    hint = "Check the address and that your key or account belongs to this organisation."


class Conflict(SlipwayError):
    code, status = "conflict", 409


class TooLarge(SlipwayError):
    code, status = "too_large", 413


class UnsupportedMediaType(SlipwayError):
    code, status = "unsupported_media_type", 415


class Invalid(SlipwayError):
    code, status = "invalid", 422


class RateLimited(SlipwayError):
    code, status = "rate_limited", 429
    hint = "Wait for the time in Retry-After, or spread the calls."


class NotReady(SlipwayError):
    code, status = "not_ready", 503


class StorageFull(SlipwayError):
    code, status = "storage_full", 507
    hint = "Free disk space on the server, then send it again: nothing of this upload was kept."


_TITLES = {
    400: "Bad request",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported content type",
    422: "Invalid input",
    429: "Too many requests",
    500: "Something broke on our side",
    502: "The model failed",
    503: "Not ready",
    504: "Took too long",
    507: "Storage full",
}
