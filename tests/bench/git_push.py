"""From ``git push`` to the first answer: ``python -m tests.bench.git_push``. A real git server, the product as ``manage.py up`` starts it.

Each line: the push itself, GitHub's signed call, then fetch, every check and the switch, then the first answer; and when GitHub had its status.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from tests.forge import git_server

_PUSHES = 5
_WAIT_S = 120.0


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="slipway-git-"))
    try:
        with git_server.running(folder / "forge") as forge:
            os.environ.update(
                SLIPWAY_VAR=str(folder / "var"),
                SLIPWAY_OUTBOUND_ALLOW=forge.place,
                SLIPWAY_LOG_LEVEL="ERROR",
                DJANGO_SETTINGS_MODULE="mlops.settings",
            )
            print("\n".join(_measure(folder, forge)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(folder: Path, forge: git_server.Forge) -> list[str]:
    import django

    django.setup()
    from tests.bench.product import Product

    forge.token = "bench"  # noqa: S105  of the forge on loopback
    forge.github.tokens["bench"] = "slipway-bot"
    with Product(folder) as product:
        road = _Road(product.url, forge)
        lines = [
            "| | git push | call | to live | first answer | push to live | status told |",
            "|---|---|---|---|---|---|---|",
        ]
        return lines + [road.go(f"push {number}") for number in range(1, _PUSHES + 1)]


class _Road:
    def __init__(self, url: str, forge: git_server.Forge) -> None:
        import requests

        self.forge, self.repo, self.session = forge, forge.repository(), requests.Session()
        person = {"email": "bench-git@example.com", "password": secrets.token_urlsafe(16)}
        made = self._post(f"{url}/api/v1/auth/register", person)
        self.place = f"{url}/api/v1/{made['organization']['slug']}"
        self.session.headers["Authorization"] = f"Bearer {made['access']}"
        key = self._post(f"{self.place}/keys", {"name": "bench", "scopes": ["predict", "read", "write", "admin"]})
        self.session.headers["Authorization"] = f"Bearer {key['key']}"
        body = {"kind": "github", "clone_url": self.repo.url, "model": "churn", "token": forge.token}
        self.source = self._post(f"{self.place}/sources", body)

    def go(self, name: str) -> str:
        from tests.forge import hooks

        moments = [time.perf_counter()]
        sha = self.repo.commit({"model.joblib": _model()})
        moments.append(time.perf_counter())
        raw = json.dumps(hooks.push_body(self.repo, sha)).encode()
        signature = hooks.github_signature(self.source["secret"], raw)
        headers = {"Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": str(uuid.uuid4()), "X-Hub-Signature-256": signature}  # fmt: skip
        called = self.session.post(self.source["hook_url"], data=raw, headers=headers, timeout=30)
        called.raise_for_status()
        moments.append(time.perf_counter())
        push = self._until(lambda: self._ended(called.json()["push"]))
        if push["status"] != "live":
            raise RuntimeError(push["error"])
        moments.append(time.perf_counter())
        self._post(push["predict_url"], {"inputs": [{"x0": 0.1, "x1": 0.2, "x2": 0.3}]})
        moments.append(time.perf_counter())
        self._until(lambda: "success" in self.forge.github.states(sha))
        told_s = time.perf_counter() - moments[-1]
        parts = [f"{after - before:.2f} s" for before, after in zip(moments, moments[1:], strict=False)]
        return f"| {name} | {' | '.join(parts)} | {moments[-1] - moments[0]:.2f} s | +{told_s:.2f} s |"

    def _ended(self, push_id: int) -> dict[str, Any] | None:
        rows = self.session.get(f"{self.place}/sources/{self.source['id']}/pushes", timeout=30).json()["results"]
        found = next(each for each in rows if each["id"] == push_id)
        return found if found["status"] in ("live", "failed") else None

    def _post(self, url: str, body: dict[str, Any]) -> Any:
        answer = self.session.post(url, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def _until(self, look: Any) -> Any:
        until = time.perf_counter() + _WAIT_S
        while not (found := look()):
            if time.perf_counter() > until:
                raise TimeoutError
            time.sleep(0.05)
        return found


def _model() -> bytes:
    """A small pipeline, another one each time."""
    import joblib
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    draw = np.random.default_rng()
    rows = pd.DataFrame(draw.normal(size=(500, 3)), columns=["x0", "x1", "x2"])
    saved = io.BytesIO()
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows.sum(axis=1) > 0), saved)
    return saved.getvalue()


if __name__ == "__main__":
    main()
