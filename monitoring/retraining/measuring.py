"""Candidate against champion, measured: on the reference, on recent labelled rows that were held out, on replayed traffic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlops.core.storable import storable
from mlops.runtime.schema import answers_labels
from monitoring.models import Retraining
from monitoring.retraining import judging, rows
from monitoring.retraining.judging import Check, Rule, Side
from serving import comparison_work
from serving.models import Comparison


def labelled(run: Retraining, beat: Callable[[], None]) -> dict[str, Any]:
    """{"reference": Side, "recent": Side} as JSON; None where there is nothing to score on."""
    features, actual = rows.reference(run)
    recent = rows.judged(run)
    found: dict[str, Any] = {"reference": None, "recent": None}
    if features:
        found["reference"] = _side(run, features, actual, beat).as_json()
    if recent:
        found["recent"] = _side(
            run, [each.features for each in recent], [each.actual for each in recent], beat
        ).as_json()
    return dict(storable(found))


def _side(run: Retraining, features: list[dict[str, Any]], actual: list[Any], beat: Callable[[], None]) -> Side:
    assert run.candidate is not None
    answers = comparison_work.answers_to(features, (run.champion, run.candidate), beat)
    champion, candidate = ([each.prediction if each.error is None else None for each in side] for side in answers)
    return judging.paired(actual, champion, candidate, labels=answers_labels(run.champion.schema or {}))


def replayed(comparison: Comparison) -> dict[str, Any]:
    """{"changed": share answered differently or None, "failed": rows only the candidate failed on, "rows", "latency": its p95 / ours}."""
    figures = comparison.figures or {}
    compared = int(figures.get("compared") or 0)
    lost = max(0, _failed(figures, "candidate_failed") - _failed(figures, "champion_failed"))
    found: dict[str, Any] = {"rows": comparison.rows, "source": comparison.source, "failed": lost, "changed": None}
    if compared:
        found["changed"] = _far(figures) if figures.get("kind") == "numbers" else figures.get("flipped", 0) / compared
    latency = figures.get("latency_ms") or {}
    sides = [(latency.get(name) or {}).get("p95") for name in ("candidate", "champion")]
    found["latency_factor"] = sides[0] / sides[1] if all(sides) else None
    return found


def _failed(figures: dict[str, Any], side: str) -> int:
    return int((figures.get(side) or {}).get("rows") or 0)


def _far(figures: dict[str, Any]) -> float:
    """Of numbers: the mean difference, as a share of the range that most of the live version's lie in (its 5th to 95th percentile)."""
    tolerance, difference = figures.get("tolerance"), (figures.get("difference") or {}).get("mean")
    if not tolerance or difference is None:
        return 0.0 if not difference else 1.0
    return float(min(1.0, difference * 0.01 / tolerance))


def judged(run: Retraining, figures: dict[str, Any]) -> list[Check]:
    """The policy's rule on what was measured."""
    terms, replay = run.terms, figures["replay"]
    rule = Rule(terms["max_drop"], terms["min_gain"], terms["min_labels"], terms["max_change"], run.drift)
    sides = [Side(**figures[name]) if figures.get(name) else None for name in ("reference", "recent")]
    return judging.judge(sides[0], sides[1], replay["changed"], replay["failed"], rule)
