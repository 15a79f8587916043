"""Categories (and codes: few whole numbers): new, gone, renamed, otherwise written, a default for many, another mix."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from monitoring.drift.causes import spelling
from monitoring.drift.causes.cause import GENERAL, Cause, Change
from monitoring.drift.causes.words import listed, percent

Levels = Counter[str]
# Log likelihood by which "one level lost these rows" must beat "all levels lost some" to be called a rename.
SURE = 1.5
FEWEST_GONE = 10  # rows a level should have had to be missed
FEWEST_NAMED = 3
LEAST_PREVALENCE = 0.1
FEWEST_PERMUTED, LEAST_PERMUTED = 5, 0.2


def unseen(change: Change) -> Cause | None:
    """Levels the reference never had: known ones otherwise written, a stand-in for nothing, a rename, or really new."""
    levels = change.levels
    if levels is None:
        return None
    before, now = levels
    new = Counter(
        {name: rows for name, rows in now.items() if name not in before and name not in change.bins.rare_levels}
    )
    index = change.bins.unseen_index
    share = change.share(index)[1] if index is not None else sum(new.values()) / max(sum(now.values()), 1)
    if not new or share <= 0:
        return None
    return (
        _otherwise_written(change, before, new, share)
        or _placeholder(new, share)
        or _all_renamed(before, now, new, share)
        or _renamed(before, now, new, share)
        or _new(change, before, now, new, share)
    )


def _otherwise_written(change: Change, before: Levels, new: Levels, share: float) -> Cause | None:
    found = spelling.matches(new, [*before, *change.bins.rare_levels])
    rows = Counter({how: sum(new[name] for name, (each, _) in found.items() if each == how) for how in spelling.WORDS})
    how, most = rows.most_common(1)[0]
    if most <= 0.5 * sum(new.values()):
        return None
    name, level = next((name, level) for name, (each, level) in found.items() if each == how)
    code = "renamed_category" if how == "spelt" else how
    sentence = f'{percent(share)} of the values {spelling.WORDS[how]}: "{name}" for "{level}"'
    levels = {name: level for name, (_, level) in found.items()}
    return Cause(
        code, sentence, share, 1.5 * share, {"levels": dict(new), "is": share}, {"how": "levels", "levels": levels}
    )


def _placeholder(new: Levels, share: float) -> Cause | None:
    rows = {name: count for name, count in new.items() if spelling.is_placeholder(name)}
    if sum(rows.values()) <= 0.5 * sum(new.values()):
        return None
    name = max(rows, key=rows.__getitem__)
    sentence = (
        f'{percent(share)} of the values are "{name}", which stands for a missing value and never came in the baseline'
    )
    return Cause("missing_as_text", sentence, share, 1.5 * share, {"levels": dict(new), "is": share})


def _renamed(before: Levels, now: Levels, new: Levels, share: float) -> Cause | None:
    """Whether the new levels took the rows of single old ones, and not some of every level's."""
    pairs = _pairs(before, now, new)
    if not pairs or sum(new[name] for name, _ in pairs) < 0.5 * sum(new.values()):
        return None
    name, level = pairs[0]
    rest = f" ({len(pairs)} levels in all)" if len(pairs) > 1 else ""
    gone = "no longer comes" if not now[level] else f"is {percent(now[level] / sum(now.values()))} of them"
    was = percent(before[level] / sum(before.values()))
    sentence = f'{percent(share)} of the values are new: "{name}" took the place of "{level}"{rest}, which {gone} (baseline {was})'
    numbers = {"levels": dict(new), "is": share, "renamed": dict(pairs)}
    return Cause("renamed_category", sentence, share, 1.5 * share, numbers, {"how": "levels", "levels": dict(pairs)})


def _all_renamed(before: Levels, now: Levels, new: Levels, share: float) -> Cause | None:
    """Whether every level has a new name: as many as before, with the same shares in order."""
    total = sum(now.values())
    if share < 0.9 or len(before) < 2 or total < 30 or sum(new.values()) < 0.9 * total:
        return None
    pairs = list(zip((name for name, _ in new.most_common()), (name for name, _ in before.most_common()), strict=False))
    wanted = {name: before[old] / sum(before.values()) for name, old in pairs}
    if abs(len(new) - len(before)) > 0.2 * len(before) or not _agrees(new, wanted, total):
        return None
    name, old = pairs[0]
    sentence = f'{percent(share)} of the values have new names, with the shares the old ones had: "{name}" probably stands for "{old}"'
    undo = {"how": "levels", "levels": dict(pairs)}
    return Cause(
        "renamed_category", sentence, share, 1.5 * share, {"levels": dict(new.most_common(20)), "is": share}, undo
    )


