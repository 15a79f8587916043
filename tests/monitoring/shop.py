"""Made-up data with every kind of column that is awkward: skewed, heavy-tailed, negative, tiny, codes, accents, dates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

CITIES = ("München", "Zürich", "Köln", "Málaga", "Berlin", "Hamburg", "Genève", "Linz an der Donau")
WORDS = (
    "the",
    "parcel",
    "came",
    "late",
    "and",
    "box",
    "was",
    "open",
    "but",
    "all",
    "there",
    "thanks",
    "for",
    "quick",
    "help",
)


def row(random: Random) -> dict[str, Any]:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    return {
        "amount": round(random.lognormvariate(4, 0.9), 2),
        "income": round(12_000 * random.paretovariate(1.8), 0),
        "age": min(max(round(random.gauss(44, 14)), 18), 95),
        "balance": round(random.gauss(-150, 600), 2),
        "rate": round(random.uniform(0.0101, 0.0199), 6),
        "celsius": round(random.gauss(14, 7), 1),
        "weight": round(random.gauss(2.4, 0.5), 3),
        "hour": int(random.triangular(6, 23.99, 18)),
        "rating": random.choices((1, 2, 3, 4, 5), (1, 1, 3, 6, 5))[0],
        "channel": random.choices((1, 2, 3, 7), (5, 3, 2, 1))[0],
        "city": random.choices(CITIES, (8, 7, 6, 5, 5, 4, 3, 3))[0],
        "device": random.choices(("phone", "laptop", "tablet"), (6, 3, 1))[0],
        "comment": " ".join(random.choices(WORDS, k=random.randint(3, 14))),
        "seen": (start + timedelta(minutes=random.randint(0, 90_000))).isoformat(),
        "member": random.random() < 0.35,
        "country": "DE",
        "zero": 0.0,
    }


def rows(count: int, random: Random) -> list[dict[str, Any]]:
    return [row(random) for _ in range(count)]
