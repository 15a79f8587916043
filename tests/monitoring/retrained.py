"""A small real model whose world has turned round, a policy to train it again, and a server that is called."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import joblib
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from rest_framework.test import APIClient
from sklearn.linear_model import LogisticRegression

from mlops.core import clock
from monitoring import incidents, rules
from monitoring.jobs import retrain_due
from monitoring.models import Incident, Retraining, RetrainingPolicy
from monitoring.retraining import runs
from registry import signing
from registry.models import Dataset, ModelVersion, Project, RegisteredModel
from registry.services import datasets
from serving import prediction_log
from serving.models import Deployment, Rollout
from serving.services import deployments, rollouts
from tests.stage import named

NAME = "odds"
SCHEMA = {
    "kind": "table",
    "inputs": [{"name": name, "type": "double", "nullable": False} for name in ("x", "noise")],
    "tensor": None,
    "output": {"task": "classifier", "classes": [0, 1], "probabilities": True},
    "source": "reference",
}
RULE = {"min_labels": 10, "min_requests": 1, "bake_minutes": 0, "replay_rows": 100}


def rows(count: int, *, seed: int = 1) -> list[dict[str, float]]:
    draw = random.Random(seed)
    return [{"x": round(draw.uniform(-3, 3), 3), "noise": round(draw.random(), 3)} for _ in range(count)]


def before(row: dict[str, float]) -> int:
    return int(row["x"] > 0)


def now(row: dict[str, float]) -> int:
    """What is true since the world has turned."""
    return int(row["x"] > 1.5)


def fitted(truth: Any = before, *, seed: int = 1, count: int = 200) -> bytes:
    """A joblib file of a model that learnt ``truth``."""
    import pandas

    found = rows(count, seed=seed)
    model = LogisticRegression().fit(pandas.DataFrame(found), [truth(row) for row in found])
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()


def labelled_csv(found: list[dict[str, float]], truth: Any) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["x", "noise", "label"])
    writer.writeheader()
    writer.writerows([{**row, "label": truth(row)} for row in found])
    return text.getvalue()


class Odds:
    """acme's deployment "odds", live with version 1; ``traffic`` comes in with its labels."""

    def __init__(self, world: Any, jobs_now: Any) -> None:
        self.world, self.jobs = world, jobs_now
        self.api: APIClient = world.api("dan")
        version = self._champion()
        self._reference(version)
        made = deployments.create_deployment(
            organization=world.acme, name=NAME, version=version, caller=world.caller("dan")
        )
        assert made.live_version == version

    def _champion(self) -> ModelVersion:
        """Ready as its validation would leave it, which other tests see to."""
        acme, content = self.world.acme, fitted()
        project, _ = Project.objects.get_or_create(organization=acme, slug="default", defaults={"name": "Default"})
        model = RegisteredModel.objects.create(organization=acme, slug=NAME, name=NAME, project=project, last_number=1)
        version = ModelVersion.objects.create(
            organization=acme, model=model, number=1, filename="model.joblib", size_bytes=len(content),
            file_key=default_storage.save("test/odds.joblib", ContentFile(content)), sha256=hashlib.sha256(content).hexdigest(),
            format="sklearn", framework="sklearn", schema=SCHEMA, example=rows(1), claims={"target": "label"},
        )  # fmt: skip
        version.refresh_from_db()
        version.signature = signing.sign_version(version)
        version.status, version.ready_at = "ready", clock.now()
        version.save()
        return version

    def _reference(self, version: ModelVersion) -> None:
        found = rows(120, seed=2)
        content = labelled_csv(found, before).encode()
        dataset = Dataset.objects.create(
            organization=self.world.acme, version=version, kind="reference", filename="reference.csv", format="csv", rows=len(found),
            file_key=default_storage.save("test/odds.csv", ContentFile(content)), sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
        )  # fmt: skip
        columns = {name: [row[name] for row in found] for name in ("x", "noise")}
        actual = [before(row) for row in found]
        dataset.columns_key = datasets.write_columns(
            dataset,
            {
                "columns": columns,
                "predictions": actual,
                "probabilities": None,
                "target": {"name": "label", "values": actual},
            },
        )
        dataset.save()

    @property
    def deployment(self) -> Deployment:
        return Deployment.objects.with_routes().get(name=NAME)

    def url(self, rest: str) -> str:
        return f"/api/v1/acme/deployments/{NAME}/{rest}"

    def policy(self, status: int = 200, **changes: Any) -> RetrainingPolicy:
        answer = self.api.patch(self.url("retraining"), {**RULE, **changes}, format="json")
        assert answer.status_code == status, answer.content
        return RetrainingPolicy.objects.filter(deployment__name=NAME).first()

    def predict(self, found: list[dict[str, float]]) -> list[str]:
        ids: list[str] = []
        for start in range(0, len(found), 50):
            answer = self.api.post(f"/api/v1/predict/acme/{NAME}", {"inputs": found[start : start + 50]}, format="json")
            assert answer.status_code == 200, answer.content
            ids += answer.json()["prediction_ids"]
        return ids

    def traffic(self, count: int = 200, *, truth: Any = now, seed: int = 5) -> None:
        found = rows(count, seed=seed)
        ids = self.predict(found)
        prediction_log.ship_once()
        said = [{"prediction_id": each, "actual": truth(row)} for each, row in zip(ids, found, strict=True)]
        answer = self.api.post(f"/api/v1/predict/acme/{NAME}/feedback", said, format="json")
        assert answer.status_code in (200, 202), answer.content

    def incident(self, kind: str = rules.DRIFT) -> Incident:
        found = rules.Finding(
            kind,
            rules.State.FIRING,
            title="x moved",
            what="`x` moved: PSI 0.41.",
            why="Values are higher.",
            since=clock.now(),
        )
        incident = incidents.observe(self.deployment, self.deployment.live_version, found)
        assert incident is not None
        return incident

    def tick(self) -> None:
        """What the worker does each minute, with every job it leads to."""
        with self.jobs():
            retrain_due()

    def run(self) -> Retraining:
        return runs.read(Retraining.objects.latest("pk").pk)

    def soon(self) -> Retraining:
        """As if the pauses were over."""
        Retraining.objects.filter(ended_at__isnull=True).update(next_at=clock.now() - timedelta(seconds=1))
        self.tick()
        return self.run()

    def until(self, *states: str, most: int = 12) -> Retraining:
        for _ in range(most):
            run = self.soon()
            if run.state in states or not run.open:
                break
        assert run.state in states, (run.state, run.ended_because, run.error, run.log[-2000:])
        return run

    def roll_out(self) -> None:
        """Requests until the rollout has ended. A machine that stalls for a moment is no slower model."""
        Rollout.objects.filter(pk=self.run().rollout.pk).update(max_latency_factor=100)
        for seed in range(60):
            if not self.run().rollout.open:
                return
            for row in rows(30, seed=seed):
                self.predict([row])
            prediction_log.ship_once()
            rollouts.tick_all()
        raise AssertionError("the rollout did not end")

    def candidate(self, content: bytes, message: dict[str, Any], status: int = 202, **fields: Any) -> Any:
        """What a trainer does with the message that it got."""
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {message['tokens']['push']}")
        with self.jobs():
            answer = client.post(
                message["links"]["candidate"], {"file": named(content, "model.joblib"), **fields}, format="multipart"
            )
        assert answer.status_code == status, answer.content
        return answer.json()


class Called:
    """A server on this machine that keeps what it is sent. ``answers``: statuses, the last one for ever."""

    def __init__(self, settings: Any) -> None:
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.answers = [202]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0])
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{port}/train"
        settings.OUTBOUND_ALLOW = [*settings.OUTBOUND_ALLOW, f"127.0.0.1:{port}"]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.messages[-1][1])["data"]
        return found


def bundle(folder: Path) -> Path:
    """The example's train.py."""
    return folder / "examples" / "retraining" / "bundle" / "train.py"
