"""Numbers, shares and names as sentences have them."""

from __future__ import annotations

from collections.abc import Sequence

SHAPE_CHARACTERS = 40


def number(value: float | None) -> str:
    """A number for a sentence: three digits that count, thousands apart."""
    if value is None:
        return "none"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-4:
        return f"{value:.3g}"
    if size >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def exactly(value: float) -> str:
    """A value that itself is the news (a default, a limit): not rounded to three digits."""
    return f"{value:,.10g}" if abs(value) < 1e15 else f"{value:.6g}"


def percent(share: float) -> str:
    """A share for a sentence; never "0 %" for something, never "100 %" for less than all."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{share * 100:.3g} %" if share < 0.1 else f"{share * 100:.1f} %".replace(".0 %", " %")


def part(share: float, subject: str = "the values") -> str:
    """ "the values" when it is about all of them, else "about 30 % of the values"."""
    return subject if share > 0.9 else f"about {percent(round(share, 2))} of {subject}"


def listed(names: Sequence[str]) -> str:
    quoted = [f'"{name}"' for name in names[:3]]
    more = len(names) - len(quoted)
    return ", ".join(quoted) + (f" and {more} more" if more else "")


def shape(text: str) -> str:
    """What a text looks like, without saying it: "21.11.2026" -> "99.99.9999", "Ann Lee" -> "Aaa Aaa". Sentences are read by people who
    may see no single row, and are mailed."""
    masked = "".join("9" if each.isdigit() else _letter(each) for each in text[:SHAPE_CHARACTERS])
    return masked if len(text) <= SHAPE_CHARACTERS else f"{masked}…"


def _letter(each: str) -> str:
    if not each.isalpha():
        return each
    return "A" if each.isupper() else "a"
