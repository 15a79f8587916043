"""Who calls the API: an API key by any of four headers, or a JWT access token. Sessions are refused here."""

from __future__ import annotations

import base64
import binascii

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import keys
from accounts.caller import Caller
from mlops.core import errors


def presented_key(headers: dict[str, str]) -> str:
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
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, Caller] | None:
        presented = presented_key(request.headers)
        if not presented:
            return None
        key = keys.find(presented)
        if key is None:
            raise errors.Unauthenticated("This API key is unknown, revoked or expired.", code="invalid_key", hint="Make a new key under Settings, API keys.")
        caller = Caller(key=key, ip=request.META.get("REMOTE_ADDR"))
        request._request.caller = caller
        return caller, caller

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="slipway"'


class JwtAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, Caller] | None:
        return None


class SignedIn(BasePermission):
    """Everything needs a caller unless a view says otherwise."""

    def has_permission(self, request: Request, view: object) -> bool:
        return isinstance(request.user, Caller) and request.user.known
