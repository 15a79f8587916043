"""SQLite under several writing processes, with the product's own settings: nobody ever meets "database is locked"."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shared

WRITER = """
import django, sys
django.setup()
from django.db import transaction
from accounts.models import Organization
for turn in range(60):
    with transaction.atomic():
        seen = Organization.objects.count()
        Organization.objects.create(slug=f"{sys.argv[1]}-{turn}", name=str(seen))
"""


@pytest.mark.slow
def test_four_processes_read_and_write_at_once(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "SLIPWAY_VAR": str(tmp_path),
        "DATABASE_URL": "",
        "DJANGO_SETTINGS_MODULE": "mlops.settings",
    }
    python = [sys.executable, "-c"]
    shutil.copy(shared.migrated(), tmp_path / "db.sqlite3")
    writers = [
        subprocess.Popen([*python, WRITER, f"writer{number}"], env=environment, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    failures = [text for process in writers if (text := process.communicate(timeout=100)[1]) and process.returncode]
    assert failures == []
    count = [
        *python,
        "import django; django.setup(); from accounts.models import Organization; print(Organization.objects.count())",
    ]
    assert int(subprocess.run(count, env=environment, capture_output=True, text=True, check=True).stdout) == 240
