"""Who calls the API: an API key by any of four headers, or a JWT access token. Sessions are refused here."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import keys, tokens
from accounts.addresses import client_ip
from accounts.caller import Caller
from mlops.core import errors

_REALM = 'Bearer realm="slipway"'


def presented_key(headers: Mapping[str, str]) -> str:
    """The key in ``Authorization: Bearer|Token sk_...``, ``X-API-Key`` or Basic (its password); empty when there is none."""
    if found := headers.get("X-API-Key", ""):
        return found.strip()
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() in ("bearer", "token") and value.startswith("sk_"):
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:  # not base64, not ASCII, or not UTF-8 inside
            return ""
    return ""


def presented_token(headers: Mapping[str, str]) -> str:
    """The access token in ``Authorization: Bearer ...``; empty when there is none."""
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    value = value.strip()
    return value if scheme.lower() == "bearer" and not value.startswith("sk_") else ""


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, Caller] | None:
        presented = presented_key(request.headers)
        if not presented:
            return None
        key = keys.find(presented)
        if key is None:
            raise errors.Unauthenticated(
                "This API key is unknown, revoked or expired.",
                code="invalid_key",
                hint="Make a new key under Settings, API keys.",
            )
        return _admit(request, Caller(key=key, ip=client_ip(request._request)))

    def authenticate_header(self, request: Request) -> str:
        return _REALM


class JwtAuthentication(BaseAuthentication):
    """A person, by the access token of a living session."""

    def authenticate(self, request: Request) -> tuple[Caller, Caller] | None:
        token = presented_token(request.headers)
        if not token:
            return None
        return _admit(request, Caller(user=tokens.user_of(token), ip=client_ip(request._request)))

    def authenticate_header(self, request: Request) -> str:
        return _REALM


def _admit(request: Request, caller: Caller) -> tuple[Caller, Caller]:
    request._request.caller = caller
    return caller, caller


class SignedIn(BasePermission):
    """Everything needs a caller unless a view says otherwise."""

    def has_permission(self, request: Request, view: object) -> bool:
        return isinstance(request.user, Caller) and request.user.known