def _pairs(before: Levels, now: Levels, new: Levels) -> list[tuple[str, str]]:
    """(new level, old one) for each new level whose rows are missing at one old level, the most frequent new first."""
    total, all_before = sum(now.values()), sum(before.values())
    free, pairs = set(before), []
    for name, rows in new.most_common(10):
        taken = rows / total
        best = max(free, key=lambda level: _rename_likelihood(before, now, level, taken), default=None)
        if best is None or rows < 5:
            continue
        lost = before[best] / all_before - now[best] / total
        noise = math.sqrt(max(taken, lost, 1e-9) / total + max(before[best], 1) / all_before**2)
        if abs(lost - taken) <= 2.5 * noise and _rename_likelihood(before, now, best, taken) > SURE:
            pairs.append((name, best))
            free.discard(best)
    return pairs


def _rename_likelihood(before: Levels, now: Levels, level: str, taken: float) -> float:
    """Log likelihood of the known levels' rows now: this one lost ``taken`` of all rows, against all lost alike."""
    all_before = sum(before.values())
    rows = sum(count for name, count in now.items() if name in before)
    if taken >= 1 or not rows:
        return 0.0
    old = before[level] / all_before
    kept = max(old - taken, 1e-4)
    known = [(name, before[name] / all_before) for name in before]
    lost_alone = sum(
        now[name] * math.log((kept if name == level else share) / (1 - old + kept)) for name, share in known
    )
    lost_alike = sum(now[name] * math.log(share) for name, share in known)
    return lost_alone - lost_alike


def _new(change: Change, before: Levels, now: Levels, new: Levels, share: float) -> Cause:
    names = _named(new)
    absent = gone_levels(change)
    instead = f"; {listed(absent)} no longer comes" if len(absent) == 1 else ""
    sentence = f"{percent(share)} of the values are new: {names} never came in the baseline{instead}"
    return Cause("new_category", sentence, share, 1.2 * share, {"levels": dict(new.most_common(20)), "is": share})


def _named(new: Levels) -> str:
    """New levels by name, of those that came a few times: what came once is one row's value (an address, a name)."""
    common = [name for name, rows in new.most_common() if rows >= FEWEST_NAMED]
    if len(common) == len(new):
        return listed(common)
    return " and ".join([*([listed(common[:3])] if common else []), "values that came once or twice"])


def gone(change: Change) -> Cause | None:
    """Levels that came regularly and no longer do."""
    absent = gone_levels(change)
    if not absent or change.levels is None:
        return None
    before, now = change.levels
    if len(now) == 1 and len(before) > 1:
        return None  # one level alone: that is told by ``stuck``
    shares = {level: before[level] / change.before.rows for level in absent}
    total = sum(shares.values())
    verb = "no longer comes" if len(absent) == 1 else "no longer come"
    heir = _heir(before, now, absent)
    taken = f'; "{heir}" has taken the place' if heir else ""
    sentence = f"{listed(absent)} {verb} (baseline {percent(total)} of the values){taken}"
    return Cause("category_gone", sentence, total, 1.1 * total, {"levels": shares, "instead": heir})


def gone_levels(change: Change) -> list[str]:
    """Levels absent now that should have come at least ten times by their share in the baseline."""
    if change.levels is None:
        return []
    before, now = change.levels
    rows = sum(now.values()) / max(sum(before.values()), 1)
    return [level for level, count in before.most_common() if not now[level] and count * rows >= FEWEST_GONE]


def _heir(before: Levels, now: Levels, absent: list[str]) -> str | None:
    """The level that took all the rows of those that are gone, if one did."""
    taken = sum(before[level] for level in absent) / sum(before.values())
    left = {name: before[name] for name in before if name not in absent}
    total = sum(now.values())
    for name in left:
        wanted = {each: before[each] / sum(before.values()) + (taken if each == name else 0.0) for each in left}
        if len(left) > 1 and _agrees({each: now[each] for each in left}, wanted, total):
            return name
    return None


