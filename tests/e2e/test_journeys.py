"""What a person does on the first day, in a real browser: from sign-up to a prediction from the terminal that shows on the traffic page."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Chromium, Seen
from tests.stage import as_csv, churn_rows
from tests.tiny_models import TinyModel

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
WAIT_MS = 60_000  # a validation in the sandbox, on a busy machine


class Visitor:
    """A person at a browser, and what they see."""

    def __init__(self, browser: Chromium, base: str, width: int = 1280) -> None:
        self.base = base
        self.seen: Seen = browser.open(f"{base}/accounts/signup/", width=width)
        self.page = self.seen.page
        self.page.set_default_timeout(WAIT_MS)

    def sign_up(self, email: str) -> None:
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password").first.fill("violet-harbour-93")
        self.page.get_by_role("button", name="Make an account").click()
        self.page.wait_for_selector("h1:has-text('Push your first model')")

    def shot(self, name: str) -> None:
        if folder := os.environ.get("SLIPWAY_SCREENSHOTS"):
            self.seen.screenshot(Path(folder) / "journey" / f"{name}.png")

    def clean(self) -> None:
        assert self.seen.problems() == []


@pytest.fixture
def visitor(browser: Chromium, live_server: Any, worker: Any) -> Visitor:
    yield Visitor(browser, live_server.url)
    browser.close_pages()


@pytest.fixture
def files(tiny: dict[str, TinyModel], tmp_path: Path) -> dict[str, Path]:
    """What a data scientist has at hand: a model, a few rows, the training rows."""
    sample, reference = tmp_path / "sample.json", tmp_path / "train.csv"
    sample.write_text(json.dumps(tiny["churn_pipeline"].rows))
    reference.write_text(as_csv(churn_rows(400)))
    return {"file": tiny["churn_pipeline"].path, "sample": sample, "reference": reference}


@pytest.mark.timeout(300)
def test_from_sign_up_to_a_prediction_from_the_terminal(visitor: Visitor, files: dict[str, Path]) -> None:
    page = visitor.page
    visitor.sign_up("ada@example.test")
    visitor.shot("1-welcome")

    page.get_by_role("link", name="Choose a file").click()
    page.get_by_label("Model name").fill("churn")
    for name, path in files.items():
        page.set_input_files(f"input[name={name}]", str(path))
    page.get_by_label("Deploy as").fill("churn")
    visitor.shot("2-upload")
    held: list[Any] = []
    page.route("**/upload/", lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    page.get_by_role("button", name="Push and validate").click()
    page.wait_for_selector("[data-upload-progress]:visible progress")
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()

    page.wait_for_url("**/validation/")
    page.wait_for_selector("text=Every check passed.")
    visitor.clean()
    visitor.shot("3-validated")
    page.get_by_role("link", name="See it live").click()
    page.wait_for_selector("form[data-tryit]")
    answer = _try_it(visitor)
    visitor.shot("4-tried")

    page.get_by_role("button", name="Make a key and fill it in").click()
    page.wait_for_selector(".secret-once")
    page.locator("#deployment-call [data-copy-visible]").click()
    curl = page.evaluate("navigator.clipboard.readText()")
    assert "sk_live_" in curl
    visitor.clean()
    visitor.shot("5-key")
    told = _in_a_terminal(curl)
    assert told["predictions"] == [answer]

    page.get_by_role("link", name="Traffic").first.click()
    _requests(visitor, 2)
    visitor.clean()
    visitor.shot("6-traffic")


def _try_it(visitor: Visitor) -> str:
    """Press Predict; the class the form shows, with a bar for each class."""
    visitor.page.get_by_role("button", name="Predict").click()
    visitor.page.wait_for_selector("[data-tryit-result] .prob progress")
    assert visitor.page.locator("[data-tryit-result] .prob").count() == 2
    visitor.clean()
    answer = visitor.page.locator("[data-tryit-result] .answer-value").first.inner_text()
    assert answer in ("leaves", "stays")
    return answer


def _in_a_terminal(command: str) -> dict[str, Any]:
    """Exactly what was copied, in a shell."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def _requests(visitor: Visitor, count: int) -> None:
    """The traffic page shows so many requests, as soon as the log was shipped."""
    stat = visitor.page.locator(".stat:has-text('Requests')").first
    for _ in range(200):
        if str(count) in stat.inner_text().split():
            return
        visitor.page.wait_for_timeout(100)
        visitor.page.reload()
    pytest.fail(f"the traffic page does not show {count} requests: {stat.inner_text()}")


@pytest.mark.timeout(300)
def test_a_broken_file_is_refused_with_the_way_out(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    visitor.sign_up("bob@example.test")
    broken = tmp_path / "model.joblib"
    broken.write_bytes(b"<!doctype html><title>404</title>")
    page.get_by_role("link", name="Choose a file").click()
    page.get_by_label("Model name").fill("page")
    page.set_input_files("input[name=file]", str(broken))
    page.get_by_role("button", name="Push and validate").click()
    page.wait_for_selector(".callout-danger")  # on the validation page, or, when it is seen at once, on the form
    assert "web page" in page.locator(".callout-danger").first.inner_text()
    visitor.clean()
    visitor.shot("7-refused")
