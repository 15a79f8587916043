"""The whole product, started for a measurement: web, worker and runner host on a free port."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from mlops.demo.client import Client
from mlops.demo.scenario import MODELS, Scenario
from mlops.supervise import answers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Product:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Product:
        environment = {**os.environ, "SLIPWAY_URL": self.url}
        self.process = subprocess.Popen([sys.executable, "manage.py", "up", "--port", str(self.port)], env=environment)
        deadline = time.monotonic() + 90
        while not answers(self.url):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("The product did not start.")
            time.sleep(0.1)
        self.client = Client(self.url)
        self.client.register("bench@example.com", secrets.token_urlsafe(16))
        self.scenario = Scenario(self.client, self.folder / "demo", self.folder / "mail", print)
        self.scenario.train()
        self.models = list(MODELS)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(90)
