"""Is a new text a known one in other clothes? Case, blanks, encodings, cut ends, other punctuation, other digits."""

from __future__ import annotations

import contextlib
import html
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote

# What programs write where there is no value.
PLACEHOLDERS = frozenset(
    (
        "",
        "nan",
        "none",
        "null",
        "nil",
        "n/a",
        "na",
        "#n/a",
        "<na>",
        "nat",
        "undefined",
        "unknown",
        "missing",
        "-",
        "--",
        "?",
        ".",
    )
)
# Texts in UTF-8 that were read as Latin-1 or Windows-1252 hold these; the last is what a decoder puts for a broken byte.
_MESS = (
    "Ã",
    "Â",
    "â€",
    "Ð",
    "Ñ\x80",
    "ï»¿",
    "\ufffd",
    "&amp;",
    "&lt;",
    "&gt;",
    "&quot;",
    "&#",
    "%20",
    "%C3",
    "\\u00",
    "\\x",
)
SHORTEST_CUT = 3

WORDS = {
    "case_change": "are written in other upper and lower case than in the baseline",
    "whitespace": "have blanks before, after or between that the baseline does not have",
    "encoding": "look wrongly encoded",
    "truncated": "are cut off",
    "spelt": "are spelt otherwise than in the baseline",
}


def is_placeholder(text: str) -> bool:
    return text.strip().casefold() in PLACEHOLDERS


def is_mess(text: str) -> bool:
    return any(sign in text for sign in _MESS)


def matches(new: Iterable[str], known: Iterable[str]) -> dict[str, tuple[str, str]]:
    """For each new text that is a known one otherwise written: (how, which known one). how: a key of WORDS."""
    levels = [level for level in known if level]
    made = {
        "case_change": {level.casefold(): level for level in levels},
        "whitespace": {" ".join(level.split()): level for level in levels},
        "spelt": {_plain(level): level for level in levels},
    }
    numeric = {value: level for level in levels if (value := _number(level)) is not None}
    found: dict[str, tuple[str, str]] = {}
    for name in new:
        if name.casefold() in made["case_change"]:
            found[name] = ("case_change", made["case_change"][name.casefold()])
        elif " ".join(name.split()) in made["whitespace"]:
            found[name] = ("whitespace", made["whitespace"][" ".join(name.split())])
        elif (level := _decoded(name, levels)) is not None:
            found[name] = ("encoding", level)
        elif (level := _whole(name, levels)) is not None:
            found[name] = ("truncated", level)
        elif (value := _number(name)) is not None:  # of numbers every sign counts: -1 is not 1 with a dash
            if value in numeric:
                found[name] = ("spelt", numeric[value])
        elif _plain(name) and _plain(name) in made["spelt"]:
            found[name] = ("spelt", made["spelt"][_plain(name)])
    return found


def _decoded(name: str, levels: list[str]) -> str | None:
    """The known level that this is, once decoded as it should have been; or without its accents."""
    candidates = {html.unescape(name), unquote(name)}
    for codec in ("latin-1", "cp1252"):
        try:
            candidates.add(name.encode(codec).decode("utf-8"))
        except UnicodeError:
            continue
    if "\\" in name:
        with contextlib.suppress(UnicodeError):
            candidates.add(name.encode("ascii").decode("unicode_escape"))
    known = set(levels)
    for candidate in candidates - {name}:
        if candidate in known:
            return candidate
    bare = _unaccented(name)
    broken = [part for part in name.replace("?", "\ufffd").split("\ufffd") if part]
    for level in levels:
        if not level.isascii() and (bare == _unaccented(level) or _fits(broken, name, level)):
            return level
    return None


def _fits(parts: list[str], name: str, level: str) -> bool:
    """Whether the level is this text with its broken characters put right."""
    if not ("\ufffd" in name or "?" in name) or not parts:
        return False
    place = 0
    for part in parts:
        at = level.find(part, place)
        if at < 0:
            return False
        place = at + len(part)
    return abs(len(level) - len(name)) <= 2


def _unaccented(text: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))


def _whole(name: str, levels: list[str]) -> str | None:
    """The known level that begins with this text, if it is one and only."""
    bare = name.rstrip(" .…")
    if len(bare) < SHORTEST_CUT:
        return None
    longer = [level for level in levels if level.startswith(bare) and len(level) > len(bare)]
    return longer[0] if longer else None


def _plain(level: str) -> str:
    return "".join(character for character in level.casefold() if character.isalnum())


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None
