"""A large file from a real browser over a line that breaks: it goes on by itself, it can be paused, and a reload loses nothing."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from registry.models import ModelVersion, Upload
from registry.services import uploads
from tests.browser import Chromium, Seen, session_cookies

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]
MIB = 1 << 20


class Line:
    """Between browser and server. ``cut_at``: the connection that has carried so many bytes breaks, once. ``hold_at``: it stands still."""

    def __init__(self, port: int) -> None:
        self.server, self.cut_at, self.hold_at = port, 0, 0
        self.cut, self.held, self._ends = threading.Event(), threading.Event(), threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                browser, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self.server))
                self._open += [browser, server]
                threading.Thread(target=self._carry, args=(server, browser, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(browser, server, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, upwards: bool) -> None:
        carried = 0
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                carried += len(chunk) if upwards else 0
                if self.cut_at and carried > self.cut_at:
                    self.cut_at = 0
                    self.cut.set()
                    break
                if self.hold_at and carried > self.hold_at:
                    self.held.set()
                    self._ends.wait(60)
                    break
                target.sendall(chunk)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        self._ends.set()
        for each in self._open:
            each.close()


@pytest.fixture
def line(live_server: Any) -> Iterator[Line]:
    made = Line(urlsplit(live_server.url).port)
    yield made
    made.close()


@pytest.fixture
def upload_page(browser: Chromium, world: Any, line: Line) -> Iterator[Callable[..., Seen]]:
    def open_page(**how: Any) -> Seen:
        cookies = session_cookies(world.client("dan"), line.url)
        return browser.open(f"{line.url}/acme/upload/", cookies=cookies, **how)

    yield open_page
    browser.close_pages()


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    path = tmp_path / "large.joblib"
    path.write_bytes(b"\x80\x04" + os.urandom(40 * MIB))  # three pieces
    return path


def choose(seen: Seen, file: Path) -> None:
    seen.page.get_by_label("Model name").fill("large")
    seen.page.set_input_files("input[name=file]", str(file))


def pushed(seen: Seen) -> ModelVersion:
    seen.page.wait_for_url("**/validation/")
    return ModelVersion.objects.get()


def shot(seen: Seen, name: str) -> None:
    if folder := os.environ.get("SLIPWAY_SCREENSHOTS"):
        seen.screenshot(Path(folder) / "uploads" / f"{name}.png")


def test_a_broken_line_is_tried_again_and_the_file_arrives_whole(
    upload_page: Callable[..., Seen], line: Line, large_file: Path
) -> None:
    seen = upload_page()
    choose(seen, large_file)
    line.cut_at = 25 * MIB
    seen.page.get_by_role("button", name="Push and validate").click()
    seen.page.wait_for_selector("text=Trying again in")
    assert line.cut.is_set()
    shot(seen, "waiting")
    assert seen.problems() == []
    version = pushed(seen)
    assert version.sha256 == hashlib.sha256(large_file.read_bytes()).hexdigest()
    assert version.size_bytes == large_file.stat().st_size
    upload = Upload.objects.get()
    assert upload.used_at is not None
    assert seen.page.evaluate("Object.keys(localStorage).filter(each => each.startsWith('slipway-upload'))") == []


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_paused_and_reloaded_it_goes_on_where_it_was(
    upload_page: Callable[..., Seen], line: Line, large_file: Path, width: int, scheme: str
) -> None:
    seen = upload_page(width=width, scheme=scheme)
    choose(seen, large_file)
    line.hold_at = 25 * MIB
    seen.page.get_by_role("button", name="Push and validate").click()
    assert line.held.wait(30)
    seen.page.get_by_role("button", name="Pause").click()
    seen.page.wait_for_selector("text=Paused at 39 % of large.joblib")
    shot(seen, f"paused-{width}-{scheme}")
    assert seen.problems() == []

    line.hold_at = 0
    seen.page.reload()
    seen.page.wait_for_selector("text=An upload was interrupted")
    shot(seen, f"interrupted-{width}-{scheme}")
    assert seen.problems() == []
    before = Upload.objects.get().offset
    assert before >= 16 * MIB
    choose(seen, large_file)
    seen.page.get_by_role("button", name="Push and validate").click()
    assert pushed(seen).sha256 == hashlib.sha256(large_file.read_bytes()).hexdigest()
    assert Upload.objects.count() == 1


def test_a_refused_file_is_told_and_a_cancelled_one_leaves_nothing(
    upload_page: Callable[..., Seen], line: Line, large_file: Path, world: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(uploads, "LOCK", timedelta(seconds=3))
    world.acme.storage_limit_bytes = 1000
    world.acme.save()
    seen = upload_page()
    choose(seen, large_file)
    seen.page.get_by_role("button", name="Push and validate").click()
    seen.page.wait_for_selector("text=41.9 MB do not fit: Acme uses 0 bytes of 1 kB.")
    shot(seen, "refused")
    assert seen.problems() == []
    world.acme.storage_limit_bytes = 0
    world.acme.save()
    line.hold_at = 5 * MIB
    seen.page.get_by_role("button", name="Push and validate").click()
    assert line.held.wait(30)
    with seen.page.expect_response(lambda answer: answer.request.method == "DELETE" and answer.status == 204):
        seen.page.get_by_role("button", name="Cancel").click()  # the server still waits for the bytes that are held
        seen.page.wait_for_selector("text=The upload was cancelled.")
    shot(seen, "cancelled")
    assert not ModelVersion.objects.exists()
    assert not Upload.objects.exists()
