"""A folder from a real browser: chosen, shown, sent with its names and without what no model needs; and taken back."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.core import storage
from registry.models import ModelVersion
from tests.browser import Chromium, Seen, session_cookies

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def upload_page(browser: Chromium, world: Any, live_server: Any) -> Iterator[Callable[..., Seen]]:
    def open_page(**how: Any) -> Seen:
        cookies = session_cookies(world.client("dan"), live_server.url)
        return browser.open(f"{live_server.url}/acme/upload/", cookies=cookies, **how)

    yield open_page
    browser.close_pages()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "My Model"
    for name, content in {
        "predict.py": "def predict(rows):\n    return rows\n",
        "lib/words.py": "WORDS = []\n",
        ".git/HEAD": "ref: refs/heads/main",
        "lib/__pycache__/words.pyc": "x",
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(content)
    return made


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_a_folder_is_chosen_shown_and_sent(
    upload_page: Callable[..., Seen], folder: Path, width: int, scheme: str
) -> None:
    seen = upload_page(width=width, scheme=scheme)
    seen.page.set_input_files("#id_files", str(folder))
    seen.page.wait_for_selector("text=My Model: 2 files")
    assert seen.page.get_by_label("Model name").input_value() == "my-model"
    if shots := os.environ.get("SLIPWAY_SCREENSHOTS"):
        seen.screenshot(Path(shots) / "uploads" / f"folder-{width}-{scheme}.png")
    assert seen.problems() == []
    seen.page.get_by_role("button", name="Push and validate").click()
    seen.page.wait_for_url("**/validation/")
    version = ModelVersion.objects.get()
    with tarfile.open(fileobj=io.BytesIO(b"".join(storage.open_stream(version.file_key)))) as archive:
        assert archive.getnames() == ["My Model/lib/words.py", "My Model/predict.py"]


def test_a_folder_is_taken_back_by_its_button_and_by_a_file(upload_page: Callable[..., Seen], folder: Path) -> None:
    seen = upload_page()
    for away in ("button", "file"):
        seen.page.set_input_files("#id_files", str(folder))
        seen.page.wait_for_selector("text=My Model: 2 files")
        if away == "button":
            seen.page.get_by_role("button", name="Remove").click()
        else:
            seen.page.set_input_files("input[name=file]", str(folder / "predict.py"))
        seen.page.wait_for_selector("text=as MLflow wrote it")
