"""The demo's own hands: Slipway's public API over HTTP, nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests

TIMEOUT_S = 90


class DemoFailed(Exception):
    """A step did not do what it promises."""


class Client:
    def __init__(self, url: str) -> None:
        self.url, self.org = url, ""
        self.session = requests.Session()

    def call(self, method: str, path: str, *, expect: int, **options: Any) -> Any:
        """One call; anything but ``expect`` is a failure that shows the problem's own words."""
        response = self.session.request(method, f"{self.url}/api/v1/{path}", timeout=TIMEOUT_S, **options)
        if response.status_code != expect:
            raise DemoFailed(
                f"{method} {path} answered {response.status_code} instead of {expect}: {response.text[:600]}"
            )
        return response.json() if response.content else None

    def register(self, email: str, password: str) -> None:
        """A person with a personal organisation, then an API key made with their access token."""
        tokens = self.call("POST", "auth/register", expect=201, json={"email": email, "password": password})
        self.org = tokens["organization"]["slug"]
        bearer = {"Authorization": f"Bearer {tokens['access']}"}
        body = {"name": "Demo", "scopes": ["predict", "read", "write"]}
        self.key = self.call("POST", f"{self.org}/keys", expect=201, json=body, headers=bearer)["key"]
        self.session.headers["Authorization"] = f"Bearer {self.key}"

    def confirm_address(self, link: str) -> None:
        """Open the link of the confirmation mail and press its button, as a person does: alerts go to confirmed addresses only."""
        browser = requests.Session()
        page = browser.get(link, timeout=TIMEOUT_S)
        token = browser.cookies.get("csrftoken", "")
        done = browser.post(
            page.url, data={"csrfmiddlewaretoken": token}, headers={"Referer": page.url}, timeout=TIMEOUT_S
        )
        if not (page.ok and done.ok):
            raise DemoFailed(f"The mail address could not be confirmed: {page.status_code}, {done.status_code}.")

    def push(self, name: str, file: Path, *, sample: Path, reference: Path, metadata: dict[str, Any]) -> dict[str, Any]:
        """Upload a model with its sample and reference rows; it is deployed under its own name once it is valid."""
        with ExitStack() as stack:
            files = {
                part: (path.name, stack.enter_context(path.open("rb")))
                for part, path in (("file", file), ("sample", sample), ("reference", reference))
            }
            data = {"metadata": json.dumps(metadata), "deploy": name}
            return self.call("POST", f"{self.org}/models/{name}/versions", expect=202, files=files, data=data)

    def follow(self, job_id: int, tell: Callable[[str], None], seconds: float = 180) -> dict[str, Any]:
        """Wait for a job; each step is told once as it ends. Raises DemoFailed when the job fails."""
        told: set[str] = set()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.call("GET", f"{self.org}/jobs/{job_id}", expect=200)
            for step in job["steps"]:
                if step["status"] != "running" and step["name"] not in told:
                    told.add(step["name"])
                    tell(f"{step['name']} {step['status']} ({step['seconds']:.2f} s)")
            if job["status"] == "failed":
                raise DemoFailed(f"{job['kind']} failed: {job['error']['detail']} {job['error'].get('hint', '')}")
            if job["status"] == "done":
                return job
            time.sleep(0.15)
        raise DemoFailed(f"Job {job_id} did not end within {seconds:.0f} s.")

    def wait(self, what: str, look: Callable[[], Any], seconds: float = 60) -> Any:
        """Poll until ``look`` returns something true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.2)
        raise DemoFailed(f"Waited {seconds:.0f} s for {what}, in vain.")

    def predict(self, deployment: str, rows: list[Any]) -> dict[str, Any]:
        return self.call("POST", f"predict/{self.org}/{deployment}", expect=200, json={"inputs": rows})

    def deployment(self, name: str) -> dict[str, Any] | None:
        response = self.session.get(f"{self.url}/api/v1/{self.org}/deployments/{name}", timeout=TIMEOUT_S)
        return response.json() if response.status_code == 200 else None

    def requests_logged(self, name: str) -> int:
        return int(self.call("GET", f"{self.org}/deployments/{name}/analytics?since=24h", expect=200)["requests"])

    def check_drift(self, name: str, tell: Callable[[str], None]) -> dict[str, Any]:
        job = self.call("POST", f"{self.org}/deployments/{name}/drift/check", expect=202)
        self.follow(job["id"], tell)
        return self.call("GET", f"{self.org}/deployments/{name}/drift", expect=200)
