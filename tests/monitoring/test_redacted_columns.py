"""A column that is redacted costs itself only: no false alarm, and it is said."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mlops.core import clock
from monitoring import baselines, checks, columns, counting
from monitoring.models import Baseline, ColumnCount
from monitoring.quality import scoring
from serving import redaction, retention
from serving.models import PredictionLog, ShippedBatch
from serving.services import log_policies
from tests.monitoring.scene import Scene


def _log(scene: Scene, rows: list[dict[str, Any]], redactions: dict[str, str], **options: Any) -> None:
    """Rows as the shipper leaves them behind: answered whole, kept redacted."""
    redactor = redaction.Redactor(redactions, redaction.hasher(scene.organization))
    logged = list(PredictionLog.objects.filter(batch=scene.log(rows, **options)))
    for row in logged:
        row.features = redactor.row(row.features)
    PredictionLog.objects.bulk_update(logged, ["features"], batch_size=500)


@pytest.mark.parametrize("name", ["amount", "colour"])
@pytest.mark.parametrize("how", ["hash", "remove"])
def test_a_redacted_column_is_not_compared_and_the_others_are(scene: Scene, world, name: str, how: str) -> None:
    baselines.make(scene.deployment, scene.version)
    log_policies.change(scene.deployment, world.caller("dan"), redactions={name: how})
    _log(scene, scene.rows(1500), {name: how})
    calm = checks.run(scene.deployment)
    told = next(column for column in calm.columns if column["name"] == name)
    assert calm.verdict == "ok", calm.sentence
    assert "redacted" in told["sentence"].lower()
    assert f"Redacted, so not compared: `{name}`." in calm.sentence
    _log(scene, scene.rows(1500, age=lambda value: value + 30), {name: how})
    found = checks.run(scene.deployment)
    assert found.verdict == "drift"
    assert [column["name"] for column in found.columns if column["severity"] == "drift"][0] == "age"


def test_rows_from_before_the_redaction_still_count(scene: Scene, world) -> None:
    baseline = baselines.make(scene.deployment, scene.version)
    scene.log(scene.rows(50))
    _log(scene, scene.rows(70), {"amount": "hash"})
    counting.count_new()
    rows = _counted(baseline)
    assert (rows["amount"], rows["age"]) == (50, 120)


def _counted(baseline: Baseline) -> dict[str, int]:
    found: dict[str, int] = {}
    for count in ColumnCount.objects.filter(baseline=baseline):
        found[count.column] = found.get(count.column, 0) + count.rows
    return found


def test_a_baseline_of_hashes_is_compared_with_hashes(bare: Scene, world) -> None:
    """Live rows that were hashed from the start: their categories are still categories."""
    redactions = {"colour": "hash", "amount": "remove"}
    log_policies.change(bare.deployment, world.caller("dan"), redactions=redactions)
    _log(bare, bare.rows(baselines.LIVE_ROWS), redactions, at=clock.now() - timedelta(days=9))
    baselines.make(bare.deployment, bare.version)
    _log(bare, bare.rows(1500, colour=lambda _: "violet"), redactions)
    found = checks.run(bare.deployment)
    assert "colour" in [column["name"] for column in found.columns if column["severity"] in ("drift", "warning")]


def test_what_is_kept_of_a_column_is_all_or_none_of_it() -> None:
    mark, removed = "(hashed) 00112233aabbccdd", redaction.REMOVED
    assert columns.comparable([1, None, mark, removed], hashed=False) == [1, None]
    assert columns.comparable([1, None, mark, removed], hashed=True) == [None, mark]


def test_the_sample_waits_for_monitoring_and_counts_stay(scene: Scene, world) -> None:
    baseline = baselines.make(scene.deployment, scene.version)
    scene.log(scene.rows(200), at=clock.now() - timedelta(hours=30))
    ShippedBatch.objects.update(at=clock.now() - timedelta(hours=30))
    log_policies.change(scene.deployment, world.caller("dan"), sample_share=0.1)
    assert retention.sample() == 0, "not counted yet"
    counting.count_new()
    assert retention.sample() == 0, "its scores are not counted yet"
    scoring.count_new()
    before = _counted(baseline)
    assert retention.sample() > 100
    assert PredictionLog.objects.filter(deployment=scene.deployment).count() < 60
    counting.count_new()
    assert _counted(baseline) == before
