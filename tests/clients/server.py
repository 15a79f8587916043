"""A running Slipway for other projects' clients: three deployments, a predict key and an administrator's."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tests.serving.server import LocalServer
from tests.tiny_models import TinyModel

DEPLOYMENTS = {
    "review": "text_pipeline",
    "mlp": "torchscript",
    "churn": "churn_pipeline",
}  # besides flowers, iris_joblib

MORE = """
import django, hashlib, json, sys
django.setup()
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from accounts import keys
from accounts.caller import Caller
from accounts.models import Organization, User
from accounts.roles import Role
from mlops.core import clock
from registry import signing
from registry.models import ModelVersion, Project, RegisteredModel
from serving.services import deployments

acme, dan = Organization.objects.get(slug="acme"), User.objects.get(email="dan@acme.test")
for name, given in json.loads(sys.argv[1]).items():
    model = RegisteredModel.objects.create(organization=acme, project=Project.objects.get(), slug=name, name=name, last_number=1)
    content = open(given["path"], "rb").read()
    version = ModelVersion.objects.create(
        organization=acme, model=model, number=1, file_key=default_storage.save(f"{name}.bin", ContentFile(content)), filename=name,
        sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), format=given["format"], framework=given["format"],
        schema=given["schema"], example=given["rows"][:1],
    )
    version.refresh_from_db()
    version.signature = signing.sign_version(version)
    version.status, version.ready_at = "ready", clock.now()
    version.save()
    deployments.create_deployment(organization=acme, name=name, version=version, caller=Caller(user=dan))
print(keys.issue(acme, name="repository", scopes=["admin", "predict", "read"], role=Role.ADMIN, created_by=dan)[1])
"""


class ClientServer(LocalServer):
    """``facts()``: what a client's script is told."""

    def __init__(self, tiny: dict[str, TinyModel], runnerd_socket: str) -> None:
        super().__init__(tiny["iris_joblib"], runnerd_socket)
        self.models = {"flowers": tiny["iris_joblib"]} | {name: tiny[kind] for name, kind in DEPLOYMENTS.items()}
        self.admin_key = ""

    def _start(self) -> None:
        super()._start()
        more = {name: self._given(model) for name, model in self.models.items() if name != "flowers"}
        self.admin_key = self.python(MORE, json.dumps(more)).strip().splitlines()[-1]
        self.start_web()

    @staticmethod
    def _given(model: TinyModel) -> dict[str, Any]:
        return {"path": str(model.path), "format": model.format, "schema": model.schema, "rows": model.rows}

    def facts(self) -> dict[str, Any]:
        models = {name: asdict(model) | {"path": str(model.path)} for name, model in self.models.items()}
        return {"port": self.port, "key": self.key, "admin_key": self.admin_key, "models": models}
