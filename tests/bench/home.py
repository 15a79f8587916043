"""The home page of an organisation with 1,000 models and 1,000,000 logged predictions."""

from __future__ import annotations

import time
from datetime import timedelta
from statistics import median
from uuid import UUID

from django.core.management import call_command
from django.db import connection
from django.test import Client

MODELS, PREDICTIONS, CHUNK = 1_000, 1_000_000, 20_000


def measure() -> str:
    from accounts.models import Membership, Organization, User
    from accounts.roles import Role

    call_command("migrate", verbosity=0)
    organization = Organization.objects.create(slug="bench-home", name="Bench home")
    user = User.objects.create_user("home@example.com", "not-used-to-sign-in-1")
    Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
    _fill(organization, user)
    client = Client(HTTP_HOST="127.0.0.1")
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    times = []
    counted: list[str] = []
    with connection.execute_wrapper(lambda execute, sql, *rest: (counted.append(sql), execute(sql, *rest))[1]):
        _get(client)
    for _ in range(15):
        started = time.perf_counter()
        _get(client)
        times.append((time.perf_counter() - started) * 1000)
    return "\n".join(
        [
            "## Home page",
            "",
            f"{MODELS:,} models, each deployed with a day of traffic, {PREDICTIONS:,} logged predictions, SQLite, view and template in process:",
            f"{median(times):.0f} ms (slowest of 15: {max(times):.0f} ms), {len(counted)} queries.",
            "",
        ]
    )


def _get(client: Client) -> None:
    response = client.get("/bench-home/")
    if response.status_code != 200:
        raise RuntimeError(f"home answered {response.status_code}")


def _fill(organization: object, user: object) -> None:
    from mlops.core import clock, ids
    from registry.models import ModelVersion, Project, RegisteredModel
    from serving import traffic
    from serving.models import Deployment, PredictionLog, Route, ShippedBatch, TrafficBucket

    project = Project.objects.create(organization=organization, slug="bench", name="Bench")
    models = RegisteredModel.objects.bulk_create(
        RegisteredModel(organization=organization, project=project, slug=f"m{n}", name=f"Model {n}", last_number=1)
        for n in range(MODELS)
    )
    versions = ModelVersion.objects.bulk_create(
        ModelVersion(
            organization=organization, model=model, number=1, status="ready", format="sklearn", schema={}, signature={},
            file_key="k", filename="m.joblib", sha256="0" * 64, size_bytes=1,
        )
        for model in models
    )  # fmt: skip
    deployments = Deployment.objects.bulk_create(
        Deployment(organization=organization, name=f"m{n}", model=model, status="live")
        for n, model in enumerate(models)
    )
    Route.objects.bulk_create(Route(deployment=d, version=v) for d, v in zip(deployments, versions, strict=True))
    now = clock.floor(clock.now(), traffic.BUCKET)
    latency = [0] * traffic.BINS
    latency[20] = 40
    for start in range(0, MODELS, 50):
        TrafficBucket.objects.bulk_create(
            TrafficBucket(
                organization=organization,
                deployment=d,
                version=v,
                at=now - traffic.BUCKET * step,
                requests=40,
                rows=40,
                latency=latency,
            )
            for d, v in zip(deployments[start : start + 50], versions[start : start + 50], strict=True)
            for step in range(0, 288, 3)
        )
    batch = ShippedBatch.objects.create(rows=PREDICTIONS)
    base = ids.uuid7().int
    for start in range(0, PREDICTIONS, CHUNK):
        PredictionLog.objects.bulk_create(
            PredictionLog(
                id=UUID(int=base + n), organization=organization, deployment=deployments[n % MODELS], version=versions[n % MODELS], batch=batch,
                at=now - timedelta(seconds=n % 86_400), request_id="bench", latency_ms=2.0, features={"a": 1.5, "b": "x"}, prediction=1,
            )
            for n in range(start, start + CHUNK)
        )  # fmt: skip
