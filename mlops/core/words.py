"""Values as people read them: sizes, times, shares, states. Plain functions; ``{% load ui %}`` offers them as filters."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from mlops.core import clock
from mlops.core.svg import real

NOTHING = "–"


def number(value: Any) -> str:
    """1234567 -> "1,234,567"; 0.123456 -> "0.1235" (four significant digits); nothing -> "–"."""
    found = real(value)
    if found is None:
        return NOTHING
    if found == int(found) and abs(found) < 1e15:
        return f"{int(found):,}"
    if abs(found) >= 1000:
        return f"{found:,.0f}"
    return f"{found:.4g}"


def compact(value: Any) -> str:
    """1234 -> "1.2k", 5600000 -> "5.6M": for tiles and axes."""
    found = real(value)
    if found is None:
        return NOTHING
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(found) >= limit:
            return f"{found / limit:.1f}".removesuffix(".0") + unit
    return number(found)


_BYTES = ("B", "kB", "MB", "GB", "TB")


def size(value: Any) -> str:
    """Bytes in decimal units: 1234567 -> "1.2 MB"."""
    found = real(value)
    if found is None:
        return NOTHING
    unit = 0
    while abs(found) >= 999.95 and unit < len(_BYTES) - 1:
        found, unit = found / 1000, unit + 1
    return f"{found:.1f}".removesuffix(".0") + f" {_BYTES[unit]}"


def ms(value: Any) -> str:
    """Milliseconds: 2.13 -> "2.1 ms", 640 -> "640 ms", 1840 -> "1.8 s", 125000 -> "2 min 5 s"."""
    found = real(value)
    if found is None:
        return NOTHING
    if found < 0.1:
        return "<0.1 ms" if found > 0 else "0 ms"
    if found < 10:
        return f"{found:.1f}".removesuffix(".0") + " ms"
    if found < 999.5:
        return f"{found:.0f} ms"
    return seconds(found / 1000)


def seconds(value: Any) -> str:
    """Seconds: 0.42 -> "420 ms", 1.84 -> "1.8 s", 125 -> "2 min 5 s", 7320 -> "2 h 2 min"."""
    found = real(value)
    if found is None:
        return NOTHING
    if found < 0.9995:
        return ms(found * 1000)
    if found < 60:
        return f"{found:.1f}".removesuffix(".0") + " s"
    whole = round(found)
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def pct(value: Any, digits: int | None = None) -> str:
    """A share of 1 as per cent: 0.384 -> "38 %", 0.0041 -> "0.4 %", 0.0001 -> "<0.1 %"."""
    found = real(value)
    if found is None:
        return NOTHING
    found *= 100
    if digits is not None:
        return f"{found:.{digits}f} %"
    if 0 < found < 0.1:
        return "<0.1 %"
    if abs(found) < 9.95:
        return f"{found:.1f}".removesuffix(".0") + " %"
    return f"{found:.0f} %"


_UNITS = ((86400 * 365, "year"), (86400 * 30, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))


def ago_text(at: Any) -> str:
    """A moment seen from now: "3 minutes ago", "in 2 days", "just now"."""
    if not isinstance(at, datetime):
        return NOTHING
    passed = (clock.now() - _aware(at)).total_seconds()
    for unit_s, unit in _UNITS:
        count = int(abs(passed) // unit_s)
        if count:
            words = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"{words} ago" if passed > 0 else f"in {words}"
    return "just now" if passed >= 0 else "in a moment"


def ago(at: Any) -> SafeString | str:
    """``<time>`` with the distance as text and the exact UTC time on hover."""
    if not isinstance(at, datetime):
        return NOTHING
    return format_html('<time datetime="{}" title="{}">{}</time>', _aware(at).isoformat(), when_text(at), ago_text(at))


def when_text(at: Any) -> str:
    if isinstance(at, datetime):
        return _aware(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return at.isoformat() if isinstance(at, date) else NOTHING


def when(at: Any) -> SafeString | str:
    """``<time>`` with the exact UTC time as text: "2026-11-21 14:05 UTC"."""
    if not isinstance(at, datetime):
        return when_text(at)
    return format_html('<time datetime="{}">{}</time>', _aware(at).isoformat(), when_text(at)[:16] + " UTC")


def _aware(at: datetime) -> datetime:
    return timezone.make_aware(at) if timezone.is_naive(at) else at


def short(value: Any) -> str:
    """The first twelve characters of a hash or id."""
    return str(value)[:12] if value else NOTHING


def pretty(value: Any) -> str:
    """JSON with two spaces; what is not JSON becomes its text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def initials(value: Any) -> str:
    """One or two letters for an avatar: "Ada Lovelace" -> "AL", "ada@example.org" -> "A"."""
    parts = [part for part in str(value).split("@")[0].replace("'s", "").split() if part[0].isalnum()]
    return "".join(part[0] for part in parts[:2]).upper() or "?"


_TONED = {
    "success": "ready live ok done active healthy resolved stable succeeded delivered sent passed verified accepted approved promoted",
    "running": "running fetching building validating warming deploying loading learning retraining uploading starting scanning checking training comparing rolling_out",
    "warning": "warning watch degraded acknowledged snoozed expiring late slow cooling unverified paused proposed approval",
    "danger": "failed error crashed open drift drifted firing revoked rejected critical danger unhealthy invalid dead rolled_back timed_out",
}
TONES: dict[str, str] = {word: tone for tone, words in _TONED.items() for word in words.split()}
_LABELS = {"ok": "OK", "drift": "Drifted"}


def status_tone(value: Any) -> str:
    """success, running, warning, danger, or neutral for every other word."""
    return TONES.get(str(getattr(value, "value", value)).lower(), "neutral")


def status_label(value: Any) -> str:
    """A choice's own label, else the word with a capital: "rolled_back" -> "Rolled back"."""
    if hasattr(value, "label"):
        return str(value.label)
    text = str(value or "unknown").replace("_", " ").replace("-", " ")
    return _LABELS.get(text, text[:1].upper() + text[1:])


def section(name: Any, prefixes: str) -> bool:
    """Whether a URL name begins with one of the words: which tab or menu entry is the open one."""
    return any(str(name or "").startswith(prefix) for prefix in prefixes.split())


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "compact": compact,
    "bytes": size,
    "ms": ms,
    "seconds": seconds,
    "pct": pct,
    "ago": ago,
    "ago_text": ago_text,
    "when": when,
    "section": section,
    "short": short,
    "pretty": pretty,
    "initials": initials,
    "status_tone": status_tone,
    "status_label": status_label,
}
