"""A Slipway of its own for tests that kill processes: a SQLite file and gunicorn; nothing shared but the session's runner host."""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import shared
from tests.runner_host import wait_until
from tests.serving.hand import Hand

PROJECT = Path(__file__).resolve().parents[2]
ROW = [5.1, 3.5, 1.4, 0.2]
PATH = "/api/v1/predict/acme/flowers"

SEED = """
import django, hashlib, json, os, sys
django.setup()
from django.core.management import call_command
call_command("createcachetable", verbosity=0)
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from accounts import keys
from accounts.caller import Caller
from accounts.models import Membership, Organization, User
from accounts.roles import Role
from mlops.core import clock
from registry import signing
from registry.models import ModelVersion, Project, RegisteredModel
from serving.services import deployments

path, schema = sys.argv[1], json.loads(sys.argv[2])
acme = Organization.objects.create(slug="acme", name="Acme")
dan = User.objects.create(email="dan@acme.test")
Membership.objects.create(organization=acme, user=dan, role=Role.DEVELOPER)
_, key = keys.issue(acme, name="test", scopes=["predict", "read", "write"], role=Role.DEVELOPER, created_by=dan)
project = Project.objects.create(organization=acme, slug="default", name="Default")
model = RegisteredModel.objects.create(organization=acme, project=project, slug="iris", name="iris", last_number=1)
content = open(path, "rb").read()
version = ModelVersion.objects.create(
    organization=acme, model=model, number=1, file_key=default_storage.save("iris.joblib", ContentFile(content)), filename="iris.joblib",
    sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), format="sklearn", framework="sklearn", schema=schema, example=[[5.1, 3.5, 1.4, 0.2]],
)
version.refresh_from_db()
version.signature = signing.sign_version(version)
version.status, version.ready_at = "ready", clock.now()
version.save()
deployments.create_deployment(organization=acme, name="flowers", version=version, caller=Caller(user=dan))
print(key)
"""


class LocalServer:
    """``with LocalServer(tiny["iris_joblib"]) as slipway: slipway.start_web(); slipway.predict()``"""

    def __init__(self, model: Any, runnerd_socket: str) -> None:
        self.model = model
        self.folder = Path(
            tempfile.mkdtemp(prefix="srv-", dir=os.environ["SLIPWAY_VAR"])
        )  # where the runner host may read models
        self.environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        self.environment |= {
            "SLIPWAY_VAR": str(self.folder),
            "SLIPWAY_TESTING": "1",
            "SLIPWAY_RUNNERD_SOCKET": runnerd_socket,
            "DJANGO_SETTINGS_MODULE": "mlops.settings",
            "SLIPWAY_WEB_PROCESSES": "2",
            "PYTHONPATH": str(PROJECT),
        }
        self.port, self.key = _free_port(), ""
        self.web: subprocess.Popen[bytes] | None = None
        self._hand: Hand | None = None

    def __enter__(self) -> LocalServer:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        """A copy of what is made once for the whole run: migrated, with one model at work."""
        made = shared.once(f"slipway-{self.model.name}", self._seed)
        shutil.copytree(made, self.folder, dirs_exist_ok=True)
        self.key = (self.folder / "key").read_text()
        self.environment["SLIPWAY_TEST_KEY"] = self.key

    def _seed(self, folder: Path) -> None:
        shutil.copy(shared.migrated(), folder / "db.sqlite3")
        words = [sys.executable, "-c", SEED, str(self.model.path), json.dumps(self.model.schema)]
        environment = {**self.environment, "SLIPWAY_VAR": str(folder)}
        found = subprocess.run(
            words, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=110, check=False
        )
        assert found.returncode == 0, found.stderr[-3000:]
        (folder / "key").write_text(found.stdout.strip().splitlines()[-1])

    def __exit__(self, *_: object) -> None:
        self.kill_web(signal.SIGTERM)
        if self._hand is not None:
            self._hand.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def python(self, program: str, *arguments: str) -> str:
        return self._at_hand().run(program=program, arguments=arguments)

    def manage(self, *words: str) -> str:
        return self._at_hand().run(words=words)

    def _at_hand(self) -> Hand:
        """Set up anew where the environment was changed."""
        if self._hand is not None and self._hand.environment != self.environment:
            self._hand.close()
            self._hand = None
        self._hand = self._hand or Hand(self.environment)
        return self._hand

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "manage.py", *words],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def twin(self) -> LocalServer:
        """Another web server on the same database. End it with ``kill_web``."""
        other = copy.copy(self)
        other.port, other.web, other._hand = _free_port(), None, None
        return other

    def start_web(self, application: str = "mlops.asgi:application") -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "mlops/gunicorn.conf.py", "--bind", f"127.0.0.1:{self.port}"]
        command.append(application)
        with (self.folder / "web.log").open("ab") as log:
            self.web = subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, 40)

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/healthz")[0] == 200
        except OSError:
            return False

    def kill_web(self, number: int = signal.SIGKILL) -> None:
        """The whole process group of the web server: arbiter and workers."""
        if self.web is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.web.pid, number)
            self.web.wait(40)
            self.web = None

    def web_workers(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.web.pid}/task/{self.web.pid}/children").read_text().split()]

    def request(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def predict(self, rows: list[Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        status, body = self.request("POST", PATH, json.dumps({"inputs": rows or [ROW]}), headers)
        answer = json.loads(body)
        return {"status": status, **answer}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "db.sqlite3", timeout=20) as connection:
            return connection.execute(sql).fetchall()

    @staticmethod
    def predict_here() -> dict[str, Any]:
        """In a process of this server: one prediction through Django's own handler. Used by the imports test."""
        from django.test import Client

        headers = {"Authorization": f"Bearer {os.environ['SLIPWAY_TEST_KEY']}"}
        for _ in range(2):
            response = Client().post(
                PATH, json.dumps({"inputs": [ROW]}), content_type="application/json", headers=headers
            )
        return response.json()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
