"""Where the tests' files go. Loaded as a plugin (``-p`` in pyproject.toml), for pytest-django reads the settings before any conftest."""

from __future__ import annotations

import os
import tempfile

os.environ["SLIPWAY_VAR"] = tempfile.mkdtemp(
    prefix="slipway-test-"
)  # short: unix socket paths are limited to 107 bytes
# One folder for all processes of a run: tests.shared.
os.environ.setdefault("SLIPWAY_TEST_RUN", os.environ["SLIPWAY_VAR"])
os.environ["SLIPWAY_TESTING"] = "1"
os.environ.setdefault("SLIPWAY_URL", "http://testserver")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SLIPWAY_ALERT_GROUP_S", "0")  # mails at once; the tests of grouping set it
# A file, as in production: SQLite's memory database knows no busy timeout, and other processes cannot open it.
os.environ.setdefault("SLIPWAY_TEST_DB", f"{os.environ['SLIPWAY_VAR']}/test.sqlite3")