def stuck(change: Change) -> Cause | None:
    """One level alone, or one that a default gives to a part of the rows: it grew and all others shrank alike."""
    if change.levels is None:
        return None
    before, now = change.levels
    total, all_before = sum(now.values()), sum(before.values())
    if total < 30 or len(before) < 2:
        return None
    level, rows = now.most_common(1)[0]
    was, is_now = before[level] / all_before, rows / total
    if len(now) == 1 and 0 < was < 0.97:
        return Cause("constant", f'every value is "{level}"; the source may be stuck', 1.0, 1.6, {"value": level})
    grown = {each: now[each] / total - before[each] / all_before for each in before}
    level = max(grown, key=grown.__getitem__)
    was, is_now = before[level] / all_before, now[level] / total
    share = (is_now - was) / max(1 - was, 1e-9)
    if share < 0.08 or len(before) < 4 or any(name not in before for name in now):
        return None
    others = {each: before[each] / all_before * (1 - is_now) / max(1 - was, 1e-9) for each in before if each != level}
    if not _agrees({each: now[each] for each in others}, others, total):
        return None
    shares = f'{percent(is_now)} of the values are "{level}" (baseline {percent(was)}), and all others shrank alike'
    sentence = f"{shares}; a default may be used for about {percent(share)} of the rows"
    return Cause("default_spike", sentence, share, 1.2 * share, {"value": level, "was": was, "is": is_now})


def swapped(change: Change) -> Cause | None:
    """Two levels have each other's share now: their codes may be exchanged."""
    if change.levels is None:
        return None
    before, now = change.levels
    total, all_before = sum(now.values()), sum(before.values())
    if total < 30 or any(name not in before for name in now):
        return None
    shares = {name: rows / all_before for name, rows in before.items()}
    grown = sorted(shares, key=lambda name: now[name] / total - shares[name])
    lower, higher = grown[0], grown[-1]
    moved = abs(shares[lower] - shares[higher])
    if moved < (0.3 if len(shares) == 2 else LEAST_PREVALENCE):
        return None
    wanted = shares | {lower: shares[higher], higher: shares[lower]}
    if not _agrees(now, wanted, total):
        return _permuted(now, shares, total)
    sentence = f'"{lower}" and "{higher}" have each other\'s share of the values now: their codes may be exchanged'
    undo = {"how": "levels", "levels": {lower: higher, higher: lower}}
    return Cause("levels_swapped", sentence, moved, 1.15 * moved, {"levels": [lower, higher]}, undo)


def _permuted(now: Levels, shares: dict[str, float], total: int) -> Cause | None:
    """All shares are there again, under other levels' names. Of few levels any mix looks so."""
    order = sorted(shares, key=lambda name: -now[name])
    wanted = dict(zip(order, sorted(shares.values(), reverse=True), strict=True))
    moved = sum(abs(wanted[name] - shares[name]) for name in shares) / 2
    if len(shares) < FEWEST_PERMUTED or moved < LEAST_PERMUTED or not _agrees(now, wanted, total):
        return None
    sentence = f"the same shares now stand at other levels ({listed(order)} come most): the codes may be assigned anew"
    return Cause("levels_swapped", sentence, moved, 1.1 * moved, {"levels": order[:10]})


def mix(change: Change) -> Cause | None:
    """The same levels in other shares."""
    if change.levels is None or not change.levels[0]:
        return None
    before, now = change.levels
    total, all_before = max(sum(now.values()), 1), sum(before.values())
    level = max(before, key=lambda name: abs(now[name] / total - before[name] / all_before))
    was, is_now = before[level] / all_before, now[level] / total
    moved = abs(is_now - was)
    weight = GENERAL * moved * (0.5 if change.are_codes else 1.0)
    sentence = f'"{level}" is {percent(is_now)} of the values (baseline {percent(was)})'
    return Cause("mix_change", sentence, moved, weight, {"level": level, "was": was, "is": is_now})


def _agrees(now: dict[str, int] | Levels, wanted: dict[str, float], total: int) -> bool:
    """Whether these rows have the wanted shares of all rows, as far as chance lets one say (p > 0.01)."""
    from scipy import special  # here: pages import the words of this package, and scipy is the worker's

    names = [name for name in wanted if wanted[name] > 0]
    observed = np.array([now[name] for name in names] + [0], dtype=float)
    expected = np.array([wanted[name] for name in names] + [0.0]) * total
    observed[-1] = max(total - observed[:-1].sum(), 0.0)
    expected[-1] = max(total - expected[:-1].sum(), 0.5)
    statistic = float(((observed - expected) ** 2 / np.maximum(expected, 0.5)).sum())
    return float(special.chdtrc(max(len(names) - 1, 1), statistic)) > 0.01
