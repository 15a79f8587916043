"""The sentences of an alert, from what a check kept in ``facts["causes"]``: why, what it does to the predictions, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.text import capfirst

from monitoring.drift.causes.words import number, percent

Kept = Mapping[str, Any]
COLUMNS_TOLD = 3
# What to do about each kind of cause; ``{}`` is the column.
_TODO = {
    "column_missing": "Ask who sends {} why it no longer comes.",
    "missing_spike": "Look at the source that fills {}: its values stopped coming for a part of the rows.",
    "missing_as_text": "Send null where {} has no value, not a text.",
    "wrong_type": "Let {} be sent in the type the model was trained with.",
    "date_format": "Let {} be sent in the format the model was trained with.",
    "unit_change": "Ask who sends {} which unit it is in, and convert it before it is sent.",
    "sign_change": "Ask who sends {} whether its sign was turned.",
    "constant": "Look at the source of {}: it gives the same value for every row.",
    "default_spike": "Look at the source of {}: a default stands where values should be.",
    "zero_spike": "Look at the source of {}: zero stands where values should be.",
    "rescaled": "Look for a preprocessing step of {} that runs twice, or no longer.",
    "rounding": "Let {} be sent with all its digits.",
    "clipped": "Look for a limit that cuts {} off.",
    "timezone_shift": "Ask who sends {} in which time zone it is.",
    "renamed_category": "Map the new names of {} to those the model was trained with.",
    "case_change": "Write {} as the model was trained with: upper and lower case count.",
    "whitespace": "Strip blanks from {} before it is sent.",
    "encoding": "Read {} as UTF-8 where it comes from.",
    "truncated": "Look for a field that is too short for {}.",
    "levels_swapped": "Compare the codes of {} with those the model was trained with.",
    "new_category": "Decide what the model should say for the new values of {}: it has never seen them.",
    "swapped_columns": "Check the order in which columns are sent.",
    "repeated_rows": "Look for a client that repeats or replays requests.",
}


def why(kept: Kept) -> str:
    """Causes of the whole table, then of the columns by their effect; where from, and when it began."""
    told = [cause["sentence"] for cause in kept["table"]]
    swapped = {name for cause in kept["table"] for name in cause["numbers"].get("columns", ())}
    for column in kept["columns"]:
        if column["causes"] and column["name"] not in swapped and len(told) < COLUMNS_TOLD:
            told.append(f"`{column['name']}`: {column['causes'][0]['sentence']}")
    sentences = ["; ".join(told) or "No usual cause fits; compare the histograms"]
    sentences += [f"also, {hint['sentence']}" for hint in kept.get("hints", ())]
    if kept.get("source"):
        sentences.append(kept["source"]["sentence"])
    if kept.get("segment"):
        sentences.append(kept["segment"]["sentence"])
    if kept.get("errors"):
        sentences.append(kept["errors"]["sentence"])
    if (kept.get("since") or {}).get("release"):
        sentences.append(f"It began {kept['since']['sentence'].removeprefix('since ')}")
    return " ".join(f"{capfirst(each)}." for each in sentences)


def effect(kept: Kept) -> str:
    """What undoing the columns changes, as far as the model was asked; empty when it was not."""
    found = kept["effect"]
    if found["state"] != "measured":
        return ""
    together, classes = found["together"], found["kind"] == "classes"
    if classes:
        text = (
            f"With the moved columns put back, {percent(round(together['effect'], 3))} of the predictions would be another class "
            f"({percent(round(together['low'], 3))} to {percent(round(together['high'], 3))})"
        )
    else:
        text = (
            f"With the moved columns put back, predictions would differ by {number(together['effect'])} standard deviations on average "
            f"({number(together['low'])} to {number(together['high'])})"
        )
    first = next((column for column in kept["columns"] if column["effect"]), None)
    if first is None or len(found["columns"]) < 2 or together["effect"] <= 0:
        return f"{text}."
    return f"{text}: {_share_of(first, together, classes=classes)}."


def _share_of(column: Mapping[str, Any], together: Mapping[str, float], *, classes: bool) -> str:
    alone = column["effect"]["effect"]
    if classes and alone > together["effect"]:  # columns that undo a part of each other's effect
        return f"`{column['name']}` alone put back would change {percent(round(alone, 3))}"
    if classes:
        return f"`{column['name']}` explains {round(100 * alone)} of {round(100 * together['effect'])} points"
    return f"`{column['name']}` alone makes {number(alone)} of them"


def order(kept: Kept) -> str:
    """In what order the columns stand, and why in no better one."""
    if kept["order"] == "effect":
        return "Ordered by what each does to the predictions."
    return f"Ordered by PSI: {kept['effect'].get('why') or 'their effect on the predictions was not measured'}."


def todo(kept: Kept, usual: Sequence[str]) -> tuple[str, ...]:
    """What to do about these causes first, then what is always worth doing."""
    found: list[str] = []
    for cause in kept["table"]:
        if cause["code"] in _TODO:
            found.append(_TODO[cause["code"]])
    if not found:
        first = next((column for column in kept["columns"] if column["causes"]), None)
        template = _TODO.get(first["causes"][0]["code"]) if first else None
        if first and template:
            found.append(template.format(f"`{first['name']}`"))
    source = kept.get("source")
    if source and source["kind"] == "key":
        found.append(f"Ask the owner of key {source['value']}… what changed; the other clients are as ever.")
    release = (kept.get("since") or {}).get("release")
    rest = [each for each in usual if not (release and each.startswith("Roll back"))]
    if release and release["number"] == 1:
        found.append(f"v{release['version']} is the first release: compare what is sent to it with its reference.")
    elif release:
        found.append(f"Compare with the release before v{release['version']}, and roll back if its pipeline changed.")
    return (*found, *rest)
