"""JWT sessions: a short access token, and a refresh token that is replaced at every use. The row decides, not the token alone.

Every token names its session (``sid``, a RefreshToken row). Logout, a new password, or the second use of a refresh token revokes the row,
and with it every access token of the session at once.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from accounts.models import RefreshToken, User
from mlops.core import clock, errors

_ISSUER, _ALGORITHM = "slipway", "HS256"
ACCESS, REFRESH = "access", "refresh"
_SIGN_IN = "Sign in again: POST /api/v1/auth/login."


@dataclass(frozen=True)
class Tokens:
    access: str
    refresh: str
    expires_in: int  # seconds the access token lives

    def as_answer(self) -> dict[str, Any]:
        return {"access": self.access, "refresh": self.refresh, "token_type": "Bearer", "expires_in": self.expires_in}


def open_session(user: User) -> Tokens:
    """A new session for somebody who has just proved who they are."""
    session, jti = uuid.uuid4(), uuid.uuid4()
    row = RefreshToken.objects.create(user=user, session=session, jti=jti, expires_at=_session_end())
    return _tokens(row)


def refresh(token: str) -> Tokens:
    """The next pair. A refresh token works once; its second use revokes the session, for one of the two users stole it."""
    claims = _read(token, REFRESH)
    session, jti = uuid.UUID(claims["sid"]), uuid.UUID(claims["jti"])
    mine = RefreshToken.objects.filter(
        session=session, revoked_at=None, expires_at__gt=clock.now(), user__is_active=True
    )
    fresh = uuid.uuid4()
    if not mine.filter(jti=jti).update(jti=fresh, expires_at=_session_end()):
        if mine.update(revoked_at=clock.now()):
            raise errors.Unauthenticated(
                "This refresh token was used before; the session is closed to be safe.",
                code="refresh_reused",
                hint=_SIGN_IN,
            )
        raise errors.Unauthenticated("This session is over.", code="session_over", hint=_SIGN_IN)
    return _tokens(RefreshToken.objects.select_related("user").get(session=session))


def user_of(access_token: str) -> User:
    """The person of an access token whose session lives. Raises Unauthenticated."""
    claims = _read(access_token, ACCESS)
    living = RefreshToken.objects.select_related("user").filter(
        revoked_at=None, expires_at__gt=clock.now(), user__is_active=True
    )
    row = living.filter(session=uuid.UUID(claims["sid"])).first()
    if row is None:
        raise errors.Unauthenticated("This session is over.", code="session_over", hint=_SIGN_IN)
    return row.user


def close_session(token: str, kind: str) -> None:
    """Log out by either token of the session; again is fine. Raises Unauthenticated for a token that is not ours or too old."""
    claims = _read(token, kind)
    RefreshToken.objects.filter(session=uuid.UUID(claims["sid"]), revoked_at=None).update(revoked_at=clock.now())


def close_all(user: User) -> int:
    """End every session of a person, e.g. after a new password. How many there were."""
    return RefreshToken.objects.filter(user=user, revoked_at=None).update(revoked_at=clock.now())


def _session_end() -> Any:
    return clock.now() + timedelta(seconds=settings.JWT_REFRESH_SECONDS)


def _tokens(row: RefreshToken) -> Tokens:
    return Tokens(
        access=_write(row, ACCESS, uuid.uuid4(), settings.JWT_ACCESS_SECONDS),
        refresh=_write(row, REFRESH, row.jti, settings.JWT_REFRESH_SECONDS),
        expires_in=settings.JWT_ACCESS_SECONDS,
    )


def _write(row: RefreshToken, kind: str, jti: uuid.UUID, lives_s: int) -> str:
    now = clock.now()
    claims = {
        "iss": _ISSUER,
        "typ": kind,
        "sub": str(row.user_id),
        "sid": str(row.session),
        "jti": str(jti),
        "iat": now,
        "exp": now + timedelta(seconds=lives_s),
    }
    return jwt.encode(claims, _key(settings.SECRET_KEY), algorithm=_ALGORITHM)


def _read(token: str, kind: str) -> dict[str, Any]:
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        try:
            claims = jwt.decode(
                token,
                _key(secret),
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                options={"require": ["exp", "iat", "sub", "sid", "jti", "typ"]},
            )
        except jwt.ExpiredSignatureError:
            hint = "Ask for a new one: POST /api/v1/auth/refresh." if kind == ACCESS else _SIGN_IN
            raise errors.Unauthenticated(f"This {kind} token has expired.", code="token_expired", hint=hint) from None
        except jwt.InvalidTokenError:
            continue
        if claims["typ"] == kind:
            return claims
    raise errors.Unauthenticated(f"This is not a valid {kind} token.", code="token_invalid", hint=_SIGN_IN)


def _key(secret: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"slipway jwt").derive(secret.encode())
