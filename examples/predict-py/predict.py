"""Score the tone of short texts with a word list: a model of one's own, without any library."""

from __future__ import annotations

import json

from words import split


def load(path: str) -> dict:
    """``path`` is the model file of this folder."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def predict(model: dict, rows: list[dict]) -> list[dict]:
    """One {"tone", "words"} per row, a row being {"text": ...}."""
    answers = []
    for row in rows:
        found = [model["weights"][word] for word in split(row["text"]) if word in model["weights"]]
        tone = sum(found) / len(found) if found else model["neutral"]
        answers.append({"tone": round(tone, 3), "words": len(found)})
    return answers
