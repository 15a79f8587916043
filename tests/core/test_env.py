"""A wrong setting stops the start, and says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from mlops.core import env
from mlops.settings import database


def test_a_value_can_come_from_a_file(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    monkeypatch.setenv("SLIPWAY_X_FILE", str(tmp_path / "secret"))
    assert env.text("SLIPWAY_X") == "from the file"
    monkeypatch.setenv("SLIPWAY_X_FILE", str(tmp_path / "absent"))
    with pytest.raises(ImproperlyConfigured, match="cannot be read"):
        env.text("SLIPWAY_X")


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (lambda: env.flag("SLIPWAY_X", default=False), "perhaps", "not a switch"),
        (lambda: env.number("SLIPWAY_X", 1), "many", "not a whole number"),
        (lambda: env.number("SLIPWAY_X", 1, least=2), "1", "at least 2"),
        (lambda: env.choice("SLIPWAY_X", "a", ("a", "b")), "c", "Use one of: a, b"),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch, read, value: str, message: str) -> None:
    monkeypatch.setenv("SLIPWAY_X", value)
    with pytest.raises(ImproperlyConfigured, match=message):
        read()


def test_a_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first = env.kept_secret(tmp_path / "keys" / "secret")
    assert env.kept_secret(tmp_path / "keys" / "secret") == first
    assert len(first) >= 50
    assert (tmp_path / "keys" / "secret").stat().st_mode & 0o777 == 0o600


def test_database_urls() -> None:
    postgres = database("postgresql://ada:p%40ss@db.example:5433/slipway?sslmode=require")
    assert (postgres["USER"], postgres["PASSWORD"], postgres["HOST"], postgres["PORT"], postgres["NAME"]) == (
        "ada",
        "p@ss",
        "db.example",
        "5433",
        "slipway",
    )
    assert postgres["OPTIONS"] == {"sslmode": "require"}
    assert str(database("sqlite:////tmp/x/db.sqlite3")["NAME"]) == "/tmp/x/db.sqlite3"
    with pytest.raises(ImproperlyConfigured, match="Use sqlite"):
        database("mysql://localhost/x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLIPWAY_ENV": "production"}, "SLIPWAY_HOSTS is empty"),
        ({"SLIPWAY_ENV": "production", "SLIPWAY_HOSTS": "ml.example.com"}, "SLIPWAY_SECRET_KEY"),
        ({"SLIPWAY_DEBUG": "1", "SLIPWAY_HOSTS": "ml.example.com"}, "loopback hosts only"),
    ],
)
def test_an_unsafe_start_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    environment = {**clean, "SLIPWAY_VAR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "mlops.settings", **changes}
    done = subprocess.run(
        [sys.executable, "-c", "import django; django.setup()"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stderr


def test_an_s3_server_that_does_not_answer_is_given_up_after_seconds(tmp_path: Path) -> None:
    """A request that waits holds a thread, and where a file is taken away, its organisation's row."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    s3 = {"SLIPWAY_STORAGE": "s3", "SLIPWAY_S3_ENDPOINT": "http://127.0.0.1:9", "SLIPWAY_S3_ACCESS_KEY": "a", "SLIPWAY_S3_SECRET_KEY": "b"}  # fmt: skip
    environment = {**clean, "SLIPWAY_VAR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "mlops.settings", **s3}
    asked = (
        "import django; django.setup()\n"
        "from django.core.files.storage import default_storage\n"
        "config = default_storage.connection.meta.client.meta.config\n"
        "print(config.connect_timeout * config.retries['total_max_attempts'], config.signature_version, config.s3['addressing_style'])"
    )
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["15", "s3v4", "path"]
