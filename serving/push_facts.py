"""What a push changed, measured once it answers: its size and speed, and what differs from production in shape and in answers."""

from __future__ import annotations

from typing import Any

from mlops.core import words
from mlops.core.errors import SlipwayError
from mlops.jobs.runner import JobRun
from registry.models import ModelVersion, SourcePush
from serving import comparing, comparison_work
from serving.models import Comparison, Deployment
from serving.services import deployments

ROWS = 200  # logged requests that both versions answer again; without any, rows of the reference
_MOST_DIFFERENCES = 40


def measure(run: JobRun, push: SourcePush) -> dict[str, Any]:
    """JSON for ``SourcePush.report``; ``against`` is None where there is no other version in production.

    {"version", "size_bytes", "p95_ms", "environment", "packages", "against", "schema": [{"level", "text"}], "predictions": {...} | None,
    "sentence"}
    """
    version = push.version
    assert version is not None
    facts: dict[str, Any] = {
        "version": version.number,
        "size_bytes": version.size_bytes,
        "p95_ms": version.profile.get("predict_ms_p95"),
        "environment": version.environment_id,
        "packages": len(version.environment.packages) if version.environment is not None else 0,
        "against": None,
        "schema": [],
        "predictions": None,
        "sentence": "",
    }
    deployment = deployment_of(push)
    champion = _champion(deployment, version) if deployment is not None else None
    if deployment is None or champion is None:
        return facts
    facts["against"] = champion.number
    facts["schema"] = comparing.schema_differences(champion.schema or {}, version.schema or {})[:_MOST_DIFFERENCES]
    facts["predictions"] = _predictions(run, deployment, champion, version)
    facts["sentence"] = _sentence(facts["predictions"])
    return facts


def deployment_of(push: SourcePush) -> Deployment | None:
    rows = Deployment.objects.with_routes().filter(organization_id=push.organization_id, name=push.source.deployment)
    return rows.first()


def _champion(deployment: Deployment, version: ModelVersion) -> ModelVersion | None:
    """What is in production; for what is live itself: what was there before."""
    live = deployment.live_version
    if live is not None and live.pk == version.pk:
        live = deployments.previous(deployment)
    if live is None or live.pk == version.pk or live.model_id != version.model_id:
        return None
    return live


def _predictions(run: JobRun, deployment: Deployment, champion: ModelVersion, version: ModelVersion) -> dict[str, Any]:
    """{"source", "rows", "compared", "kind", "changed", "mean", "p95", "failed", "p95_ms", "p95_ms_before"}, or {"error"}.

    ``changed`` is a share of the rows both answered; ``mean`` and ``p95`` are absolute differences: of values, else of the probability
    that moved most.
    """
    row = Comparison(
        organization=deployment.organization, deployment=deployment, champion=champion, candidate=version, last=ROWS
    )
    try:
        found = comparison_work.measured(run, row)
    except SlipwayError as error:  # the push itself is live: what cannot be compared is said, not failed
        return {"error": error.detail}
    figures = found["figures"]
    spread = figures.get("difference") or figures.get("shift") or {}
    times = [figures["latency_ms"].get(who) or {} for who in ("candidate", "champion")]
    return {
        "source": str(found["source"]),
        "rows": found["rows"],
        "compared": figures["compared"],
        "kind": figures["kind"],
        "changed": None if figures["agreement"] is None else 1 - figures["agreement"],
        "mean": spread.get("mean"),
        "p95": spread.get("p95"),
        "failed": figures["candidate_failed"]["rows"],
        "p95_ms": times[0].get("p95"),
        "p95_ms_before": times[1].get("p95"),
    }


def _sentence(found: dict[str, Any]) -> str:
    if found.get("error"):
        return f"They could not be compared: {found['error']}"
    rows = found["rows"]
    of_what = "logged request" if found["source"] == "log" else "reference or sample row"
    asked = f"{rows:,} {of_what}{'' if rows == 1 else 's'}"
    if not found["compared"]:
        return f"Of {asked}, none was answered by both versions."
    labels = found["kind"] == "labels"
    told = f"Of {asked}, {words.pct(found['changed'])} {'changed class' if labels else 'changed by more than 1 % of the range'}."
    if found.get("mean") is not None:
        what = "The probability moved" if labels else "The value moved"
        told += f" {what} by {words.number(found['mean'])} on average, by less than {words.number(found['p95'])} for 95 % of them."
    if found["failed"]:
        told += f" The new version failed on {found['failed']:,}."
    return told
