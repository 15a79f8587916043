"""Absolute addresses for mails, and the signed links that let a person leave without signing in."""

from __future__ import annotations

from typing import Literal

from django.conf import settings
from django.core import signing
from django.urls import reverse

from mlops.core import errors

_SALT = "monitoring.unsubscribe"
What = Literal["alerts", "digest"]


def page(view: str, /, **kwargs: object) -> str:
    return f"{settings.BASE_URL}{reverse(view, kwargs=kwargs)}"


def unsubscribe(org: str, organization_id: int, user_id: int, what: What) -> str:
    token = signing.dumps({"o": organization_id, "u": user_id, "w": what}, salt=_SALT, compress=True)
    return page("unsubscribe", org=org, token=token)


def read_unsubscribe(token: str) -> tuple[int, int, What]:
    """(organisation id, user id, what) of a signed link; it never expires, for a mail may be old. Raises NotFound."""
    try:
        found = signing.loads(token, salt=_SALT)
        return found["o"], found["u"], found["w"]
    except (signing.BadSignature, KeyError, TypeError) as error:
        raise errors.NotFound(
            "This unsubscribe link is damaged.",
            hint="Copy the whole link from the mail, or sign in and open Settings, Digest mails.",
        ) from error
