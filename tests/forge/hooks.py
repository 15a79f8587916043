"""What git servers send: bodies as GitHub writes them (the fields that matter), and both kinds of signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

from django.http import HttpResponse
from django.test import Client

from tests.forge.git_server import Repository


def repository_facts(repo: Repository) -> dict[str, Any]:
    return {"full_name": repo.name, "clone_url": repo.url}


def push_body(repo: Repository, sha: str, branch: str = "main", message: str = "A model") -> dict[str, Any]:
    return {
        "ref": f"refs/heads/{branch}",
        "before": "0" * 40,
        "after": sha,
        "deleted": sha.strip("0") == "",
        "repository": repository_facts(repo),
        "head_commit": {"id": sha, "message": message, "author": {"name": "Ada", "email": "ada@acme.test"}},
    }


def pull_request_body(
    repo: Repository, sha: str, branch: str, number: int = 42, action: str = "opened", head: str = ""
) -> dict[str, Any]:
    return {
        "action": action,
        "number": number,
        "repository": repository_facts(repo),
        "pull_request": {
            "number": number,
            "title": "A better model",
            "user": {"login": "ada"},
            "head": {"ref": branch, "sha": sha, "repo": {"full_name": head or repo.name}},
            "base": {"ref": "main", "repo": repository_facts(repo)},
        },
    }


def github_signature(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def generic_signature(secret: str, delivery: str, at: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return (
        "v1," + base64.b64encode(hmac.new(key, f"{delivery}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    )


def send_github(
    url: str, secret: str, event: str, body: dict[str, Any] | bytes, *, delivery: str = "", signature: str = ""
) -> HttpResponse:
    """The call GitHub makes: no cookie, no key."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature-256": signature or github_signature(secret, raw),
    }
    return Client(enforce_csrf_checks=True).post(_path(url), raw, content_type="application/json", headers=headers)


def send_generic(
    url: str, secret: str, body: dict[str, Any], *, delivery: str = "", at: int | None = None, signature: str = ""
) -> HttpResponse:
    raw, delivery, at = (
        json.dumps(body).encode(),
        delivery or f"msg_{uuid.uuid4().hex}",
        int(time.time()) if at is None else at,
    )
    headers = {
        "webhook-id": delivery,
        "webhook-timestamp": str(at),
        "webhook-signature": signature or generic_signature(secret, delivery, at, raw),
    }
    return Client(enforce_csrf_checks=True).post(_path(url), raw, content_type="application/json", headers=headers)


def _path(url: str) -> str:
    return "/hooks/" + url.rsplit("/hooks/", 1)[1]
