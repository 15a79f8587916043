"""The kit in a real browser: every piece in light and dark, on a phone and on a desk, and what its scripts do."""

from __future__ import annotations

import json

import pytest

from tests.browser import SCHEMES, WIDTHS

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ANSWER = {
    "predictions": ["fraud"],
    "probabilities": [[0.13, 0.87]],
    "classes": ["fine", "fraud"],
    "prediction_ids": ["0192f3a1"],
    "model": {"name": "fraud", "version": 3},
    "timings_ms": {"total": 2.13, "load": 640.0},
}
PROBLEM = {
    "detail": "amount is missing.",
    "hint": "Give a number.",
    "errors": [{"column": "amount", "message": "may not be empty"}],
}


def words(element):
    return " ".join(element.inner_text().split())


@pytest.fixture
def kit(page_at, settings):
    settings.ROOT_URLCONF = "tests.ui.urls"

    def open_kit(query="", **options):
        seen = page_at(f"/ui/kit/{query}", **options)
        if options.get("js", True):
            seen.page.wait_for_selector(".uplot")
        return seen

    return open_kit


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_kit_is_clean(kit, width, scheme):
    assert kit("?messages", width=width, scheme=scheme).problems() == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_public_page_is_clean(page_at, scheme):
    assert page_at("/accounts/login/", width=375, scheme=scheme).problems() == []


def test_the_helper_sees_what_is_wrong(kit):
    seen = kit()
    seen.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: #777\">x</p><img src=\"https://example.invalid/x.png\">');"
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<svg width=\"3000\" height=\"1\"></svg><button></button>')"
    )
    seen.wait_until("window.__csp.length >= 2")
    found = " ".join(seen.problems())
    assert "csp style-src" in found
    assert "csp img-src" in found
    assert "scrolls sideways" in found
    assert "axe button-name" in found


def test_the_theme_is_kept_without_a_flash(kit):
    page = kit(scheme="dark").page
    page.click('[data-theme-set="light"]')
    page.reload(wait_until="commit")
    page.wait_for_selector("body")
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "light"


def test_without_scripts_everything_can_be_read(kit):
    page = kit(js=False).page
    assert page.locator("#call-python").is_visible()
    assert page.locator('input[type="file"]').is_visible()


def test_the_menu_of_a_phone_opens_and_closes(kit):
    page = kit(width=375).page
    assert not page.locator("#sidebar-body").is_visible()
    page.click("[data-sidebar-toggle]")
    assert page.locator("#sidebar-body").is_visible()
    assert page.get_attribute("[data-sidebar-toggle]", "aria-expanded") == "true"


def test_escape_closes_a_menu_and_gives_the_focus_back(kit):
    page = kit().page
    page.click(".page-head .menu summary")
    page.focus(".page-head .menu a")
    page.keyboard.press("Escape")
    assert not page.evaluate("document.querySelector('.page-head .menu').open")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_a_dialog_is_clean_and_closes(kit):
    seen = kit()
    seen.page.click('[data-dialog-open="confirm"]')
    assert seen.axe() == []
    seen.page.click("#confirm .btn[data-dialog-close]")
    assert not seen.page.evaluate("document.getElementById('confirm').open")


