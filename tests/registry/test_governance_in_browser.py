"""Stage, promotions, rule and lineage in a real browser: nothing broken on a desk or a phone, light or dark, and the buttons work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mlops.core import clock
from registry.models import ModelVersion, Parent, Promotion
from serving.models import Deployment, Route, TrafficBucket
from tests.browser import SCHEMES, WIDTHS, Chromium, session_cookies
from tests.registry.test_promotions import a_version, rule

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def family(world: Any) -> list[ModelVersion]:
    """Three versions of ``fraud``, one made from the other; the last one waits for production, with one of two approvals."""
    from accounts.caller import Caller
    from registry.services import promotions
    from tests.registry.test_lineage import data

    run = {"name": "nightly 7", "commit": "0123456789abcdef"}
    versions = [a_version(world, 1), a_version(world, 2, claims={"run": run}), a_version(world, 3, claims={"run": run})]
    for at, version in enumerate(versions):
        data(version, sha256=f"{at // 2}" * 64)
        if at:
            Parent.objects.create(version=version, parent=versions[at - 1])
    live = Deployment.objects.create(organization=world.acme, name="fraud", model=versions[0].model, status="live")
    for version, weight in ((versions[0], 90), (versions[1], 10)):
        Route.objects.create(deployment=live, version=version, weight=weight)
        TrafficBucket.objects.create(
            organization=world.acme,
            deployment=live,
            version=version,
            at=clock.now(),
            requests=weight,
            rows=weight * 137,
        )
    promotions.request_promotion(versions[1], Caller(user=world.dan), to="staging", reason="Shadowed for a week")
    rule(world, production_approvals=2, places={"fraud-lab": "dev"})
    asked = promotions.request_promotion(
        versions[2], Caller(user=world.dan), to="production", reason="AUC 0.94 on March"
    )
    promotions.approve(asked, world.caller("olga"), comment="Checked the confusion matrix")
    return versions


PAGES = {
    "version": ("/acme/models/fraud/versions/3/", "alice"),
    "staging": ("/acme/models/fraud/versions/2/", "dan"),
    "rule": ("/acme/models/fraud/settings/", "alice"),
    "rule-developer": ("/acme/models/fraud/settings/", "dan"),
    "waiting": ("/acme/promotions/", "alice"),
    "versions": ("/acme/models/fraud/versions/", "dan"),
}


@pytest.mark.parametrize(("width", "scheme"), zip(WIDTHS, SCHEMES, strict=True))
def test_the_pages_are_whole(
    world: Any, family: Any, browser: Chromium, live_server: Any, width: int, scheme: str
) -> None:
    found = []
    for name, (path, who) in PAGES.items():
        seen = browser.open(
            live_server.url + path,
            width=width,
            scheme=scheme,
            cookies=session_cookies(world.client(who), live_server.url),
        )
        found += [f"{name}: {line}" for line in seen.problems()]
        if folder := os.environ.get("SLIPWAY_SCREENSHOTS"):
            seen.screenshot(Path(folder) / f"{scheme}-{width}" / f"governance-{name}.png")
    assert found == []


def test_the_last_approval_and_a_revocation_by_their_buttons(world, family, browser, live_server) -> None:
    path = "/acme/models/fraud/versions/3/"
    seen = browser.open(live_server.url + path, cookies=session_cookies(world.client("alice"), live_server.url))
    seen.page.get_by_label("Comment").fill("Looks right")
    seen.page.get_by_role("button", name="Approve").click()
    seen.page.get_by_text("Version 3 is in production.").wait_for()
    assert Promotion.objects.get(version=family[2]).state == "approved"
    seen.page.get_by_text("Revoke this version").click()
    seen.page.get_by_label("Why", exact=True).fill("Trained on the wrong labels")
    seen.page.get_by_role("button", name="Revoke").click()
    seen.page.get_by_text("Version 3 is revoked").wait_for()
    assert ModelVersion.objects.get(pk=family[2].pk).revoked_reason == "Trained on the wrong labels"
    assert seen.problems() == []
