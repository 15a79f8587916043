"""A live deployment with a reference, and ways to let rows and requests arrive as the shipper would write them."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from accounts.models import Organization
from mlops.core import clock
from registry.models import Dataset, ModelVersion, RegisteredModel
from registry.services import datasets
from serving import traffic
from serving.models import Deployment, DeploymentStatus, PredictionLog, Release, Route, ShippedBatch, TrafficBucket

SCHEMA = {
    "kind": "table",
    "inputs": [
        {"name": "amount", "type": "double", "nullable": True},
        {"name": "age", "type": "long", "nullable": True},
        {"name": "colour", "type": "string", "nullable": True},
        {"name": "member", "type": "boolean", "nullable": True},
    ],
    "tensor": None,
    "output": {"task": "classifier", "classes": ["no", "yes"], "probabilities": True},
    "source": "reference",
}
HOUR = timedelta(hours=1)


class Scene:
    """``rows(n)`` are like the reference; change some to make them drift. Everything arrives through ``log``."""

    schema: dict[str, Any] = SCHEMA

    def __init__(self, organization: Organization, name: str = "fraud", seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.organization = organization
        self.model = RegisteredModel.objects.create(
            organization=organization, slug=name, name=name, project=_project(organization)
        )
        self.version = self.add_version(1)
        self.deployment = Deployment.objects.create(
            organization=organization, name=name, model=self.model, status=DeploymentStatus.LIVE, live_since=clock.now()
        )
        self.go_live(self.version)

    def add_version(self, number: int, **fields: Any) -> ModelVersion:
        return ModelVersion.objects.create(
            organization=self.organization,
            model=self.model,
            number=number,
            status="ready",
            file_key="none",
            filename="model.joblib",
            sha256=f"{number:064d}",
            size_bytes=1,
            schema=self.schema,
            signature={"keyid": "test"},
            format="sklearn",
            profile={"predict_ms_p95": 4.0},
            **fields,
        )

    def go_live(self, version: ModelVersion) -> Deployment:
        Route.objects.filter(deployment=self.deployment).delete()
        Route.objects.create(deployment=self.deployment, version=version)
        number = Release.objects.filter(deployment=self.deployment).count() + 1
        Release.objects.create(
            organization=self.organization,
            deployment=self.deployment,
            number=number,
            kind="deploy",
            version=version,
            actor="test",
        )
        self.deployment = Deployment.objects.with_routes().get(pk=self.deployment.pk)
        return self.deployment

    # -- rows -----------------------------------------------------------------------------------------------------

    def row(self) -> dict[str, Any]:
        return {
            "amount": round(self.random.lognormvariate(4, 0.6), 2),
            "age": self.random.randint(18, 80),
            "colour": self.random.choices(["red", "green", "blue"], [5, 3, 2])[0],
            "member": self.random.random() < 0.4,
        }

    def rows(self, count: int, **changes: Any) -> list[dict[str, Any]]:
        """Rows like the reference. ``amount=lambda value: value * 3`` changes a column of each."""
        made = [self.row() for _ in range(count)]
        for row in made:
            for name, change in changes.items():
                row[name] = change(row[name])
        return made

    def reference(
        self, count: int = 3000, version: ModelVersion | None = None, kind: str = Dataset.Kind.REFERENCE
    ) -> Dataset:
        rows = self.rows(count)
        answers = [self.answer(row) for row in rows]
        dataset = Dataset.objects.create(
            organization=self.organization,
            version=version or self.version,
            kind=kind,
            file_key="none",
            filename="reference.csv",
            format="csv",
            sha256="0" * 64,
            size_bytes=1,
            rows=count,
        )
        content = {
            "columns": {name: [row[name] for row in rows] for name in rows[0]},
            "predictions": [each[0] for each in answers],
            "probabilities": [each[1] for each in answers],
        }
        dataset.columns_key = datasets.write_columns(dataset, content)
        dataset.save()
        return dataset

    def answer(self, row: dict[str, Any]) -> tuple[Any, list[float]]:
        return answer(row)

    def log(
        self,
        rows: list[dict[str, Any]],
        at: datetime | None = None,
        version: ModelVersion | None = None,
        key: str = "",
    ) -> ShippedBatch:
        """One shipped batch of answered rows."""
        at = at or clock.now()
        batch = ShippedBatch.objects.create(rows=len(rows))
        logged = []
        for place, row in enumerate(rows):
            prediction, probabilities = self.answer(row)
            logged.append(
                PredictionLog(
                    organization=self.organization,
                    deployment=self.deployment,
                    version=version or self.version,
                    batch=batch,
                    at=at + timedelta(microseconds=place),
                    row=0,
                    key_prefix=key,
                    request_id=f"r{batch.pk}-{place}",
                    status=200,
                    latency_ms=3.0,
                    features=row,
                    prediction=prediction,
                    probabilities=probabilities,
                )
            )
        PredictionLog.objects.bulk_create(logged)
        return batch

    # -- requests -------------------------------------------------------------------------------------------------

    def requests(
        self, count: int, *, at: datetime | None = None, refused: int = 0, broken: int = 0, latency_ms: float = 3.0
    ) -> None:
        """``count`` requests of one five-minute bucket, some of them refused (422) or broken (500)."""
        counts = traffic.Counts()
        for place in range(count):
            status = 422 if place < refused else 500 if place < refused + broken else 200
            counts.add(status, 1, latency_ms)
        bucket, _ = TrafficBucket.objects.get_or_create(
            organization=self.organization,
            deployment=self.deployment,
            version=self.version,
            at=clock.floor(at or clock.now(), traffic.BUCKET),
        )
        counts.include(bucket)
        for name in ("requests", "rows", "client_errors", "server_errors", "latency"):
            setattr(bucket, name, getattr(counts, name))
        bucket.save()


def answer(row: dict[str, Any]) -> tuple[str, list[float]]:
    """The model: large amounts of the young are suspicious."""
    score = min(max(0.1 + (row["amount"] or 0) / 300 - float(row["age"] or 40) / 400, 0.01), 0.99)
    return ("yes" if score > 0.25 else "no"), [round(1 - score, 4), round(score, 4)]


def _project(organization: Organization) -> Any:
    from registry.models import Project

    return Project.objects.get_or_create(organization=organization, slug="default", defaults={"name": "Default"})[0]
