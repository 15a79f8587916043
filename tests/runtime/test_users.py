"""The whole sandbox under every kind of user that may start it, with every launcher: each attack is blocked, and a model predicts."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.runtime import probes, sandbox
from mlops.runtime.errors import SandboxUnavailable
from tests import become
from tests.runner_host import RunningHost, bubblewrap, model_spec, running_host, wait_until
from tests.tiny_models import at_load, at_predict

PLAIN_USER = 64999  # nobody's: neither in /etc/passwd nor one of the runners' own
USERS = {"root": 0, "plain": PLAIN_USER}
BODY = b'{"inputs": [[1.0]]}'

pytestmark = pytest.mark.skipif(bool(become.why_not()), reason=become.why_not())


@pytest.fixture
def artifacts() -> Iterator[Path]:
    """A folder that every user can reach: pytest's own are private to whoever runs it."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-users-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def launcher(name: str) -> str:
    return bubblewrap() if name == "bwrap" else name


def facts(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(
    ("name", "without"),
    [("landlock", ()), ("bwrap", ()), ("bwrap", ("landlock",))],
    ids=["landlock", "bwrap", "bwrap-alone"],
)
@pytest.mark.parametrize("user", USERS)
def test_every_attack_is_blocked_and_a_model_predicts(
    user: str, name: str, without: tuple[str, ...], artifacts: Path
) -> None:
    """The last is what a kernel without Landlock gets: bubblewrap stands in for it."""
    path = artifacts / "model.pkl"
    path.write_bytes(at_predict("return [42.0 for _ in X]"))
    options = {"user": USERS[user], "sandbox": launcher(name), "preload": False, "knockout": without}
    with running_host(artifacts=[artifacts], **options) as running:
        verdict = running.wait_for_verdict()
        assert (verdict["ok"], verdict["detail"]) == (True, "")
        assert len(verdict["probes"]) == len(probes.PROBES)
        through = [probe["name"] for probe in verdict["probes"] if not probe["blocked"]]
        assert through == ([] if name == "bwrap" else ["learn_names"])
        status = running.client.status()["sandbox"]
        assert status["launcher"]["name"] == name
        assert status["user"] == (
            "a user of its own for every runner" if user == "root" else "the runner host's user (it is not root)"
        )
        reply = running.client.predict(model_spec(path), BODY)
        assert (reply.status, json.loads(reply.body)["predictions"]) == (200, [42.0])
        (entry,) = running.client.status()["entries"]
        runner = facts(entry["pid"])
        uid = int(runner["Uid"].split()[0])
        assert uid == PLAIN_USER if user == "plain" else sandbox.FIRST_UID <= uid < sandbox.FIRST_UID + sandbox.UIDS
        assert {int(runner[each], 16) for each in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert (runner["NoNewPrivs"], runner["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("layer", [layer for layer in sandbox.LAYERS if layer != "identity"])
def test_a_plain_users_sandbox_without_a_layer_runs_nothing(layer: str, artifacts: Path) -> None:
    """Who is no root has no privileges that a runner could keep: "identity" is root's alone (test_sandbox)."""
    marker = artifacts / "marker"
    path = artifacts / "model.pkl"
    path.write_bytes(at_load(f"open({str(marker)!r}, 'w')"))
    options = {"user": PLAIN_USER, "preload": False, "knockout": (layer,)}
    options["sandbox"] = launcher("bwrap" if layer == "mounts" else "landlock")
    with running_host(artifacts=[artifacts], **options) as running:
        verdict = running.wait_for_verdict()
        assert not verdict["ok"]
        assert verdict["fix"]
        with pytest.raises(SandboxUnavailable) as refused:
            running.client.ensure(model_spec(path))
        assert (refused.value.status, refused.value.hint) == (503, verdict["fix"])
    assert not marker.exists()


def test_the_runner_host_itself_is_the_plain_user(artifacts: Path) -> None:
    running: RunningHost
    with running_host(artifacts=[artifacts], user=PLAIN_USER, preload=False) as running:
        running.wait_for_verdict()
        assert running.process is not None
        host = facts(running.process.pid)
        assert host["Uid"].split() == [str(PLAIN_USER)] * 4
        assert int(host["CapEff"], 16) == 0
        assert os.stat(running.run_dir).st_uid == PLAIN_USER


@pytest.mark.parametrize("name", ["landlock", "bwrap"])
def test_a_plain_user_gets_every_library(name: str, artifacts: Path) -> None:
    """None of them makes a folder or asks for a right that only root has while it is imported."""
    with running_host(artifacts=[artifacts], user=PLAIN_USER, sandbox=launcher(name)) as running:
        assert running.wait_for_verdict()["ok"]
        wait_until(
            lambda: len(running.client.status()["zygote"]["pids"]) == 2 and running.client.status()["ready"], 110
        )
        zygote = running.client.status()["zygote"]
        assert zygote["failed"] == {}
        assert {"sklearn", "torch", "onnxruntime", "xgboost", "lightgbm"} <= set(zygote["libraries"])
