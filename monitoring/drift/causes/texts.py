"""Free text by samples: cut ends, wrong encodings, other case, blanks, and stand-ins for nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from monitoring.drift import values as raw
from monitoring.drift.causes import spelling
from monitoring.drift.causes.cause import Cause, Change
from monitoring.drift.causes.words import listed, percent, shape

_OFFSET = re.compile(r"(?<=\d)(Z|[+-]\d\d:?\d\d)$")
LEAST_TIMES = 30
# How much more of the rows must show a sign than did before.
LEAST_MORE = 0.05


def found(change: Change) -> list[Cause]:
    """Every sign that far more texts show now than in the baseline; empty for other columns."""
    if change.bins.kind != "text" or change.texts is None:
        return []
    before, now = change.texts
    causes = [_dates(before, now)] + [_sign(before, now, code, words, shows) for code, words, shows in _SIGNS]
    return [cause for cause in (_repeated(before, now), _cut(before, now), *causes) if cause]


def _sign(
    before: Sequence[str], now: Sequence[str], code: str, words: str, shows: Callable[[str], bool]
) -> Cause | None:
    was, hits = sum(map(shows, before)) / len(before), [text for text in now if shows(text)]
    is_now = len(hits) / len(now)
    if is_now - was < LEAST_MORE:
        return None
    # a placeholder says nothing of its row; any other text is one person's
    example = f', such as "{hits[0][:40]}"' if code == "missing_as_text" and hits[0].strip() else ""
    sentence = f"{percent(is_now)} of the texts {words} (baseline {percent(was)}){example}"
    share = is_now - was
    return Cause(code, sentence, share, 1.4 * share, {"was": was, "is": is_now})


def _dates(before: Sequence[str], now: Sequence[str]) -> Cause | None:
    """Times that are kept as text: in another format than they had."""
    was, strange = (
        sum(map(raw.is_timestamp, before)) / len(before),
        [each for each in now if not raw.is_timestamp(each)],
    )
    share = len(strange) / len(now) - (1 - was)
    if was < 0.9 or share < LEAST_MORE:
        return None
    sentence = (
        f"{percent(len(strange) / len(now))} of the times have another format than the baseline, such as "
        f'"{shape(strange[0])}" for "{shape(before[0])}"'
    )
    return Cause("date_format", sentence, share, 1.6 * share, {"was": 1 - was, "is": len(strange) / len(now)})


def _is_upper(text: str) -> bool:
    return text.isupper() and len(text) > 1


def _is_lower(text: str) -> bool:
    return text.islower()


def _has_blanks(text: str) -> bool:
    return text != text.strip() or "  " in text


_SIGNS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("missing_as_text", "are empty or stand for a missing value", spelling.is_placeholder),
    ("encoding", "look wrongly encoded", spelling.is_mess),
    ("case_change", "are all in capitals", _is_upper),
    ("case_change", "are all in small letters", _is_lower),
    ("whitespace", "have blanks at their ends or doubled", _has_blanks),
)


def _cut(before: Sequence[str], now: Sequence[str]) -> Cause | None:
    """Many texts end at one and the same length, and hardly any is longer, where many were."""
    lengths = Counter(map(len, now))
    limit, rows = max(lengths.items(), key=lambda item: (item[1], item[0]))
    longer_before = sum(len(text) > limit for text in before) / len(before)
    longer_now = sum(count for length, count in lengths.items() if length > limit) / len(now)
    share = rows / len(now) - sum(len(text) == limit for text in before) / len(before)
    if (
        share < 0.1
        or longer_before < 0.1
        or limit < spelling.SHORTEST_CUT
        or share < 0.5 * (longer_before - longer_now)
    ):
        return None
    if longer_before - longer_now < 0.08:
        return None
    sentence = (
        f"{percent(rows / len(now))} of the texts are exactly {limit} characters long and {percent(longer_now)} longer "
        f"(baseline {percent(longer_before)} longer): they are cut off"
    )
    return Cause("truncated", sentence, share, 1.4 * share, {"limit": limit, "longer_before": longer_before})


def _repeated(before: Sequence[str], now: Sequence[str]) -> Cause | None:
    """One text that comes again and again, where few did."""
    text, rows = Counter(now).most_common(1)[0]
    was, is_now = sum(each == text for each in before) / len(before), rows / len(now)
    if is_now - was < 0.15 or spelling.is_placeholder(text):
        return None
    code = "constant" if is_now > 0.98 else "default_spike"
    sentence = (
        f"{percent(is_now)} of the texts are {listed([text[:60]])} (baseline {percent(was)}); the source may be stuck"
    )
    return Cause(code, sentence, is_now - was, 1.4 * (is_now - was), {"was": was, "is": is_now})


def other_zone(name: str, before: Sequence[Any], now: Sequence[Any]) -> Cause | None:
    """Times whose offset from UTC is written otherwise than in the baseline: a clock in another zone. No drift by itself,
    for what moves with the clock is not compared."""
    zones = [
        Counter(map(_zone, texts))
        for side in (before, now)
        if (texts := [each for each in side if isinstance(each, str)])
    ]
    if len(zones) < 2 or any(sum(counts.values()) < LEAST_TIMES for counts in zones):
        return None
    was, is_now = ({zone: rows / sum(counts.values()) for zone, rows in counts.items()} for counts in zones)
    zone = max(is_now, key=lambda each: is_now[each] - was.get(each, 0.0))
    share = is_now[zone] - was.get(zone, 0.0)
    if share < LEAST_MORE:
        return None
    usual = max(was, key=lambda each: was[each])
    sentence = f"{percent(is_now[zone])} of the times in `{name}` are written {zone or 'without a zone'} (baseline {usual or 'without a zone'})"
    return Cause("timezone_shift", sentence, share, 0.6 * share, {"columns": [name], "zone": zone, "was": usual})


def _zone(text: str) -> str:
    found = _OFFSET.search(text)
    return found.group(0).replace("Z", "+00:00") if found else ""
