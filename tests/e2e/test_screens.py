"""Every screen, in light on a desk and in the dark on a phone: nothing broken, nothing blocked, nothing an axe can find.

``SLIPWAY_SCREENSHOTS=DIR`` keeps a picture of each.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error as PlaywrightError
from sklearn.datasets import load_iris

from tests.browser import Chromium, Seen, session_cookies
from tests.e2e import screens
from tests.e2e.screens import SCREENS, Screen
from tests.stage import Stage
from tests.test_every_url import Addresses
from tests.tiny_models import IRIS

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
DRAWN = "[...document.querySelectorAll('[data-chart-plot]')].every(plot => !plot.textContent.includes('Loading'))"
PEOPLE = (None, "alice", "vic", "mallory")


def test_every_page_is_looked_at() -> None:
    assert screens.missing() == set(), "add these to tests/e2e/screens.py"


class Looking:
    """One browser page per person, kept open from screen to screen."""

    def __init__(self, browser: Chromium, base: str, addresses: Addresses, *, width: int, scheme: str) -> None:
        self.base, self.addresses, self.kind = base, addresses, f"{scheme}-{width}"
        self._seen: dict[str | None, Seen] = {}
        for who in PEOPLE:
            cookies = session_cookies(addresses.stage.world.client(who), base) if who else None
            self._seen[who] = browser.open(f"{base}/healthz", width=width, scheme=scheme, cookies=cookies)

    def look(self, screen: Screen) -> list[str]:
        seen = self._seen[screen.who]
        path = screen.name if screen.name.startswith("/") else self.addresses.path(screen.name)
        answer = seen.visit(self.base + path + screen.query)
        found = [] if answer.status == screen.status else [f"status {answer.status}, wanted {screen.status}"]
        found += self._charts(seen) + seen.problems(screen.not_ours)
        if folder := os.environ.get("SLIPWAY_SCREENSHOTS"):
            seen.screenshot(Path(folder) / self.kind / f"{screen.label}.png")
        if screen.not_ours:  # a part of theirs is a landmark of its own
            found = [line for line in found if not line.startswith("axe landmark-")]
        return [f"{screen.label} ({self.kind}): {line}" for line in found]

    def _charts(self, seen: Seen) -> list[str]:
        try:
            seen.wait_until(DRAWN, timeout_ms=8_000)
        except PlaywrightError:
            return ["a chart was not drawn"]
        return []


@pytest.mark.timeout(400)
def test_every_screen_is_clean(browser: Chromium, live_server: Any, stage: Stage) -> None:
    addresses = Addresses(stage)
    stage.draw_report()
    found: list[str] = []
    for width, scheme in ((1280, "light"), (375, "dark")):
        looking = Looking(browser, live_server.url, addresses, width=width, scheme=scheme)
        for screen in SCREENS:
            found += looking.look(screen)
        browser.close_pages()
    assert found == [], f"{len(found)} findings:\n" + "\n".join(found)


OTHERS = (
    ("iris-species", "xgb_wrapper", 240, 3.1),
    ("review-mood", "text_pipeline", 90, 6.5),
    ("parcel-volume", "xgb_regressor", 40, 4.2),
)


def iris_rows(count: int) -> list[dict[str, float]]:
    """Flowers as they were measured, drawn again and again."""
    measured = [dict(zip(IRIS, row, strict=True)) for row in load_iris().data.tolist()]
    return random.Random(1).choices(measured, k=count)


@pytest.mark.timeout(300)
def test_the_home_page_of_a_busy_company_is_clean(browser: Chromium, live_server: Any, stage: Stage) -> None:
    """The picture in the README is this page: SLIPWAY_SCREENSHOTS=docs writes docs/screenshot.png."""
    for seed, (name, what, per_hour, latency_ms) in enumerate(OTHERS):
        stage.push(name, what=what, reference=iris_rows(600) if what == "xgb_wrapper" else None, deploy=name)
        stage.a_day_of_requests(name, per_hour, seed=seed, latency_ms=latency_ms)
    stage.a_day_of_requests(stage.name, 160)
    stage.predict(iris_rows(400), name="iris-species")
    stage.check_everything()
    cookies = session_cookies(stage.world.client("alice"), live_server.url)
    seen = browser.open(f"{live_server.url}/{stage.org}/", cookies=cookies)
    for name in (stage.name, *(other[0] for other in OTHERS)):
        assert seen.page.get_by_role("link", name=name, exact=True).count() >= 1
    words = seen.page.locator("main").inner_text()
    assert {"Drifted", "Learning", "OK"} <= set(words.split())
    assert seen.problems() == []
    if folder := os.environ.get("SLIPWAY_SCREENSHOTS"):
        seen.page.set_viewport_size({"width": 1280, "height": 800})
        seen.page.screenshot(path=str(Path(folder) / "screenshot.png"))
    browser.close_pages()
