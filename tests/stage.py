"""A whole small company at work: acme pushed a model twice, serves it, was drifted upon, and has an incident open.

Everything came through the product's own doors: the API, the real jobs, the real sandbox, the real prediction log.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from django.core import mail
from rest_framework.test import APIClient

from accounts import services as accounts_services
from accounts.models import ApiKey, Invitation
from accounts.roles import Role
from mlops.core import clock
from mlops.jobs import runner
from mlops.jobs.models import Job
from monitoring.jobs import schedule_drift_checks
from monitoring.models import DriftCheck, Incident
from registry.models import ModelVersion
from serving import prediction_log, traffic
from serving.models import Deployment, PredictionLog, TrafficBucket
from tests.tiny_models import TinyModel
from tests.world import World

PLANS = ["basic", "plus", "pro"]


def churn_rows(count: int, *, seed: int = 3, months: float = 1.0, plans: list[str] = PLANS) -> list[dict[str, Any]]:
    """Rows like those the churn model was trained on; ``months`` multiplies that column, ``plans`` are drawn from."""
    draw = random.Random(seed)
    return [
        {
            "plan": draw.choice(plans),
            "months": round(draw.randint(1, 59) * months, 1),
            "spend": None if draw.random() < 0.09 else round(draw.gammavariate(2.0, 30.0), 2),
        }
        for _ in range(count)
    ]


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def named(content: bytes | str, name: str) -> io.BytesIO:
    file = io.BytesIO(content if isinstance(content, bytes) else content.encode())
    file.name = name
    return file


class Stage:
    """``stage.org`` "acme", ``stage.model`` "churn" with versions 1 and 2, ``stage.name`` the deployment, live with version 2."""

    org, model, name = "acme", "churn", "churn"

    def __init__(self, world: World, tiny: dict[str, TinyModel], jobs_now: Any) -> None:
        self.world, self.tiny, self._jobs_now = world, tiny, jobs_now
        self.churn = tiny["churn_pipeline"]
        self.api: APIClient = world.api("dan")
        self.pushed = [
            self.push(reference=churn_rows(600), deploy=self.name),
            self.push(reference=churn_rows(600, seed=4)),
        ]
        with self.jobs():
            self.deployed = self.post(f"deployments/{self.name}/versions", {"version": 2}, 200)
        self._people()
        self._traffic()

    # -- doors ----------------------------------------------------------------------------------------------------

    def jobs(self) -> AbstractContextManager[None]:
        """Jobs enqueued in the block run at its end."""
        return self._jobs_now()

    def url(self, rest: str) -> str:
        return f"/api/v1/{self.org}/{rest}"

    def get(self, rest: str, status: int = 200) -> Any:
        answer = self.api.get(self.url(rest))
        assert answer.status_code == status, (rest, answer.status_code, answer.content)
        return answer.json()

    def post(self, rest: str, body: Any = None, status: int = 201) -> Any:
        answer = self.api.post(self.url(rest), body or {}, format="json")
        assert answer.status_code == status, (rest, answer.status_code, answer.content)
        return answer.json()

    def push(
        self, model: str = "", *, what: str = "churn_pipeline", seed: int = 3, reference: bool = True, deploy: str = ""
    ) -> dict[str, Any]:
        """Push a tiny model through the API and let its jobs run; the answer of the push."""
        source = self.tiny[what]
        form: dict[str, Any] = {
            "file": named(source.path.read_bytes(), source.path.name),
            "sample": named(json.dumps(source.rows), "sample.json"),  # rows as its users send them
            "metadata": json.dumps(
                {"metrics": {"auc": 0.91}, "description": "Who will leave next month?", "tags": {"team": "growth"}}
            ),
        }
        if reference:
            form["reference"] = named(as_csv(reference), "reference.csv")
        if deploy:
            form["deploy"] = deploy
        with self.jobs():
            answer = self.api.post(self.url(f"models/{model or self.model}/versions"), form, format="multipart")
        assert answer.status_code == 202, answer.content
        pushed = answer.json()
        shown = self.get(f"models/{pushed['model']}/versions/{pushed['version']}")
        assert shown["status"] == "ready", shown["findings"]
        return pushed

    def predict(self, inputs: Any, status: int = 200, name: str = "") -> Any:
        answer = self.api.post(f"/api/v1/predict/{self.org}/{name or self.name}", {"inputs": inputs}, format="json")
        assert answer.status_code == status, answer.content
        return answer.json()

    # -- what happened --------------------------------------------------------------------------------------------

    def _people(self) -> None:
        acme, dan, alice = self.world.acme, self.world.caller("dan"), self.world.caller("alice")
        self.key, self.plain_key = accounts_services.create_key(acme, dan, name="checkout service", scopes=["predict"])
        with self.jobs():
            self.invitation = accounts_services.invite(acme, alice, email="ivy@elsewhere.test", role=Role.VIEWER)
        self.invitation_path = _link(mail.outbox[-1].body, "/invitations/")

    def _traffic(self) -> None:
        """Good days, a few mistakes of a caller, then people whose contracts are ten times as long."""
        for row in churn_rows(12, seed=8):
            self.predict([row])
        for _ in range(3):
            self.predict([self.churn.bad_row], status=422)
        self.predict(churn_rows(400, seed=9, months=10.0, plans=["pro", "enterprise"]))
        prediction_log.ship_once()
        with self._jobs_now(leave=("drift_report",)):  # seconds of drawing that few tests look at
            self.check_job = self.post(f"deployments/{self.name}/drift/check", status=202)

    def check_everything(self) -> None:
        """The hourly drift check of every deployment."""
        prediction_log.ship_once()
        with self._jobs_now(leave=("drift_report",)):
            schedule_drift_checks()

    def draw_report(self) -> None:
        """Let the report of the drift check be drawn too."""
        with self.jobs():
            runner.run(Job.objects.get(kind="drift_report").pk)

    def a_day_of_requests(self, name: str, per_hour: int, *, seed: int = 1, latency_ms: float = 4.0) -> None:
        """Counters of the last day, as the shipper keeps them: busy by day, calm by night, a few refused."""
        draw, now = random.Random(seed), clock.floor(clock.now(), traffic.BUCKET)
        deployment = Deployment.objects.with_routes().get(organization=self.world.acme, name=name)
        moments = [(now - timedelta(hours=hours), per_hour) for hours in range(1, 24)]
        moments += [(now - timedelta(minutes=minutes), per_hour // 12) for minutes in range(5, 60, 5)]
        for at, count in moments:
            counts = traffic.Counts()
            for _ in range(int(count * (1.2 + math.sin((at.hour - 8) / 24 * 2 * math.pi)) * draw.uniform(0.85, 1.15))):
                counts.add(422 if draw.random() < 0.004 else 200, 1, draw.lognormvariate(math.log(latency_ms), 0.4))
            bucket, _ = TrafficBucket.objects.get_or_create(
                organization=self.world.acme, deployment=deployment, version=deployment.live_version, at=at
            )
            counts.include(bucket)
            for field in ("requests", "rows", "client_errors", "server_errors", "latency"):
                setattr(bucket, field, getattr(counts, field))
            bucket.save()

    # -- rows, for addresses --------------------------------------------------------------------------------------

    @property
    def deployment(self) -> Deployment:
        return Deployment.objects.with_routes().get(organization=self.world.acme, name=self.name)

    @property
    def version(self) -> ModelVersion:
        return ModelVersion.objects.select_related("model").get(
            organization=self.world.acme, model__slug=self.model, number=2
        )

    @property
    def incident(self) -> Incident:
        return Incident.objects.get(deployment=self.deployment)

    @property
    def check(self) -> DriftCheck:
        return DriftCheck.objects.filter(deployment=self.deployment).latest("pk")

    @property
    def prediction(self) -> PredictionLog:
        return PredictionLog.objects.filter(deployment=self.deployment, error_code="").first()

    @property
    def job(self) -> Job:
        return Job.objects.get(pk=self.pushed[1]["job"]["id"])

    @property
    def open_invitation(self) -> Invitation:
        return Invitation.objects.get(pk=self.invitation.pk)

    @property
    def key_row(self) -> ApiKey:
        return ApiKey.objects.get(pk=self.key.pk)


def _link(text: str, part: str) -> str:
    """The path of the first address in a mail that contains ``part``."""
    start = text.index(part)
    return text[start:].split()[0]
