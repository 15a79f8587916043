"""Everything that requirements.txt pins can be imported, together, in one process."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
IMPORT_NAMES = {
    "django-allauth": "allauth",
    "django-storages": "storages.backends.s3",
    "djangorestframework": "rest_framework",
    "django-q2": "django_q",
    "django-htmx": "django_htmx",
    "django-csp": "csp",
    "django-filter": "django_filters",
    "drf-spectacular": "drf_spectacular",
    "prometheus-client": "prometheus_client",
    "argon2-cffi": "argon2",
    "scikit-learn": "sklearn",
    "xgboost-cpu": "xgboost",
    "pillow": "PIL",
    "protobuf": "google.protobuf",
    "PyYAML": "yaml",
}


def pins() -> dict[str, str]:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    found = (
        re.match(r"^([A-Za-z0-9-]+)(?:\[[^\]]*\])?==(\S+)$", line)
        for line in lines
        if line and not line.startswith("#")
    )
    return {match[1]: match[2] for match in found if match}


def test_every_line_is_an_exact_pin() -> None:
    lines = [
        line for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    assert len(pins()) == len(lines)
    assert lines[0] == "torch==2.13.0"


def test_the_installed_versions_are_the_pinned_ones() -> None:
    installed = {name: metadata.version(name).split("+")[0] for name in pins()}
    assert installed == pins()


def test_all_import_together() -> None:
    modules = [IMPORT_NAMES.get(name, name.replace("-", "_")) for name in pins()]
    code = "import django; from django.conf import settings; settings.configure(); django.setup()\n" + "\n".join(
        f"import {module}" for module in modules
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
