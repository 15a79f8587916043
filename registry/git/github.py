"""GitHub's REST API, as far as a push needs it: a commit's status, one comment on a pull request, and the tokens of an App.

Endpoints: https://docs.github.com/en/rest/commits/statuses, /rest/issues/comments, /rest/apps/apps. Limits:
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mlops.core import outbound
from mlops.core.outbound import OutboundError, Reply
from registry.git.fetching import Remote
from registry.models import Source

DESCRIPTION_CHARS = 140
STATES = ("pending", "success", "failure", "error")
_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_JWT_S, _CLOCK_SKEW_S = 540, 60  # GitHub takes ten minutes at most, and its clock may be behind ours
_SPARE_S = 300  # a token is used until this long before its end
_UNNAMED_WAIT_S = 60.0  # what GitHub asks for when it names no time
_MOST_WAIT_S = 3600.0
_PAGES, _PER_PAGE = 10, 100


class GitHubError(OutboundError):
    """GitHub refused. Its own words are left out: they may hold anything."""

    code = "github_refused"


class Busy(GitHubError):
    """The rate limit: ask again after ``after_s`` seconds."""

    code = "github_busy"

    def __init__(self, after_s: float) -> None:
        super().__init__("GitHub asks us to wait: its rate limit is reached.", hint="It is tried again by itself.")
        self.after_s = min(max(after_s, 1.0), _MOST_WAIT_S)


def api_of(clone_url: str) -> str:
    """Where the REST API of a repository's server is: github.com, or a GitHub Enterprise Server."""
    scheme, _, rest = clone_url.partition("://")
    host = rest.partition("/")[0]
    return "https://api.github.com" if host == "github.com" else f"{scheme}://{host}/api/v3"


# --- Who we are -----------------------------------------------------------------------------------------------------------


def has_credential(source: Source) -> bool:
    return bool(source.token_sealed or source.app_id)


def remote_of(source: Source) -> Remote:
    """What git needs to fetch: a GitHub App's token is made for it. Raises GitHubError, OutboundError."""
    if source.kind == Source.Kind.GITHUB and source.app_id:
        return Remote(source.clone_url, "x-access-token", installation_token(source))
    return Remote(source.clone_url, source.token_user, source.token)


@dataclass(frozen=True)
class _Token:
    text: str
    until: float  # time.time()


_tokens: dict[tuple[str, ...], _Token] = {}  # of this process; never written anywhere


def installation_token(source: Source, *, fresh: bool = False) -> str:
    """A token for this one repository, good for an hour and kept until shortly before. Raises GitHubError, OutboundError."""
    api, name = api_of(source.clone_url), source.repository.rpartition("/")[2]
    key = source.app_key
    place = (api, source.app_id, source.installation_id, name, hashlib.sha256(key.encode()).hexdigest())
    kept = _tokens.get(place)
    if kept is not None and kept.until > time.time() and not fresh:
        return kept.text
    reply = outbound.call(
        "POST",
        f"{api}/app/installations/{source.installation_id}/access_tokens",
        headers={**_HEADERS, "Authorization": f"Bearer {app_jwt(source.app_id, key)}"},
        json={"repositories": [name]},
        safe=True,  # two tokens do no harm
    )
    if reply.status != 201:
        raise _app_refused(reply)
    said = _object(reply)
    token = _Token(str(said.get("token", "")), _epoch(said.get("expires_at")) - _SPARE_S)
    for old in [each for each, found in _tokens.items() if found.until <= time.time()]:
        _tokens.pop(old, None)
    _tokens[place] = token
    return token.text


