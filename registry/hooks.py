"""What a git server tells us, in two dialects: how its call is signed, and what it says happened. Plain functions, no rows.

GitHub: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
Generic: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mlops.core import errors
from registry.git import address

LIMIT_BYTES = 1 << 20
SKEW_S = 300
_ID = re.compile(r"[\x21-\x7e]{1,200}")
_OPENED = ("opened", "synchronize", "reopened")


@dataclass(frozen=True)
class Call:
    """A webhook call that was signed well."""

    delivery_id: str
    event: str
    body: bytes


@dataclass(frozen=True)
class Event:
    """``pushed``, ``closed`` or ``nothing`` (``reason`` says why, or what it is)."""

    what: str
    reason: str = ""
    branch: str = ""
    sha: str = ""
    ref: str = ""
    pull_request: int | None = None
    message: str = ""
    author: str = ""


# --- Signatures -----------------------------------------------------------------------------------------------------------


def verify_github(headers: Mapping[str, str], body: bytes, secrets: Iterable[str]) -> Call | None:
    """None unless ``X-Hub-Signature-256`` is the HMAC of exactly these bytes under one of the secrets."""
    given = headers.get("X-Hub-Signature-256", "").encode("latin-1", "replace")
    good = _any_equal(
        [given], [b"sha256=" + hmac.new(each.encode(), body, hashlib.sha256).hexdigest().encode() for each in secrets]
    )
    delivery, event = headers.get("X-GitHub-Delivery", ""), headers.get("X-GitHub-Event", "")
    return Call(delivery, event[:40], body) if good and _ID.fullmatch(delivery) else None


def verify_generic(headers: Mapping[str, str], body: bytes, secrets: Iterable[str]) -> Call | None:
    """None unless a ``v1`` of ``webhook-signature`` is the HMAC of id, time and body, and the time is within five minutes of ours."""
    delivery, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = [
        part.removeprefix("v1,").encode("latin-1", "replace")
        for part in headers.get("webhook-signature", "").split(" ")[:10]
        if part.startswith("v1,")
    ]
    signed = f"{delivery}.{at}.".encode("latin-1", "replace") + body
    good = _any_equal(
        given, [base64.b64encode(hmac.new(_key(each), signed, hashlib.sha256).digest()) for each in secrets]
    )
    fresh = re.fullmatch(r"[0-9]{1,12}", at) is not None and abs(time.time() - int(at)) <= SKEW_S
    return Call(delivery, "push", body) if good and fresh and _ID.fullmatch(delivery) else None


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return secret.encode()


def _any_equal(given: list[bytes], wanted: list[bytes]) -> bool:
    """Compares all with all, in constant time each."""
    equal = [hmac.compare_digest(one, other) for one in given for other in wanted]
    return any(equal)


# --- What happened --------------------------------------------------------------------------------------------------------


def event_of(call: Call, *, github: bool, clone_url: str) -> Event:
    """Raises BadRequest for a body that is no JSON object, Invalid for one about another repository."""
    try:
        body = orjson.loads(call.body)
    except orjson.JSONDecodeError as error:
        raise errors.BadRequest(
            "The body is not JSON.",
            code="malformed_json",
            hint="Choose the content type application/json for the webhook.",
        ) from error
    if not isinstance(body, dict):
        raise errors.BadRequest("The body is not a JSON object.", code="malformed_json")
    if not github:
        _same_repository(body.get("repository"), clone_url, must=False)
        return _generic(body)
    if call.event == "ping":
        return Event("nothing", "pong")
    _same_repository(body.get("repository"), clone_url, must=True)
    return {"push": _pushed, "pull_request": _pull_request, "delete": _deleted}.get(call.event, _other)(body)


def _other(body: dict[str, Any]) -> Event:
    return Event("nothing", "not an event we act on")


def _same_repository(told: Any, clone_url: str, *, must: bool) -> None:
    names = told if isinstance(told, dict) else {}
    full_name, url = names.get("full_name"), names.get("clone_url")
    if not must and full_name is None and url is None:
        return
    good = isinstance(full_name, str) and full_name.lower() == address.repository(clone_url)
    if not must and full_name is None:
        good = True
    if url is not None:
        good = good and isinstance(url, str) and _bare(url) == _bare(clone_url)
    if not good:
        raise errors.Invalid(
            "This webhook is of another repository.",
            code="other_repository",
            hint=f"This source is {address.repository(clone_url)}: give each repository a source of its own.",
        )


def _bare(url: str) -> str:
    return url.strip().lower().rstrip("/").removesuffix(".git")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _commit(branch: str, sha: Any, **more: Any) -> Event:
    if not address.is_branch(branch):
        return Event("nothing", "a branch whose name we do not take")
    if not isinstance(sha, str) or not address.SHA.fullmatch(sha) or not sha.strip("0"):
        raise errors.Invalid(
            "The body names no commit.", code="commit_missing", hint='"after" or "sha": 40 hex digits.'
        )
    return Event("pushed", branch=branch, sha=sha, **more)


def _pushed(body: dict[str, Any]) -> Event:
    ref = _text(body.get("ref"))
    if not ref.startswith("refs/heads/"):
        return Event("nothing", "not a branch")
    branch, after = ref.removeprefix("refs/heads/"), _text(body.get("after"))
    if body.get("deleted") is True or (after and not after.strip("0")):
        return Event("closed", branch=branch)
    head = _dict(body.get("head_commit"))
    author = _dict(head.get("author"))
    return _commit(branch, after, message=_text(head.get("message")), author=_text(author.get("name")))


def _deleted(body: dict[str, Any]) -> Event:
    if body.get("ref_type") != "branch":
        return Event("nothing", "not a branch")
    return Event("closed", branch=_text(body.get("ref")))


def _pull_request(body: dict[str, Any]) -> Event:
    """A fork's commits are not deployed: whoever may open a pull request could have us run and publish theirs."""
    number, action, request = body.get("number"), body.get("action"), _dict(body.get("pull_request"))
    if not isinstance(number, int) or not 0 < number < 1 << 31:
        raise errors.Invalid("The body names no pull request.", code="pull_request_missing")
    if action == "closed":
        return Event("closed", pull_request=number)
    if action not in _OPENED:
        return Event("nothing", "not an action we act on")
    head = _dict(request.get("head"))
    whose = _text(_dict(head.get("repo")).get("full_name")).lower()
    if whose != _text(_dict(body.get("repository")).get("full_name")).lower():
        return Event("nothing", "from a fork")
    return _commit(
        _text(head.get("ref")),
        head.get("sha"),
        ref=f"refs/pull/{number}/head",
        pull_request=number,
        message=_text(request.get("title")),
        author=_text(_dict(request.get("user")).get("login")),
    )


def _generic(body: dict[str, Any]) -> Event:
    """``{"ref", "sha" or "after", "pull_request"?, "deleted"?, "message"?, "author"?}``"""
    branch = _text(body.get("ref")).removeprefix("refs/heads/")
    number = body.get("pull_request")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 1 << 31):
        raise errors.Invalid('"pull_request" is a number.', code="pull_request_missing")
    if body.get("closed") is True and number is not None:
        return Event("closed", pull_request=number)
    if branch.startswith("refs/"):
        return Event("nothing", "not a branch")
    sha = body.get("sha") or body.get("after")
    if body.get("deleted") is True or (isinstance(sha, str) and sha and not sha.strip("0")):
        return Event("closed", branch=branch)
    return _commit(
        branch, sha, pull_request=number, message=_text(body.get("message")), author=_text(body.get("author"))
    )
