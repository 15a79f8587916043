"""Dependency sets for tests: folders as a builder makes them, and models that use what is in them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.runtime.host import Limits, ModelSpec
from tests.runner_host import RunningHost, model_spec, wait_until
from tests.tiny_models import at_predict

# What code of a set tries, in words that a model can answer with.
TRIED = """
def tried(attempt):
    try:
        attempt()
    except BaseException as error:
        return type(error).__name__
    return 'DONE'
"""


class SetWorld:
    """A runner host with a folder of sets, in a place that every user can reach."""

    def __init__(self, **options: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-sets-"))
        self.folder.chmod(0o755)
        self.artifacts, self.environments = self.folder / "artifacts", self.folder / "environments"
        self.environments.mkdir()
        self.artifacts.mkdir()
        self.marker = self.folder / "open" / "marker"  # whoever gets out can leave it
        self.marker.parent.mkdir()
        self.marker.parent.chmod(0o777)
        options = {"artifacts": [self.artifacts], "environments": [self.environments], "preload": False} | options
        self.running = RunningHost(self.folder / "host", **options)
        self.running.folder.mkdir(mode=0o755)
        self.host = self.running.client

    def start(self) -> None:
        self.running.start()
        self.running.wait_for_verdict()

    def stop(self) -> None:
        self.running.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, files: Mapping[str, str], owner: str = "7", **more: Any) -> dict[str, Any]:
        """A set with these files, named by what is in it."""
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
        site = self.environments / digest / "site"
        for name, text in files.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {"id": digest, "path": str(site), "owner": owner, **more}

    def model(
        self, body: str, environment: dict[str, Any] | None = None, *, load_s: float = 60.0, name: str = ""
    ) -> ModelSpec:
        """Code whose predict(model, X) is ``body``: it needs no library of ours but NumPy."""
        name = name or "m" + hashlib.sha256(f"{body}{environment}".encode()).hexdigest()[:16]
        root = self.artifacts / name
        root.mkdir(exist_ok=True)
        path = root / f"{name}.py"
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        path.write_text(f"def load(path):\n    return None\n\n\ndef predict(model, X):\n{lines}\n")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        folder = {"root": str(root), "files": {path.name: digest}, "model": None}
        return model_spec(
            path, "python", key=name, environment=environment, limits=Limits(load_s=load_s), folder=folder
        )

    def pickle(self, body: str, environment: dict[str, Any]) -> ModelSpec:
        """The same as a scikit-learn file."""
        path = self.artifacts / f"{hashlib.sha256(body.encode()).hexdigest()[:16]}.pkl"
        path.write_bytes(at_predict(body))
        return model_spec(path, environment=environment)

    def answer(self, spec: ModelSpec) -> Any:
        """What the model predicts for one row."""
        import orjson

        reply = self.host.predict(spec, b'{"inputs": [[1.0]]}', timeout_s=30)
        assert reply.status == 200, reply.body
        return orjson.loads(reply.body)["predictions"][0]

    def runner(self, spec: ModelSpec) -> int:
        return next((entry["pid"] for entry in self.host.status()["entries"] if entry["key"] == spec.key), 0)

    def zygotes(self) -> list[dict[str, Any]]:
        return self.host.status()["sets"]["zygotes"]

    def zygote(self, environment: dict[str, Any]) -> dict[str, Any]:
        """What the status tells of a set's zygote; empty when it has none."""
        wanted = environment["id"], environment["owner"]
        return next((each for each in self.zygotes() if (each["id"], each["owner"]) == wanted), {})

    def clear(self) -> None:
        """Unload everything; sets stay imported."""
        for entry in self.host.status()["entries"]:
            self.host.unload(entry["key"])
        wait_until(lambda: not any(zygote["runners"] for zygote in self.zygotes()), 20)
