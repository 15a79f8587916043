"""The evidence as tables, for docs/drift.md."""

from __future__ import annotations

from collections.abc import Iterable

from tests.bench.drift.budget import Kept
from tests.bench.drift.figures import Share, detection, share
from tests.bench.drift.measure import Alarms
from tests.bench.drift.rules import BUDGET_DAYS, policy
from tests.bench.drift.shifts import SHIFTS
from tests.bench.drift.windows import CLEAN, Plan
from tests.bench.tables import table, verdict

Found = dict[str, dict[str, Alarms]]  # data set -> case -> rule -> alarms
CALIBRATED = ("KS and chi-square, calibrated", "PSI, calibrated")
RULES = ("ours", "ours, incident", "ours, columns together", *CALIBRATED, "PSI > 0.2", "Evidently, any column",
         "Evidently, half of the columns", "NannyML")  # fmt: skip
SHOWN = ("ours", "KS and chi-square, calibrated", "PSI, calibrated", "PSI > 0.2", "Evidently, any column", "NannyML")


def evidence(found: Found, plan: Plan, kept: list[tuple[str, Kept]], others: Iterable[str]) -> str:
    return "\n\n".join([*_false(found, plan), *_budget(kept), *_detected(found, plan), *others])


def _alarms(found: Found, name: str, kind: str, size: int, rule: str) -> list[bool]:
    return found[name].get(f"windows-{kind.replace(' ', '_')}-{size}", {}).get(rule, [])


def _sizes(found: Found, plan: Plan) -> list[int]:
    return [size for size in plan.sizes if any(_alarms(found, name, CLEAN, size, "ours") for name in found)]


def _pooled(found: Found, kind: str, size: int, rule: str) -> Share | None:
    shares = [share(alarms) for name in found if (alarms := _alarms(found, name, kind, size, rule))]
    total = sum(shares, Share(0, 0))
    return total if total.count else None


def _false(found: Found, plan: Plan) -> list[str]:
    sizes = _sizes(found, plan)
    rows = []
    for rule in RULES:
        cells = [_pooled(found, CLEAN, size, rule) for size in sizes]
        if any(cells):
            rows.append([rule, *(_per_thousand(cell) for cell in cells)])
    per_set = []
    for name in found:
        total = sum((share(_alarms(found, name, CLEAN, size, "ours")) for size in sizes), Share(0, 0))
        worst = sum((share(_alarms(found, name, CLEAN, size, "Evidently, any column")) for size in sizes), Share(0, 0))
        per_set.append([name, f"{total.hits} of {total.count:,}", f"{worst.hits:,} of {worst.count:,}"])
    promised = policy().alpha_per_check
    ours = sum((each for size in sizes if (each := _pooled(found, CLEAN, size, "ours"))), Share(0, 0))
    goal = (
        f"Goal: within the budget. Promised: {promised * 1000:.3g} per 1,000 windows (one false alarm in {BUDGET_DAYS:g} days, three windows each "
        f"hour, the columns' half of the budget). Seen: {ours.hits} of {ours.count:,} windows (95 % interval up to "
        f"{ours.bounds[1] * 1000:.2g} per 1,000): {verdict(ours.within(promised))}."
    )
    return [
        "### False alarms per 1,000 clean windows",
        goal,
        table(["rule", *(f"{size:,} rows" for size in sizes)], rows),
        "By data set, all sizes:",
        table(["data set", "ours", "Evidently, any column"], per_set),
    ]


def _per_thousand(cell: Share | None) -> str:
    if cell is None:
        return "–"
    return f"{cell.value * 1000:.3g} ({cell.hits:,} of {cell.count:,}; up to {cell.bounds[1] * 1000:.2g})"


def _budget(kept: list[tuple[str, Kept]]) -> list[str]:
    if not kept:
        return []
    rows = []
    total, most = 0, 0.0
    for name, each in kept:
        rows.append(
            [name, str(each.deployments), str(each.days), f"{each.checks:,}", str(each.said), str(each.incidents)]
        )
        total += each.said
        most += each.deployments * each.days / BUDGET_DAYS
    from scipy import stats

    met = bool(stats.poisson.sf(total - 1, most) > 0.01) if total else True
    return [
        "### The budget, as the product runs",
        (
            "Deployments without any drift, checked each hour over the last hour, the last 24 hours and the last seven days. "
            f"At most {most:.3g} false alarms were allowed in all; {total} began: {verdict(met)}."
        ),
        table(
            [
                "data set",
                "deployments",
                "days",
                "windows judged",
                "alarms begun (warning or more)",
                "of these incidents",
            ],
            rows,
        ),
    ]


def _detected(found: Found, plan: Plan) -> list[str]:
    sizes = _sizes(found, plan)
    parts = [
        "### Detection",
        (
            f"Share of single windows with an alarm, all data sets together; in brackets the median rows from the change to the alarm over streams of {plan.length} "
            "windows (–: half of the streams or more saw nothing). The calibrated rules have the same budget as ours and no limit of effect; the others have their own limits, "
            "and the false alarms above."
        ),
    ]
    worse: list[str] = []
    for size in sizes:
        rows = []
        for kind, (title, _) in SHIFTS.items():
            if _pooled(found, kind, size, "ours") is None:
                continue
            names = [*SHOWN, "ours, columns together"] if kind == "relation" else SHOWN
            rows.append(
                [
                    title,
                    *(_cell(found, plan, kind, size, rule) for rule in SHOWN),
                    _cell(found, plan, kind, size, names[-1]) if kind == "relation" else "",
                ]
            )
            worse += _worse(found, kind, size)
        parts += [f"#### Windows of {size:,} rows", table(["shift", *SHOWN, "ours, columns together"], rows)]
    said = "met" if not worse else f"**missed** for {'; '.join(worse)}"
    parts.insert(
        1,
        f"Goal: at least the detection of the best calibrated rule (a difference counts beyond what chance does, 1 %): {said}.",
    )
    return parts


def _cell(found: Found, plan: Plan, kind: str, size: int, rule: str) -> str:
    alarms = [each for name in found for each in _alarms(found, name, kind, size, rule)]
    if not alarms:
        return "–"
    seen = detection(alarms, plan.length, size)
    delay = "–" if seen.delay_rows is None else f"{seen.delay_rows:,.0f}"
    return f"{seen.first.value:.0%} ({delay})".replace("%", " %")


def _worse(found: Found, kind: str, size: int) -> list[str]:
    """Where ours (columns, or columns together) finds clearly fewer windows than the best calibrated rule: McNemar's exact test."""
    from scipy import stats

    mine = [each for name in found for each in _alarms(found, name, kind, size, "ours")]
    beside = [each for name in found for each in _alarms(found, name, kind, size, "ours, columns together")]
    both = [a or b for a, b in zip(mine, beside, strict=True)] if beside else mine
    told = []
    for rule in CALIBRATED:
        theirs = [each for name in found for each in _alarms(found, name, kind, size, rule)]
        lost = sum(b and not a for a, b in zip(both, theirs, strict=True))
        won = sum(a and not b for a, b in zip(both, theirs, strict=True))
        if lost > won and stats.binom.sf(lost - 1, lost + won, 0.5) < 0.01:
            told.append(f"{SHIFTS[kind][0]} at {size:,} rows ({rule}: {lost} windows more, {won} fewer)")
    return told[:1]
