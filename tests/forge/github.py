"""GitHub's REST API as the forge speaks it: the endpoints Slipway uses, with GitHub's shapes, status codes and refusals.

Shapes after https://docs.github.com/en/rest (version 2022-11-28); served under ``/api/v3`` as a GitHub Enterprise Server does.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PREFIX = "/api/v3/"
Answer = tuple[int, Any, dict[str, str]]


class GitHub:
    """``tokens`` are those that open the repository; with ``app`` set, an installation's tokens, too."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}  # token -> login
        self.forbidden: set[str] = set()  # tokens that may read only
        self.issues = {42, 43}
        self.commits: set[str] = set()  # empty: every one is known
        self.statuses: list[dict[str, Any]] = []
        self.comments: dict[int, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.refusals: list[Answer] = []  # the next calls get these
        self.app_id, self.installation_id = "", ""
        self.app_key: rsa.RSAPrivateKey | None = None
        self.token_life_s = 3600
        self.minted = 0
        self._next = 1000

    # -- what a test says -------------------------------------------------------------------------------------------

    def with_app(self, app_id: str = "7", installation_id: str = "88") -> str:
        """An App that is installed; its private key as PEM."""
        self.app_id, self.installation_id = app_id, installation_id
        self.app_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        kind, form = serialization.PrivateFormat.TraditionalOpenSSL, serialization.Encoding.PEM
        return self.app_key.private_bytes(form, kind, serialization.NoEncryption()).decode()

    def refuse(self, status: int, message: str = "no", **headers: str) -> None:
        self.refusals.append((status, {"message": message}, {name.replace("_", "-"): value for name, value in headers.items()}))  # fmt: skip

    def add_comment(self, number: int, body: str, login: str, app: str = "") -> int:
        self._next += 1
        via = {"id": int(app), "slug": "slipway"} if app else None
        self.comments[self._next] = {"id": self._next, "issue": number, "body": body, "user": {"login": login}, "performed_via_github_app": via}  # fmt: skip
        return self._next

    def states(self, sha: str) -> list[str]:
        return [each["state"] for each in self.statuses if each["sha"] == sha]

    # -- what it answers --------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.asked.append((method, path))
        if self.refusals:
            return self.refusals.pop(0)
        if headers.get("Accept") != "application/vnd.github+json" or not headers.get("User-Agent"):
            return 406, {"message": "Must accept 'application/json'"}, {}
        path, _, query = path.removeprefix(PREFIX.rstrip("/")).partition("?")
        bearer = headers.get("Authorization", "").removeprefix("Bearer ")
        if found := re.fullmatch(r"/app/installations/(\d+)/access_tokens", path):
            return self._mint(found[1], bearer, json.loads(body or b"{}"))
        login = self.tokens.get(bearer)
        if login is None:
            return 401, {"message": "Bad credentials"}, {}
        if path == "/user":
            return 200, {"login": login, "id": 1}, {}
        if bearer in self.forbidden and method != "GET":
            return (
                403,
                {"message": "Resource not accessible by personal access token"},
                {"X-RateLimit-Remaining": "4999"},
            )
        return self._of_repository(method, path, query, login, json.loads(body or b"null"))

    def _of_repository(self, method: str, path: str, query: str, login: str, said: Any) -> Answer:
        if found := re.fullmatch(r"/repos/acme/churn/statuses/([0-9a-f]{40})", path):
            return self._status(found[1], said)
        if found := re.fullmatch(r"/repos/acme/churn/issues/(\d+)/comments", path):
            number = int(found[1])
            if number not in self.issues:
                return 404, {"message": "Not Found"}, {}
            return self._listed(number, query) if method == "GET" else self._commented(number, login, said)
        if found := re.fullmatch(r"/repos/acme/churn/issues/comments/(\d+)", path):
            comment = self.comments.get(int(found[1]))
            if comment is None or method != "PATCH":
                return 404, {"message": "Not Found"}, {}
            comment["body"] = said["body"]
            return 200, comment, {}
        return 404, {"message": "Not Found"}, {}

    def _status(self, sha: str, said: dict[str, Any]) -> Answer:
        good = (
            said.get("state") in ("pending", "success", "failure", "error") and len(said.get("description", "")) <= 140
        )
        if not good or not said["target_url"].startswith("http") or (self.commits and sha not in self.commits):
            return 422, {"message": f"No commit found for SHA: {sha}" if good else "Validation Failed"}, {}
        self.statuses.append({"sha": sha, **said})
        return 201, {"id": len(self.statuses), **said}, {}

    def _listed(self, number: int, query: str) -> Answer:
        asked = dict(part.split("=") for part in query.split("&"))
        size, page = int(asked["per_page"]), int(asked["page"])
        rows = [each for each in self.comments.values() if each["issue"] == number]
        return 200, rows[size * (page - 1) : size * page], {}

    def _commented(self, number: int, login: str, said: dict[str, Any]) -> Answer:
        if not said["body"] or len(said["body"]) > 65_536:
            return 422, {"message": "Validation Failed"}, {}
        made = self.add_comment(number, said["body"], login, self.app_id if login.endswith("[bot]") else "")
        return 201, self.comments[made], {}

    def _mint(self, installation: str, jwt: str, said: dict[str, Any]) -> Answer:
        if not self._signed_by_app(jwt):
            return 401, {"message": "A JSON web token could not be decoded"}, {}
        if installation != self.installation_id:
            return 404, {"message": "Not Found"}, {}
        if said.get("repositories") != ["churn"]:
            return 422, {"message": "There is at least one repository that does not exist or is not accessible"}, {}
        self.minted += 1
        token = f"ghs_{self.minted}"
        self.tokens[token] = "slipway[bot]"
        until = datetime.now(UTC) + timedelta(seconds=self.token_life_s)
        return 201, {"token": token, "expires_at": until.strftime("%Y-%m-%dT%H:%M:%SZ")}, {}

    def _signed_by_app(self, jwt: str) -> bool:
        if self.app_key is None or jwt.count(".") != 2:
            return False
        signed, _, signature = jwt.rpartition(".")
        try:
            self.app_key.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        head, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        now = time.time()
        in_time = claims["iat"] <= now < claims["exp"] <= now + 600
        return head["alg"] == "RS256" and str(claims["iss"]) == self.app_id and in_time


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
