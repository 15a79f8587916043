"""A comparison in words: what it found, as one sentence a person can act on."""

from __future__ import annotations

from typing import Any

from mlops.core import words
from serving.models import Comparison

_EXACT = 0.9995


def sentence(row: Comparison) -> str:
    """Empty while it goes on."""
    found = row.figures
    if not row.ended or found is None:
        return ""
    who, rows = f"Version {row.candidate.number}", f"{_of(row)}"
    failed = found["candidate_failed"]["rows"]
    if found["compared"] == 0:
        return (
            f"{who} failed on every one of {rows}."
            if failed == found["rows"]
            else f"No row was answered by both versions, of {rows}."
        )
    told = f"{who} {_agreement(found)} {rows}"
    tail = []
    if found["flipped"]:
        tail.append(f"{found['flipped']:,} {_flips(found)}")
    if failed:
        tail.append(f"{failed:,} it could not answer" + (_also(found)))
    return "; ".join([told, *tail]) + "."


def _of(row: Comparison) -> str:
    if row.source == Comparison.Source.LOG:
        return f"the last {row.rows:,} logged rows" if row.rows > 1 else "the one logged row"
    return f"{row.rows:,} reference or sample rows" if row.rows > 1 else "one sample row"


def _agreement(found: dict[str, Any]) -> str:
    share = found["agreement"]
    shown = "100 %" if share == 1 else words.pct(min(share, _EXACT), 1)
    if found["kind"] == "numbers":
        near = f"within {words.number(found['tolerance'])}" if found["tolerance"] else "exactly"
        return (
            f"answers {near} of the live version on {shown} of"
            if found["tolerance"]
            else f"answers exactly like the live version on {shown} of"
        )
    return f"agrees on {shown} of"


def _flips(found: dict[str, Any]) -> str:
    one = found["flipped"] == 1
    if found["kind"] == "numbers":
        return "lies further apart" if one else "lie further apart"
    return "flips" if one else "flip"


def _also(found: dict[str, Any]) -> str:
    ours = found["champion_failed"]["rows"]
    return f" (the live version: {ours:,})" if ours else ""
