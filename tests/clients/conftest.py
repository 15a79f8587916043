"""Real clients against a running product. Each runs in an environment of its own (tests.venvs); one that cannot be had is skipped with a word."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import venvs
from tests.clients.server import ClientServer

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture(scope="package")
def slipway(tiny: dict, runner_host: Any) -> Iterator[ClientServer]:
    with ClientServer(tiny, runner_host.socket_path) as server:
        yield server


def python_of(name: str) -> Path:
    try:
        return venvs.python_of(name)
    except venvs.NotInstalled as error:
        pytest.skip(f"{name} is not installed: {error}")


@pytest.fixture
def run_client(slipway: ClientServer) -> Callable[[str], Any]:
    """``run_client("tritonclient")``: the script of that name with the client's own python; what it printed last, as JSON."""

    def run(name: str) -> Any:
        done = subprocess.run(
            [str(python_of(name)), str(SCRIPTS / f"ask_{name}.py")],
            input=json.dumps(slipway.facts()),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run
