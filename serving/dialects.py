"""What the web adds to a dialect: which bodies it takes, what of a runner's answer may pass, and how it says no.

The runner reads bodies and writes answers (mlops.runtime.dialects). Refusals are made in many places, here and there; each dialect puts all of
them into its own words here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from mlops.core import errors
from mlops.core.errors import SlipwayError

JSON = "application/json"
PROBLEM = "application/problem+json"
_HEADERS = frozenset(("Inference-Header-Content-Length",))  # what a runner may add to an answer: whole numbers
_Refusal = tuple[int, bytes, str]  # status, body, content type


@dataclass(frozen=True)
class Dialect:
    """``takes``: media types of a request (empty: any; its clients do not say). ``gives``: of an answer."""

    takes: frozenset[str]
    gives: frozenset[str]
    refuse: Callable[[SlipwayError, dict[str, Any]], _Refusal]
    hint: str = ""

    def check(self, content_type: str) -> None:
        """Raises UnsupportedMediaType."""
        if self.takes and content_type.partition(";")[0].strip().lower() not in self.takes:
            raise errors.UnsupportedMediaType(
                f"Predictions take {' or '.join(sorted(self.takes))}, not {content_type[:80] or 'a body without a type'!r}.",
                hint=self.hint,
            )

    def content_type(self, said: Any) -> str:
        """What the runner says its answer is, if this dialect has such answers."""
        return said if isinstance(said, str) and said in self.gives else JSON

    def headers(self, said: Any) -> dict[str, str]:
        """The runner's own headers that may pass: its answer is its tenant's claim."""
        given = said if isinstance(said, dict) else {}
        return {
            name: value
            for name, value in given.items()
            if name in _HEADERS and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12
        }


def parted(body: bytes, log: Any) -> tuple[bytes, tuple[bytes, bytes] | None]:
    """(what is the client's, native request and answer for the log): the runner puts the latter at the end and says how long they are."""
    if not (isinstance(log, list) and len(log) == 2 and all(type(size) is int and size >= 0 for size in log)):
        return body, None
    end = len(body) - sum(log)
    if end < 0:
        return body, None
    return body[:end], (body[end : end + log[0]], body[end + log[0] :])


def _native(error: SlipwayError, problem: dict[str, Any]) -> _Refusal:
    return error.status, orjson.dumps(problem), PROBLEM


def _v2(error: SlipwayError, problem: dict[str, Any]) -> _Refusal:
    """The protocol knows no 422: a tensor that does not fit is 400."""
    return _as_400(error), orjson.dumps({"error": _sentence(error)}), JSON


def _mlflow(error: SlipwayError, problem: dict[str, Any]) -> _Refusal:
    if error.status == 415:
        return 415, _sentence(error).encode(), "text/plain"
    status = _as_400(error)
    code = _MLFLOW_CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
    said = {"error_code": code, "message": _sentence(error)}
    return status, orjson.dumps(said), JSON


_MLFLOW_CODES = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST", 409: "RESOURCE_CONFLICT",
    429: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE",
}  # fmt: skip


def _as_400(error: SlipwayError) -> int:
    return 400 if error.status == 422 else error.status


def _sentence(error: SlipwayError) -> str:
    return f"{error.detail} {error.hint}".strip()


DIALECTS = {
    "native": Dialect(
        frozenset((JSON,)), frozenset((JSON,)), _native,
        'Send {"inputs": [{"column": value}]} with Content-Type: application/json.',
    ),
    "v2": Dialect(frozenset(), frozenset((JSON, "application/octet-stream")), _v2),
    "kserve": Dialect(frozenset(), frozenset((JSON,)), _v2),
    "mlflow": Dialect(
        frozenset((JSON, "text/csv", "application/vnd.apache.parquet")), frozenset((JSON,)), _mlflow,
        "This predictor only supports these content types; their only parameter is charset=utf-8.",
    ),
}  # fmt: skip
