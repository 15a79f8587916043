"""The whole product as a user starts it: ``manage.py up`` on a free port, models in their sandboxed runners, keys checked, predictions logged."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from django.db import transaction

from mlops.demo.client import Client
from mlops.demo.scenario import MODELS as DEMO_MODELS
from mlops.demo.scenario import Scenario
from mlops.supervise import answers
from serving import prediction_log
from tests.bench import peers
from tests.bench.models import Case
from tests.bench.servers import Skipped, Target, check, free_ports, send, tree

_READY_S = 90
_SETTLE_S = 90


class Product:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {**os.environ, "SLIPWAY_URL": self.url, "SLIPWAY_WEB_PROCESSES": str(peers.WORKERS)}

    def __enter__(self) -> Product:
        command = [sys.executable, "manage.py", "up", "--port", str(self.port)]
        self.process = subprocess.Popen(command, env=self.environment, start_new_session=True)
        deadline = time.monotonic() + _READY_S
        while not answers(self.url):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("The product did not start.")
            time.sleep(0.1)
        self.client = Client(self.url)
        self.client.register("bench@example.com", secrets.token_urlsafe(16))
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            for each in self.members():
                each.kill()

    def demo(self) -> Scenario:
        """The three small models of ``make demo``, trained."""
        scenario = Scenario(self.client, self.folder / "demo", self.folder / "mail", print)
        scenario.train()
        self.demo_models = list(DEMO_MODELS)
        return scenario

    def push(self, case: Case) -> None:
        """Push and deploy one of the four models; returns when it is live."""
        scores = case.name == "mlp"
        output = {"task": "classifier", "classes": [0, 1], **({"activation": "softmax"} if scores else {})}
        pushed = self.client.push(
            case.name,
            case.ours,
            sample=case.folder / "sample.json",
            reference=case.folder / "reference.csv",
            metadata={"output": output} if scores else {},
        )
        self.client.follow(pushed["job"]["id"], lambda _: None)
        self.client.wait(
            f"{case.name} to be live", lambda: (self.client.deployment(case.name) or {}).get("status") == "live"
        )

    def members(self) -> list[psutil.Process]:
        return tree(self.process.pid)

    def freeze(self) -> None:
        """While others are measured: the shipper, which otherwise goes on moving the log of our own turn into the database."""
        with transaction.atomic():  # SQLite's write lock is ours: so it does not stop holding it
            send(self._shippers(), signal.SIGSTOP)

    def thaw(self) -> None:
        send(self._shippers(), signal.SIGCONT)

    def settle(self) -> None:
        """Until the log of our last turn is in the database: the minutes in which the shipper stood still would have been enough for it."""
        deadline = time.monotonic() + _SETTLE_S
        while prediction_log.status()["waiting_bytes"] and time.monotonic() < deadline:
            time.sleep(0.2)

    def _shippers(self) -> list[psutil.Process]:
        return [each for each in self.members() if "ship_predictions" in each.cmdline()]


class Ours:
    """One deployment of the product, with the manners of ``servers.Server``."""

    name, title = "slipway", "**Slipway**"

    def __init__(self, product: Product, case: Case) -> None:
        self.product, self.case = product, case
        client = product.client
        self.target = Target(
            product.port,
            f"/api/v1/predict/{client.org}/{case.name}",
            {count: _body(case.rows[:count]) for count in (1, 100)},
            {"Authorization": f"Bearer {client.key}"},
        )
        self.freeze, self.members = product.freeze, product.members

    def thaw(self) -> None:
        self.product.thaw()
        self.product.settle()

    def start(self) -> None:
        """It runs already."""
        self.thaw()

    def ready(self) -> None:
        try:
            check(self.target, self.case, lambda said: said["probabilities"])
        except Skipped as error:
            raise RuntimeError(f"Our own answers for {self.case.name} are wrong: {error}") from None

    def stop(self) -> None:
        """It goes on: its other models come next."""

    def memory_bytes(self) -> int:
        from tests.bench.servers import memory

        return sum(map(memory, self.members()))


def _body(rows: list[list[float]]) -> bytes:
    import json

    told: Any = {"inputs": rows}
    return json.dumps(told).encode()
