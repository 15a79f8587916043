"""Are causes named rightly? One seed of ``tests.bench.causes``: ``python -m tests.bench.drift.causes OUT``."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from tests.bench import causes
from tests.bench.tables import table, verdict

NAMED = 0.5  # a kind of fault counts as named when more than half of its alerts say it


def main() -> None:
    draws = causes.data_sets()
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for case in causes.cases(1):
        found = causes.run(case, draws[case.data])
        if found is not None:
            good, _, said = found
            told[case.fault]["silent" if not said.alerted else "right" if good else "wrong"] += 1
    rows, kinds = [], 0
    for fault, counts in told.items():
        alerts = counts["right"] + counts["wrong"]
        kinds += alerts > 0 and counts["right"] / alerts > NAMED
        share = f"{counts['right'] / alerts:.0%}".replace("%", " %") if alerts else "–"
        rows.append([fault, str(counts["right"]), str(alerts), share, str(counts["silent"])])
    right, alerts = (sum(counts[name] for counts in told.values()) for name in ("right", "wrong"))
    text = "\n\n".join(
        [
            "### Causes",
            (
                f"Goal: at least 9 of 10 kinds of injected fault are named (the cause and the column, as the first thing that is said). {kinds} of {len(told)} kinds are named "
                f"in most of their alerts: {verdict(kinds >= 0.9 * len(told))}. Over all alerts {right:,} of {right + alerts:,} are right. Faults hit all, half or a quarter of the rows of "
                f"windows of 300 and 1,000 rows of {len(draws)} data sets; clean windows with a cause: {causes.clean(draws)}."
            ),
            table(["fault", "named", "alerts", "share", "no alert"], rows),
        ]
    )
    Path(sys.argv[1]).write_text(json.dumps({"text": text}), encoding="utf-8")


if __name__ == "__main__":
    main()
