"""Fixtures of the whole suite. Files go to a folder of the test session, never to ``var``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.runner_host import runner_host  # noqa: F401  a fixture

_VAR = os.environ["SLIPWAY_VAR"]  # made by tests.environment
_DATABASE = {"db", "transactional_db", "live_server"}  # world, stage and the others lead to one of these
pytest_plugins = ["tests.browser", "tests.forge.fixtures"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that use the test database carry a mark, so that ``make test-postgres`` runs all of them and no others."""
    for item in items:
        if item.get_closest_marker("django_db") or _DATABASE & set(getattr(item, "fixturenames", ())):
            item.add_marker("database")


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def the_longest_first(items: list[pytest.Item]) -> None:
    """The walk over all screens takes longer than anything else: begun last, it would be waited for on one processor."""
    items.sort(key=lambda item: "test_screens" not in item.nodeid)


def pytest_sessionfinish() -> None:
    shutil.rmtree(_VAR, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_modify_db_settings: None) -> bool:
    """The migrations run once for all processes of the run; the other databases begin as copies. On PostgreSQL each runs its own."""
    from django.db import connection

    from tests import shared

    if connection.vendor != "sqlite":
        return False
    shutil.copy(shared.migrated(), connection.settings_dict["TEST"]["NAME"])
    return True


@pytest.fixture(scope="session")
def tiny() -> dict:
    """Real tiny models, one per format, made once for all processes of the run: name -> TinyModel."""
    from tests import tiny_models

    return tiny_models.build_once(Path(_VAR) / "tiny")


@pytest.fixture
def world(db: None):
    from tests.world import World

    return World()


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    """Route tables and limits that this process remembers for a second would outlive the rows of a test."""
    from accounts import throttling
    from serving.routing import snapshot

    snapshot.clear()
    throttling.forget_leases()


@pytest.fixture(autouse=True)
def _quick_passwords(settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


@pytest.fixture
def jobs_now(settings, django_capture_on_commit_callbacks, monkeypatch):
    """Run jobs in the test itself, as soon as the code under test has committed: ``with jobs_now(): ...``

    Jobs of the kinds in ``leave`` stay queued, as when no worker has come to them yet.
    """
    from contextlib import contextmanager

    from mlops.jobs import queue, runner
    from mlops.jobs.models import Job

    @contextmanager
    def run(leave: tuple[str, ...] = ()):
        waiting: list[int] = []
        monkeypatch.setattr(queue, "send", waiting.append)
        with django_capture_on_commit_callbacks(execute=True):
            yield
        while waiting:
            job_id = waiting.pop(0)
            if leave and Job.objects.filter(pk=job_id, kind__in=leave).exists():
                continue
            with django_capture_on_commit_callbacks(execute=True):
                runner.run(job_id)

    return run


@pytest.fixture
def own_spool(settings, tmp_path, monkeypatch):
    """A prediction spool of this test alone: nothing an earlier test left is shipped into its database."""
    from serving import prediction_log, spool

    settings.SPOOL_DIR = tmp_path / "spool"
    writer = spool.Writer(settings.SPOOL_DIR, settings.SPOOL_LIMIT_BYTES)
    monkeypatch.setattr(prediction_log, "_writer", writer)
    yield settings.SPOOL_DIR
    writer.close()


@pytest.fixture
def stage(world, tiny, runner_host, jobs_now, own_spool):  # noqa: F811  the fixture of that name
    """acme at work, by its own doors: see ``tests.stage.Stage``."""
    from tests.stage import Stage

    return Stage(world, tiny, jobs_now)
