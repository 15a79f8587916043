"""The try-it form explains its answer: which column added what, and what is missing on the server said where it is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Chromium, session_cookies
from tests.stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_why_this_answer(browser: Chromium, live_server: Any, stage: Stage, width: int, scheme: str) -> None:
    cookies = session_cookies(stage.world.client("dan"), live_server.url)
    seen = browser.open(f"{live_server.url}/acme/deployments/churn/", width=width, scheme=scheme, cookies=cookies)
    page = seen.page
    page.get_by_role("button", name="Predict", exact=True).click()
    page.get_by_role("button", name="Why this answer?").click()
    page.wait_for_selector(".answer-why .prob progress")
    assert page.locator(".answer-why .prob").count() == 3
    assert page.locator(".answer-why .prob-name", has_text="plan").count() == 1
    assert "probability of" in page.locator(".answer-why .answer-label").inner_text()
    assert seen.problems() == []
    if folder := os.environ.get("SLIPWAY_SCREENSHOTS"):
        seen.screenshot(Path(folder) / f"why-{scheme}-{width}.png")
        page.get_by_role("tab", name="Triton client").click()
        seen.screenshot(Path(folder) / f"triton-{scheme}-{width}.png")
    browser.close_pages()