def test_the_chosen_snippet_is_copied_and_remembered(kit):
    page = kit().page
    page.focus("#call-tab-curl")
    page.keyboard.press("ArrowRight")
    page.click("#call-tab-python")
    page.click("[data-copy-visible]")
    page.wait_for_selector(".copy.is-copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("import slipway")
    page.reload()
    assert page.locator("#call-python").is_visible()
    assert not page.locator("#call-curl").is_visible()


def test_a_toast_from_the_server_shows_its_hint_and_stays_when_it_is_an_error(kit):
    page = kit().page
    detail = {
        "level": "danger",
        "message": "Not stored.",
        "hint": "Free some space.",
        "action": {"label": "Look", "url": "#look"},
    }
    page.evaluate("detail => document.body.dispatchEvent(new CustomEvent('toast', {detail}))", detail)
    toast = page.locator(".toast-danger")
    assert "Not stored. Free some space." in words(toast)
    toast.locator("[data-toast-close]").click()
    toast.wait_for(state="detached")


def test_a_failed_htmx_request_shows_the_problem(kit):
    page = kit().page
    page.route(
        "**/fails",
        lambda route: route.fulfill(status=409, content_type="application/problem+json", body=json.dumps(PROBLEM)),
    )
    page.evaluate("htmx.ajax('POST', '/fails', {swap: 'none'})")
    assert "amount is missing." in page.wait_for_selector(".toast-danger").inner_text()


def test_a_live_part_is_fetched_until_an_answer_ends_it(kit):
    seen = kit()
    page = seen.page
    answers = iter(
        [
            '<p id="live" hx-get="/live" hx-trigger="poll" hx-swap="outerHTML" data-poll="0.1">one</p>',
            '<p id="live">two</p>',
        ]
    )
    page.route("**/live", lambda route: route.fulfill(content_type="text/html", body=next(answers)))
    page.evaluate(
        "() => { document.querySelector('main').insertAdjacentHTML('beforeend',"
        ' \'<p id="live" hx-get="/live" hx-trigger="poll" hx-swap="outerHTML" data-poll="0.1">zero</p>\');'
        " htmx.process(document.getElementById('live')) }"
    )
    seen.wait_until("document.getElementById('live').textContent === 'two'")


def _fill(page, name):
    page.fill('#kit-form [name="name"]', name)
    page.check('#kit-form [name="scopes"] >> nth=0')
    page.set_input_files(
        '#kit-form [type="file"]',
        {"name": "fraud.joblib", "mimeType": "application/octet-stream", "buffer": b"x" * 3_000_000},
    )


def test_an_upload_that_fails_comes_back_with_its_field_errors(kit):
    page = kit().page
    _fill(page, "not ok!")
    page.click("#kit-form [type=submit]")
    assert "valid" in page.wait_for_selector("#kit-form .field-error").inner_text()
    assert page.input_value('#kit-form [name="name"]') == "not ok!"
    assert page.inner_text("[data-drop-name]") == "fraud.joblib (3.0 MB)"  # nobody chooses a big file twice
    page.fill('#kit-form [name="name"]', "fraud")
    page.click("#kit-form [type=submit]")
    assert "fraud.joblib was received." in page.wait_for_selector(".toast-success").inner_text()


def test_an_upload_that_works_goes_on_to_the_next_page(kit):
    page = kit().page
    _fill(page, "fraud")
    assert page.inner_text("[data-drop-name]") == "fraud.joblib (3.0 MB)"
    page.click("#kit-form [type=submit]")
    assert "fraud.joblib was received." in page.wait_for_selector(".toast-success").inner_text()


def test_an_upload_refused_by_the_server_says_why(kit):
    page = kit().page
    _fill(page, "fraud")
    page.route(
        "**/ui/kit/",
        lambda route: route.fulfill(
            status=413,
            content_type="application/problem+json",
            body=json.dumps({"detail": "Too large.", "hint": "At most 5 GB."}),
        ),
    )
    page.click("#kit-form [type=submit]")
    assert words(page.wait_for_selector("[data-upload-error]:not([hidden])")) == "Too large. At most 5 GB."
    assert page.locator("#kit-form [type=submit]").is_enabled()


def test_try_it_sends_typed_values_and_draws_the_answer(kit):
    seen = kit()
    page, sent = seen.page, []

    def answer(route):
        sent.append(json.loads(route.request.post_data))
        route.fulfill(content_type="application/json", body=json.dumps(ANSWER))

    page.route("**/api/v1/predict/**", answer)
    page.fill("#try-country", "")
    page.click("#kit-tryit [type=submit]")
    page.wait_for_selector(".answer-value")
    assert sent == [{"inputs": [{"amount": 12.5, "country": None}]}]
    text = words(page.locator("#kit-tryit .answer"))
    assert "fraud 87 % fine 13 %" in text
    assert "2.1 ms (cold load 640 ms) · fraud v3 · id 0192f3a1" in text
    assert seen.axe() == []


def test_try_it_marks_the_column_that_is_wrong(kit):
    page = kit().page
    page.route(
        "**/api/v1/predict/**",
        lambda route: route.fulfill(status=422, content_type="application/problem+json", body=json.dumps(PROBLEM)),
    )
    page.click("#kit-tryit [type=submit]")
    assert "Give a number." in page.wait_for_selector("#kit-tryit .callout").inner_text()
    assert page.get_attribute("#try-amount", "aria-invalid") == "true"
