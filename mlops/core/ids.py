"""Identifiers: time-ordered UUIDs (RFC 9562, version 7) and slugs."""

from __future__ import annotations

import os
import re
import time
import uuid

from django.utils.text import slugify

ROW_BITS = 20  # rows of one request; 100,000 is the limit of a call, 2**20 leaves room
_RANDOM = ~(0xF << 76 | 0x3 << 62)  # all but the marks of version and variant
_MARKS = 0x7 << 76 | 0x2 << 62
SLUG = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")


def uuid7() -> uuid.UUID:
    """A UUID version 7: 48 bits of Unix milliseconds, then 74 random bits."""
    return uuid.UUID(int=_uuid7())


def _uuid7() -> int:
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return value & _RANDOM | _MARKS


def prediction_base() -> uuid.UUID:
    """The id of a request's first row. Row ``i`` is ``base + i``: the low 20 bits are zero."""
    return uuid.UUID(int=_uuid7() >> ROW_BITS << ROW_BITS)


def prediction_id(base: uuid.UUID, row: int) -> uuid.UUID:
    """The id of row ``row`` (0-based, below 2**20) of the request with this base."""
    return uuid.UUID(int=base.int + row)


def to_slug(name: str, fallback: str) -> str:
    """A URL-safe form of ``name`` (1-63 characters a-z 0-9 -), or ``fallback`` when nothing is left of it."""
    return slugify(name.replace("_", "-"))[:63].strip("-") or fallback
