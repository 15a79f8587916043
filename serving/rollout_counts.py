"""What the two versions of a rollout did, counted as the log is shipped: in the same transaction, so exactly once."""

from __future__ import annotations

import random
from collections.abc import Sequence

import orjson

from mlops.runtime.schema import answers_labels
from serving import guards, traffic
from serving.guards import Arm
from serving.models import Rollout, RolloutTally
from serving.records import Call

_draw = random.Random()  # noqa: S311  which rows are looked at, no secret


def count(calls: Sequence[Call]) -> None:
    """Add requests of open rollouts' steps. A request that chose its version says nothing about the others, and is left out."""
    owners = {call.deployment_id for call in calls}
    rollouts = {
        rollout.deployment_id: rollout
        for rollout in Rollout.objects.filter(state__in=Rollout.OPEN, deployment_id__in=owners).select_related(
            "champion"
        )
    }
    if not rollouts:
        return
    mine: dict[tuple[int, int], list[Call]] = {}
    for call in calls:
        rollout = rollouts.get(call.deployment_id)
        if rollout is None or call.pinned or call.at < rollout.step_started_at:
            continue
        if call.version_id in (rollout.champion_id, rollout.candidate_id):
            mine.setdefault((rollout.deployment_id, call.version_id), []).append(call)
    for (deployment_id, version_id), several in mine.items():
        _add(rollouts[deployment_id], version_id, several)


def _add(rollout: Rollout, version_id: int, calls: list[Call]) -> None:
    tally, _ = RolloutTally.objects.select_for_update().get_or_create(
        rollout=rollout, step=rollout.step, version_id=version_id
    )
    arm = Arm(latency=traffic.merged([tally.latency]), labels=tally.labels, sample=tally.sample, sampled=tally.sampled)
    numbers = _numbers(rollout)
    for call in calls:
        tally.requests += 1
        if call.status >= 500:
            tally.server_errors += 1
        elif call.status >= 400:
            tally.client_errors += 1
        else:
            arm.latency[traffic.bin_of(call.latency_ms)] += 1
            if call.rows:  # one of them: rows of one request are alike
                prediction = orjson.loads(_draw.choice(call.rows).prediction or "null")
                guards.add_prediction(arm, prediction, numbers=numbers, draw=_draw)
    tally.latency, tally.labels, tally.sample, tally.sampled = arm.latency, arm.labels, arm.sample, arm.sampled
    tally.save()


def _numbers(rollout: Rollout) -> bool:
    """Whether its predictions are quantities, not classes: as the live version's schema has it."""
    return not answers_labels(rollout.champion.schema)