def app_jwt(app_id: str, pem: str) -> str:
    """A GitHub App's word for itself, good for nine minutes (RFC 7519, RS256). Raises GitHubError for a key that is none."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key() from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _no_key()
    now = int(time.time())
    claims = {"iat": now - _CLOCK_SKEW_S, "exp": now + _JWT_S, "iss": app_id}
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return f"{signed}.{_base64url(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _no_key() -> GitHubError:
    return GitHubError(
        "The GitHub App's private key is not an RSA key in PEM.",
        code="app_key_invalid",
        hint="Generate one in the App's settings on GitHub, and paste the whole file.",
    )


def _epoch(value: Any) -> float:
    """An end that cannot be read is now: the token serves this call only."""
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return time.time()


# --- What is said ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GitHub:
    """One repository, asked in the name of a source. Every call raises GitHubError (Busy among them), OutboundError and Invalid."""

    api: str
    repository: str
    app_id: str
    bearer: Callable[[bool], str]  # True: a fresh one, the one before was refused

    def set_status(self, sha: str, *, state: str, description: str, context: str, target_url: str) -> None:
        body = {
            "state": state,
            "description": shortened(description, DESCRIPTION_CHARS),
            "context": context,
            "target_url": target_url,
        }
        self._must(self._call("POST", f"statuses/{sha}", body, safe=True), 201)

    def comment(self, number: int, body: str, *, marker: str, known: int | None) -> int:
        """Our one comment on a pull request says ``body`` from now on: ``known``, else one that begins with ``marker``, else a new one."""
        found = known if known is not None else self._own_comment(number, marker)
        if found is not None:
            reply = self._call("PATCH", f"issues/comments/{found}", {"body": body}, safe=True)
            if reply.status == 200:
                return found
            if reply.status not in (404, 410):  # somebody deleted it: a new one
                raise refused(reply)
        reply = self._must(self._call("POST", f"issues/{number}/comments", {"body": body}), 201)
        made = _object(reply).get("id")
        if not isinstance(made, int):
            raise OutboundError("GitHub's answer holds no id of the comment.", code="outbound_bad_reply")
        return made

    def _own_comment(self, number: int, marker: str) -> int | None:
        """One we made and could not remember: a job was killed between the two. Others may have copied its text."""
        me: str | None = None
        for page in range(1, _PAGES + 1):
            path = f"issues/{number}/comments?per_page={_PER_PAGE}&page={page}"
            listed = self._must(self._call("GET", path), 200).json()
            rows = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
            for each in rows:
                if not str(each.get("body") or "").startswith(marker) or not isinstance(each.get("id"), int):
                    continue
                if self.app_id:
                    if str((each.get("performed_via_github_app") or {}).get("id")) == self.app_id:
                        return int(each["id"])
                    continue
                me = self._login() if me is None else me
                if (each.get("user") or {}).get("login") == me:
                    return int(each["id"])
            if len(rows) < _PER_PAGE:
                return None
        return None

    def _login(self) -> str:
        reply = self._ask("GET", f"{self.api}/user", None)
        return str(_object(self._must(reply, 200)).get("login", ""))

    def _call(self, method: str, path: str, body: Any = None, *, safe: bool | None = None) -> Reply:
        return self._ask(method, f"{self.api}/repos/{self.repository}/{path}", body, safe=safe)

    def _ask(self, method: str, url: str, body: Any, *, safe: bool | None = None) -> Reply:
        for fresh in (False, True):
            headers = {**_HEADERS, "Authorization": f"Bearer {self.bearer(fresh)}"}
            reply = outbound.call(method, url, headers=headers, json=body, safe=safe)
            if reply.status != 401 or not self.app_id:
                break
        if (busy := waiting_time(reply)) is not None:
            raise Busy(busy)
        return reply

    def _must(self, reply: Reply, status: int) -> Reply:
        if reply.status != status:
            raise refused(reply)
        return reply


def github_of(source: Source) -> GitHub:
    def bearer(fresh: bool) -> str:
        return installation_token(source, fresh=fresh) if source.app_id else source.token

    return GitHub(api_of(source.clone_url), source.repository, source.app_id, bearer)


def shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


# --- What GitHub answers --------------------------------------------------------------------------------------------------


def waiting_time(reply: Reply) -> float | None:
    """Seconds to wait when the answer is a rate limit; None when it is not."""
    if reply.status not in (403, 429):
        return None
    after, reset = reply.headers.get("retry-after", ""), reply.headers.get("x-ratelimit-reset", "")
    if after.isascii() and after.isdigit():
        return float(after)
    if reply.headers.get("x-ratelimit-remaining") == "0" and reset.isascii() and reset.isdigit():
        return max(1.0, float(reset) - time.time())
    if reply.status == 429 or b"secondary rate limit" in reply.body[:2000]:
        return _UNNAMED_WAIT_S
    return None


def refused(reply: Reply) -> GitHubError:
    known = {
        401: ("GitHub does not take the token.", "It has expired or was revoked: put a new one into the source's settings.", "github_unauthorized"),
        403: ("The token may not do this on GitHub.", 'Give it "Commit statuses: write" and "Pull requests: write" on this repository.', "github_forbidden"),
        404: ("GitHub knows no such repository, or the token may not see it.", "Choose the repository in the token's or App's settings.", "github_missing"),
        422: ("GitHub does not know the commit or the pull request.", "Was it force-pushed away or deleted?", "github_unknown_commit"),
    }  # fmt: skip
    detail, hint, code = known.get(
        reply.status, (f"GitHub answered {reply.status}.", "It is tried again by itself.", "github_failed")
    )
    return GitHubError(detail, code=code, hint=hint)


def _app_refused(reply: Reply) -> GitHubError:
    if (busy := waiting_time(reply)) is not None:
        return Busy(busy)
    known = {
        401: ("GitHub does not take the App's key.", "Does the private key belong to this App id?", "github_unauthorized"),
        404: ("GitHub knows no such installation of the App.", "Check the installation's id; was the App uninstalled?", "github_missing"),
        422: ("The App's installation does not reach this repository.", "Choose the repository in the installation's settings.", "github_forbidden"),
    }  # fmt: skip
    if reply.status not in known:
        return refused(reply)
    detail, hint, code = known[reply.status]
    return GitHubError(detail, code=code, hint=hint)


def _object(reply: Reply) -> dict[str, Any]:
    said = reply.json()
    if not isinstance(said, dict):
        raise OutboundError("GitHub's answer is not what its documentation says.", code="outbound_bad_reply")
    return said
