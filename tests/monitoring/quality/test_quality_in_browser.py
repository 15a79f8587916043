"""The quality page with all its parts, in a real browser: light and dark, on a phone and wide."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from mlops.core import clock
from monitoring.models import AlertRule, CustomMetric, MetricValue
from monitoring.quality import baselines, watch
from tests.monitoring.quality.test_quality_page import URL, traffic, with_outcomes

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
DRAWN = "[...document.querySelectorAll('[data-chart-plot]')].every(plot => !plot.textContent.includes('Loading'))"


def a_bad_week(world, scene) -> None:
    """A good week with labels, a bad last day, an incident, a metric of one's own."""
    now, dan = clock.floor(clock.now(), timedelta(hours=1)) + timedelta(minutes=1), world.caller("dan")
    with_outcomes(scene)
    baselines.ensure(scene.deployment, scene.version)
    for hours in range(6 * 24, 0, -12):
        traffic(scene, dan, 150, now - timedelta(hours=hours), wrong=0.4 if hours <= 36 else 0.0)
    traffic(scene, dan, 100, now - timedelta(minutes=20), label=False)
    rule = {"threshold": 0.03, "window_minutes": 1440, "minimum_rows": 200}
    AlertRule.objects.create(organization=world.acme, deployment=scene.deployment, kind="quality", **rule)
    watch.look(scene.deployment)
    metric = CustomMetric.objects.create(
        organization=world.acme, deployment=scene.deployment, name="cost-of-errors", language="formula", unit="EUR",
        source="sum(where(prediction != actual, amount, 0))",
    )  # fmt: skip
    for hour in range(24):
        MetricValue.objects.create(metric=metric, at=now - timedelta(hours=hour), value=900 + 40 * (hour % 7), rows=400)


def test_the_quality_page_is_clean_everywhere(world, scene, page_at):
    a_bad_week(world, scene)
    found = []
    for width, scheme in ((1280, "light"), (375, "dark"), (1280, "dark"), (375, "light")):
        for name, path in (("quality", URL), ("metric", f"{URL}metrics/cost-of-errors/")):
            seen = page_at(path, width=width, scheme=scheme, client=world.client("dan"))
            seen.wait_until(DRAWN, timeout_ms=8_000)
            if folder := os.environ.get("SLIPWAY_SCREENSHOTS"):
                seen.screenshot(Path(folder) / f"{name}-{width}-{scheme}.png")
            found += [f"{name} {width} {scheme}: {line}" for line in seen.problems()]
    assert found == []
