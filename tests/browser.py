"""A real Chromium for tests: open a page as somebody, at a width, light or dark, and ask whether it is all right.

A pytest plugin (named in tests/conftest.py). Tests that use it carry ``@pytest.mark.browser``; on a machine without Chromium they are
deselected, not skipped one by one. ``SLIPWAY_CHROMIUM`` names another binary.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.runner_host import patience

AXE = Path(__file__).parent / "vendor" / "axe-core-4.14.1" / "axe.min.js"
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
READY_FOR_AXE = """() => {
    document.getAnimations().forEach(each => { try { each.finish() } catch { each.cancel() } })
    return typeof window.axe !== 'undefined'
}"""
RUN_AXE = "([context, options]) => axe.run(context, options).then(found => found.violations)"
WIDTHS, SCHEMES = (375, 1280), ("light", "dark")
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


def chromium() -> str | None:
    """The browser's path, or None."""
    named = os.environ.get("SLIPWAY_CHROMIUM")
    return named or next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chromium() is not None:
        return
    away = [item for item in items if item.get_closest_marker("browser")]
    if away:
        config.hook.pytest_deselected(items=away)
        items[:] = [item for item in items if item not in away]


@dataclass
class Seen:
    """One open page, and what the browser complained about while it was open."""

    page: Any
    console: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def csp_violations(self) -> list[str]:
        return self.page.evaluate("window.__csp || []")

    def script_errors(self) -> list[str]:
        return [line for line in self.console if line.startswith("error") and "Failed to load resource" not in line]

    def visit(self, url: str) -> Any:
        """Go on to another page with a clean slate; its response."""
        self.console.clear()
        self.failed.clear()
        return self.page.goto(url, wait_until="load")

    def axe(self, exclude: tuple[str, ...] = ()) -> list[str]:
        """One line for each finding: rule, element, why. Animations are ended first: half a fade is not a colour."""
        if not self.page.evaluate(READY_FOR_AXE):
            self.page.evaluate(AXE.read_text())  # by the debugger, so the page's own CSP stays as it is
        context = {"include": [["html"]], "exclude": [[each] for each in exclude]}
        options = {"runOnly": {"type": "tag", "values": AXE_TAGS}, "resultTypes": ["violations"], "iframes": False}
        found = self.page.evaluate(RUN_AXE, [context, options])
        return [
            f"{rule['id']}: {node['target']} {' '.join(node['failureSummary'].split())}"
            for rule in found
            for node in rule["nodes"]
        ]

    def sideways_px(self) -> int:
        """How far the page can be scrolled sideways: 0 is right."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def wait_until(self, expression: str, timeout_ms: int = 15_000) -> None:
        """Wait for a JavaScript expression to be true. (``page.wait_for_function`` needs eval, which the pages' CSP refuses.)"""
        look = f"const look = () => ({expression}) ? done() : performance.now() > end ? fail(new Error('never true')) : setTimeout(look, 20);"
        self.page.evaluate(
            f"() => new Promise((done, fail) => {{ const end = performance.now() + {timeout_ms * patience()}; {look} look() }})"
        )

    def screenshot(self, path: Path | str) -> Path:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(target), full_page=True)
        return target

    def problems(self, exclude: tuple[str, ...] = ()) -> list[str]:
        """Everything that is wrong with the page as it stands: empty is right. ``exclude``: parts axe does not look into."""
        sideways = self.sideways_px()
        return [
            *(f"csp {each}" for each in self.csp_violations()),
            *(f"script {each}" for each in self.script_errors()),
            *(f"request {each}" for each in self.failed),
            *([f"scrolls sideways by {sideways} px"] if sideways > 0 else []),
            *(f"axe {each}" for each in self.axe(exclude)),
        ]


class Chromium:
    """One browser process. ``open`` makes a fresh context (own cookies and storage) for every page."""

    def __init__(self, playwright: Any) -> None:
        self._browser = playwright.chromium.launch(executable_path=chromium(), args=ARGS)
        self._contexts: list[Any] = []

    def open(
        self,
        url: str,
        *,
        width: int = 1280,
        scheme: str = "light",
        cookies: list[dict[str, str]] | None = None,
        js: bool = True,
    ) -> Seen:
        context = self._browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=js,
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(15_000 * patience())
        if cookies:
            context.add_cookies(cookies)
        context.add_init_script(
            "window.__csp = []; document.addEventListener('securitypolicyviolation',"
            " e => window.__csp.push(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile || ''}:${e.lineNumber} ${e.sample}`));"
        )
        self._contexts.append(context)
        page = context.new_page()
        seen = Seen(page)
        page.on("console", lambda message: seen.console.append(f"{message.type} {message.text}"))
        page.on("pageerror", lambda error: seen.console.append(f"error {error}"))
        page.on(
            "requestfailed",
            lambda request: seen.failed.append(f"{request.url} {request.failure}") if not _given_up(request) else None,
        )
        page.on(
            "response",
            lambda response: (
                seen.failed.append(f"{response.url} {response.status}") if _asset_missing(response) else None
            ),
        )
        page.goto(url, wait_until="load")
        return seen

    def close_pages(self) -> None:
        while self._contexts:
            with suppress(Exception):
                self._contexts.pop().close()

    def close(self) -> None:
        self.close_pages()
        self._browser.close()


def _given_up(request: Any) -> bool:
    """A request the page itself dropped, e.g. by going on to the next page."""
    return "ERR_ABORTED" in (request.failure or "")


def _asset_missing(response: Any) -> bool:
    return response.status >= 400 and response.request.resource_type in ("script", "stylesheet", "image", "font")


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    """The browser process of this test session. Playwright keeps an event loop in this thread, so Django is told that this is fine."""
    from playwright.sync_api import sync_playwright

    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        process = Chromium(playwright)
        yield process
        process.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


def session_cookies(client: Any, base_url: str) -> list[dict[str, str]]:
    """The cookies of a signed-in Django test client, as the browser wants them."""
    return [
        {"name": name, "value": morsel.value, "url": base_url}
        for name, morsel in client.cookies.items()
        if morsel.value
    ]


@pytest.fixture
def page_at(browser: Chromium, live_server: Any) -> Iterator[Callable[..., Seen]]:
    """``page_at("/acme/", width=375, scheme="dark", client=world.client("alice"))`` -> Seen."""

    def open_page(path: str, width: int = 1280, scheme: str = "light", client: Any = None, js: bool = True) -> Seen:
        cookies = session_cookies(client, live_server.url) if client is not None else None
        return browser.open(live_server.url + path, width=width, scheme=scheme, cookies=cookies, js=js)

    yield open_page
    browser.close_pages()
