"""``/healthz`` lives, ``/readyz`` can work (and says what is missing), ``/metrics`` for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.core.files.storage import default_storage
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from mlops.core import clock, logs
from mlops.jobs.models import Job, JobStatus
from mlops.jobs.worker_beat import last_beat
from mlops.runtime.host import get_host

log = logs.get(__name__)
WORKER_SILENT = timedelta(seconds=90)


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "ok"


def _migrations() -> str:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return f"{len(missing)} not applied: run manage.py migrate" if missing else "ok"


def _storage() -> str:
    default_storage.exists("readyz")  # raises when the folder or the bucket cannot be reached
    return "ok"


def _worker() -> str:
    beat = last_beat()
    if beat is None or clock.now() - beat > WORKER_SILENT:
        return "no worker has reported for 90 seconds: start manage.py worker"
    return "ok"


def _runners() -> str:
    status = get_host().status()
    return "ok" if status["ready"] else f"sandbox unavailable: {status['proof']['detail']} {status['proof']['fix']}"


CHECKS: dict[str, Callable[[], str]] = {
    "database": _database,
    "migrations": _migrations,
    "storage": _storage,
    "worker": _worker,
    "runners": _runners,
}


def _ask(name: str) -> str:
    try:
        return CHECKS[name]()
    except Exception as error:  # noqa: BLE001  a storage backend raises its own errors; readiness must still answer
        log.warning("not_ready", check=name, error=str(error))
        return "unavailable"


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when all checks are ok. Without a worker or runners the site still shows pages: 200 with ``degraded``."""
    checks = {name: _ask(name) for name in CHECKS}
    needed = all(checks[name] == "ok" for name in ("database", "migrations", "storage"))
    state = "ready" if all(value == "ok" for value in checks.values()) else "degraded" if needed else "unavailable"
    return JsonResponse({"status": state, "checks": checks}, status=200 if needed else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Counts from rows and the runner host; nothing here names an organisation."""
    registry = CollectorRegistry()
    jobs = Gauge("slipway_jobs", "Jobs by status", ["status"], registry=registry)
    for status in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.FAILED):
        jobs.labels(status.value).set(Job.objects.filter(status=status).count())
    status_of = get_host().status()
    Gauge("slipway_sandbox_ready", "1 when the sandbox proved itself", registry=registry).set(bool(status_of["ready"]))
    Gauge("slipway_models_resident", "Models in memory", registry=registry).set(len(status_of["entries"]))
    Gauge("slipway_models_bytes", "Bytes of models in memory", registry=registry).set(
        sum(e["bytes"] for e in status_of["entries"])
    )
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
]
