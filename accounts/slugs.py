"""Slugs of organisations: the first part of every page's address, so the product's own first parts are reserved."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from accounts.models import Organization
from mlops.core import errors, ids

_WORDS = """
about account accounts admin api assets auth billing demo docs favicon.ico health healthz help home hooks invitations jobs login
logout mailbox media metrics mlflow new organizations predict readyz register robots schema search security settings signup
slipway static status support system ui v1 v2 welcome www
"""
RESERVED = frozenset(_WORDS.split())


def check(slug: str) -> str:
    """The slug itself. Raises Invalid for a bad or reserved one, Conflict for one that is taken."""
    if not ids.SLUG.match(slug):
        raise errors.Invalid(
            "An organisation's address has 1 to 63 letters a-z, digits and hyphens.",
            code="slug_invalid",
            fields={"slug": ["Use a-z, 0-9 and hyphens; begin and end with a letter or digit."]},
        )
    if slug in RESERVED:
        raise errors.Invalid(
            f"The address {slug!r} is reserved.",
            code="slug_reserved",
            fields={"slug": ["This one is reserved. Choose another."]},
        )
    if Organization.objects.filter(slug=slug).exists():
        raise taken(slug)
    return slug


def taken(slug: str) -> errors.Conflict:
    return errors.Conflict(
        f"The address {slug!r} is taken.",
        code="slug_taken",
        hint="Choose another.",
        fields={"slug": ["This one is taken. Choose another."]},
    )


def free_slugs(wish: str) -> Iterator[str]:
    """Slugs near a wish that were free a moment ago: ``ada``, ``ada-2`` ... ``ada-9``, then with random ends, without end."""
    base = ids.to_slug(wish, "workspace")[:55].strip("-")
    near = [base, *(f"{base}-{number}" for number in range(2, 10))]
    used = set(Organization.objects.filter(slug__in=near).values_list("slug", flat=True)) | RESERVED
    yield from (slug for slug in near if slug not in used)
    while True:
        yield f"{base}-{secrets.token_hex(3)}"
