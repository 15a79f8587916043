"""Columns whose values are not to be kept: taken out or hashed by the shipper, before a row reaches the database.

In the place of a value stands ``(removed)``, or ``(hashed) `` and 16 hex digits of an HMAC-SHA256 of the column and the value, with a key
of the organisation's own. The same value of the same column has the same hash in every deployment, so that categories can still be counted.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from accounts import sealing
from accounts.models import Organization
from mlops.core import errors, logs
from serving.models import LogPolicy, Redaction, RedactionKey

log = logs.get(__name__)

REMOVED = "(removed)"
HASHED = "(hashed) "
DIGITS = 16
NOT_KEPT = "Not kept: columns of this deployment are redacted, and a refusal may quote them."
_PURPOSE = "redaction"
_REMEMBERED = 20_000
_BLOCK = 64  # bytes, of SHA-256


class Hasher:
    """Values to their marks, under one key. HMAC by hand: two copied states cost half of what ``hmac.digest`` does."""

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(self, message: bytes) -> str:
        """HMAC-SHA256 (RFC 2104), the first 16 hex digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()[:DIGITS]

    def mark(self, column: str, value: Any) -> str:
        return HASHED + self.digest(_name(column) + _canonical(value))


def _name(column: str) -> bytes:
    return column.encode("utf-8", "surrogatepass") + b"\0"


def _canonical(value: Any) -> bytes:
    """1 and 1.0 are one value: JSON does not tell them apart, and clients write both."""
    if type(value) is float and value.is_integer():
        value = int(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(value, sort_keys=True).encode()


class Redactor:
    """What one deployment's policy does to a row. Without a key nothing can be hashed: what should be is removed then."""

    def __init__(self, redactions: Mapping[str, str], hasher: Hasher | None) -> None:
        hashed = [name for name, how in redactions.items() if how == Redaction.HASH]
        self._hasher = hasher
        self._hashed = [(name, _name(name)) for name in hashed] if hasher else []
        self._removed = [name for name in redactions if hasher is None or name not in hashed]
        self._marks: dict[tuple[bytes, bytes], str] = {}

    def row(self, features: dict[str, Any] | None) -> dict[str, Any] | None:
        """The same row, changed in place. A null stays one where the column is hashed, for missing values are counted."""
        if features is None:
            return None
        for name in self._removed:
            if name in features:
                features[name] = REMOVED
        for name, written in self._hashed:
            value = features.get(name)
            if value is not None:
                features[name] = self._mark(written, _canonical(value))
        return features

    def _mark(self, name: bytes, value: bytes) -> str:
        found = self._marks.get((name, value))
        if found is None:
            assert self._hasher is not None
            if len(self._marks) > _REMEMBERED:
                self._marks.clear()
            found = self._marks[name, value] = HASHED + self._hasher.digest(name + value)
        return found


def load() -> dict[int, Redactor]:
    """The redactors of every deployment that has one, by its id: one question while there are none."""
    policies = [
        row for row in LogPolicy.objects.values_list("deployment_id", "organization_id", "redactions") if row[2]
    ]
    if not policies:
        return {}
    owners = {organization for _, organization, _ in policies}
    sealed = dict(RedactionKey.objects.filter(organization__in=owners).values_list("organization_id", "sealed"))
    return {
        deployment: Redactor(redactions, _hasher(sealed.get(organization, "")))
        for deployment, organization, redactions in policies
    }


def hasher(organization: Organization) -> Hasher:
    """The organisation's, whose key is made when it is first asked for. Raises NotReady when the server's own key has changed."""
    fresh = sealing.seal(secrets.token_hex(_BLOCK // 2), _PURPOSE)
    row, _ = RedactionKey.objects.get_or_create(organization=organization, defaults={"sealed": fresh})
    return _unsealed(row.sealed)


def _hasher(sealed: str) -> Hasher | None:
    try:
        return _unsealed(sealed) if sealed else None
    except errors.NotReady as error:
        log.warning("redaction_key_unreadable", error=error.detail)
        return None


@lru_cache(maxsize=1000)
def _unsealed(sealed: str) -> Hasher:
    return Hasher(bytes.fromhex(sealing.unseal(sealed, _PURPOSE)))


def is_redacted(value: Any) -> bool:
    return isinstance(value, str) and (value == REMOVED or value.startswith(HASHED))


def redacted_columns(features: Mapping[str, Any] | None) -> list[str]:
    """The columns of a logged row whose values are not there: it cannot be asked again, compared or explained."""
    return [name for name, value in (features or {}).items() if is_redacted(value)]


def refusal(columns: Iterable[str]) -> errors.Conflict:
    """For whoever wanted to work with values that were not kept."""
    names = ", ".join(sorted(columns))
    return errors.Conflict(
        f"The log does not keep {names}: this deployment redacts it.",
        code="redacted",
        hint="Choose columns or rows that are kept, or change the policy on the deployment's Data page for what comes from now on.",
    )
