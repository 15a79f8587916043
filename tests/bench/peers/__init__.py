"""The other servers. A file each: how its users write a server, its documented production command, how it is asked and what it answers.

The files are read by us (``PEER``) and run by the peer's own interpreter, so they import nothing but the standard library at the top.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKERS = 2
NATIVE = ("fastapi", "flask", "litserve", "bentoml", "mlserver", "mlflow", "ray")
NAMES = (*NATIVE, "fastapi_onnx", "fastapi_bare", "floor", "echo")

Rows = list[list[float]]


@dataclass(frozen=True)
class Start:
    """What a command may use: its interpreter, the model's name and folder, a folder of its own and free ports."""

    python: Path
    model: str
    models: Path
    folder: Path
    ports: list[int]

    @property
    def port(self) -> int:
        return self.ports[0]

    def tool(self, name: str) -> str:
        """A program that was installed into the environment."""
        return str(self.python.parent / name)


@dataclass(frozen=True)
class Peer:
    title: str
    environment: str  # a name in tests.venvs; "" is ours
    command: Callable[[Start], list[str]]
    body: Callable[[Rows], Any] = lambda rows: {"inputs": rows}
    probabilities: Callable[[Any], Rows] = lambda said: said["probabilities"]
    path: str = "/predict"
    headers: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Start], list[str]] | None = None  # a command that runs once before
    variables: dict[str, str] = field(default_factory=dict)
    start_s: float = 60
    restless: bool = False  # works while nobody asks: frozen while others are measured


def find(name: str) -> Peer:
    peer: Peer = importlib.import_module(f"tests.bench.peers.{name}").PEER
    return peer
