"""What the head of a request says, for the doors in front of Django: is it a common prediction request, whose, and which one?"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from accounts.authentication import presented_key
from accounts.caller import Caller
from mlops.core import ids
from serving.predict import BODY_LIMIT_BYTES, Call

Scope = MutableMapping[str, Any]
Headers = dict[bytes, bytes]

PREFIX = b"/api/v1/predict/"
_PLACE = re.compile(rb"/api/v1/predict/([-a-zA-Z0-9_]+)/([-a-zA-Z0-9_]+)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_REMEMBERED = 10_000
# Whoever sends one of these means something that only Django's door knows.
_NOT_COMMON = frozenset({b"transfer-encoding", b"content-encoding", b"cookie", b"idempotency-key", b"x-forwarded-host"})


@dataclass(frozen=True, slots=True)
class Head:
    """A common request: JSON of a known length, sent to a deployment with an API key. ``presented`` is that key, still unchecked."""

    organization: str
    deployment: str
    presented: str
    content_type: str
    length: int
    request_id: str  # the client's own; empty when there is none that is well-formed
    version: str
    sticky: str
    secure: bool  # it came by HTTPS

    def call(self, caller: Caller) -> Call:
        """What the predict path is asked. Its body is read by the door."""
        return Call(
            caller,
            self.organization,
            self.deployment,
            _unread,
            self.content_type,
            self.request_id or str(ids.uuid7()),
            self.version,
            sticky=self.sticky,
        )


class Heads:
    """Reads heads. Remembers addresses and host names it has seen."""

    def __init__(self) -> None:
        self.https_only = settings.SECURE_SSL_REDIRECT
        self._proxy = settings.SECURE_PROXY_SSL_HEADER
        self._places: dict[bytes, tuple[str, str] | None] = {}
        self._hosts: dict[bytes, bool] = {}

    def read(self, scope: Scope) -> Head | None:
        """None when this is for Django."""
        if scope["method"] != "POST" or (place := self.place(scope["raw_path"])) is None:
            return None
        raw = scope["headers"]
        headers: Headers = dict(raw)
        if len(headers) != len(raw) or not _NOT_COMMON.isdisjoint(headers) or not self.host_allowed(headers):
            return None
        length, version, presented = _json_length(headers), _version(scope["query_string"], headers), _key(headers)
        secure = self.secure(scope, headers)
        if not length or version is None or not presented or (self.https_only and not secure):
            return None
        return Head(
            place[0],
            place[1],
            presented,
            headers[b"content-type"].decode("latin-1"),
            length,
            given_id(headers),
            version,
            headers.get(b"x-slipway-sticky", b"").decode("latin-1"),
            secure,
        )

    def place(self, raw_path: bytes) -> tuple[str, str] | None:
        """Organisation and deployment of a plain predict address."""
        try:
            return self._places[raw_path]
        except KeyError:
            found = _PLACE.fullmatch(raw_path)
            place = (found[1].decode(), found[2].decode()) if found else None
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            if len(raw_path) < 256:
                self._places[raw_path] = place
            return place

    def host_allowed(self, headers: Headers) -> bool:
        raw = headers.get(b"host", b"")
        known = self._hosts.get(raw)
        if known is None:
            domain, _ = split_domain_port(raw.decode("latin-1"))
            known = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
            if len(self._hosts) >= _REMEMBERED:
                self._hosts.clear()
            if len(raw) < 256:
                self._hosts[raw] = known
        return known

    def secure(self, scope: Scope, headers: Headers) -> bool:
        """As ``HttpRequest.is_secure``."""
        if self._proxy is not None:
            name, https = self._proxy
            said = headers.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode())
            if said is not None:
                return said.partition(b",")[0].strip().decode("latin-1") == https
        return bool(scope["scheme"] == "https")


def given_id(headers: Headers) -> str:
    """As ``RequestIdMiddleware``: the client's own request id when it is well-formed, else an empty string."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(text := given.decode("latin-1")):
        return text
    return ""


def _json_length(headers: Headers) -> int:
    """The length of a JSON body that may be read at once; 0 for anything else."""
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        return 0
    length = headers.get(b"content-length", b"")
    known = int(length) if length.isdigit() and len(length) < 10 else 0
    return known if known <= BODY_LIMIT_BYTES else 0


def _version(query: bytes, headers: Headers) -> str | None:
    """The version that is asked for, or an empty string; None for a query that Django must read."""
    if not query:
        return headers.get(b"x-slipway-version", b"").decode("latin-1")
    name, _, value = query.partition(b"=")
    return value.decode() if name == b"version" and value.isdigit() and len(value) < 9 else None


def _key(headers: Headers) -> str:
    return presented_key(
        {
            "X-API-Key": headers.get(b"x-api-key", b"").decode("latin-1"),
            "Authorization": headers.get(b"authorization", b"").decode("latin-1"),
        }
    )


def _unread() -> bytes:
    raise RuntimeError("the doors in front of Django read the body themselves")
