"""Numbers under several pushes at once: no number twice, none skipped, on both databases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from tests import shared

PUSHERS, TURNS = 3, 5


def push_often(name: str) -> None:
    """A few pushes to one new model, on this thread's own database connection."""
    from accounts.caller import Caller
    from accounts.models import Organization
    from mlops.core.storage import Spool
    from registry.metadata import Metadata
    from registry.services.push import Files, push_version
    from registry.uploads import SpooledFile

    organization = Organization.objects.get()
    for turn in range(TURNS):
        spool = Spool(limit_bytes=100, what="The model file")
        spool.write(f"{name} {turn}".encode())
        spool.finish()
        push_version(
            organization, Caller(), model="m", files=Files(SpooledFile("m.pkl", spool, None)), metadata=Metadata()
        )
    connection.close()


def push_at_once() -> list[int]:
    """The numbers that came of it."""
    from accounts.models import Organization
    from registry.models import ModelVersion

    Organization.objects.create(slug="o", name="O")
    with ThreadPoolExecutor(PUSHERS) as pool:
        list(pool.map(push_often, "abcdefgh"[:PUSHERS]))
    return sorted(ModelVersion.objects.values_list("number", flat=True))


@pytest.mark.slow
def test_on_a_sqlite_file(tmp_path: Path) -> None:
    """In a process of its own: the database of the test process lives in memory and has one writer."""
    environment = {
        **os.environ,
        "SLIPWAY_VAR": str(tmp_path),
        "DATABASE_URL": "",
        "DJANGO_SETTINGS_MODULE": "mlops.settings",
    }
    shutil.copy(shared.migrated(), tmp_path / "db.sqlite3")
    run = subprocess.run(
        [sys.executable, "-m", "tests.registry.test_numbers"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert run.stdout.strip() == str(list(range(1, PUSHERS * TURNS + 1))), run.stderr
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.skipif(
    settings.DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql", reason="needs PostgreSQL"
)
@pytest.mark.django_db(transaction=True)
def test_on_postgresql() -> None:
    assert push_at_once() == list(range(1, PUSHERS * TURNS + 1))


if __name__ == "__main__":
    import django

    django.setup()
    print(push_at_once())
