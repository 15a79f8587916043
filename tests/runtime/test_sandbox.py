"""The sandbox's layers: each missing one is noticed, and nothing is run. What the filter decides is in test_seccomp."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.runtime import probes, sandbox
from mlops.runtime.errors import SandboxUnavailable
from tests.runner_host import PROJECT, RunningHost, bubblewrap, model_spec, running_host
from tests.tiny_models import at_load


def test_a_path_below_a_private_home_is_found_unreadable_for_others(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    inside = tmp_path / "python"
    inside.write_text("")
    assert sandbox.unreadable_for_others((str(inside),)) is not None
    assert sandbox.unreadable_for_others(("/usr",)) is None
    assert sandbox.uid_is_mapped(os.getuid())


def test_library_paths_hold_the_libraries_and_not_the_project() -> None:
    import numpy

    paths = sandbox.library_paths()
    assert any(os.path.realpath(numpy.__file__).startswith(path + "/") for path in paths)
    assert not any(
        str(PROJECT / "manage.py").startswith(path + "/")
        or path in ("/", "/etc", "/proc", "/home", "/tmp", str(Path.home()))
        for path in paths
    )


# -- knocked-out layers -----------------------------------------------------------------------------------------------


def test_the_whole_sandbox_stops_every_mandatory_probe(supervisor) -> None:
    verdict = supervisor().prove()
    assert (verdict.ok, verdict.detail) == (True, "")
    assert probes.failures(verdict.probes) == []
    assert {probe["layer"] for probe in verdict.probes} == set(sandbox.LAYERS)
    assert [probe["name"] for probe in verdict.probes if not probe["blocked"]] == ["learn_names"]
    assert len(verdict.probes) == len(probes.PROBES)


@pytest.mark.parametrize("layer", sandbox.LAYERS)
def test_without_a_layer_no_model_is_opened_and_the_error_names_probe_and_fix(
    layer: str, supervisor, tmp_path: Path
) -> None:
    if layer == "identity" and os.geteuid() != 0:
        pytest.skip("a plain user has no privileges that a runner could keep")
    # A mount namespace of its own is what a runner gets inside bubblewrap; there the other layers are tried too (test_launchers).
    broken = supervisor(layer, sandbox=bubblewrap() if layer == "mounts" else "landlock")
    verdict = broken.prove()
    assert not verdict.ok
    # Landlock and seccomp cannot even be put in place without no_new_privs, and say so themselves.
    noticed = {probe["layer"] for probe in probes.failures(verdict.probes)} or {
        verdict.detail.partition("layer ")[2].partition(" ")[0]
    }
    assert layer in noticed or (layer == "no_new_privs" and noticed <= {"landlock", "seccomp"})
    marker = tmp_path / "marker"
    path = tmp_path / "model.pkl"
    path.write_bytes(at_load(f"open({str(marker)!r}, 'w')"))
    with pytest.raises(SandboxUnavailable) as refused:
        broken.ensure(model_spec(path))
    assert refused.value.status == 503
    assert refused.value.detail
    assert refused.value.hint == verdict.fix
    assert refused.value.hint
    assert not marker.exists()


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_a_runner_itself_refuses_to_open_a_model_when_a_layer_is_missing(
    layer: str, supervisor, tmp_path: Path
) -> None:
    """Even with a proof that said yes: the four calls are tried again in every runner, before its model."""
    good = supervisor().prove()
    broken = supervisor(layer)
    broken.prove()
    broken.nursery.verdict = good
    marker = tmp_path / "marker"
    path = tmp_path / "model.pkl"
    path.write_bytes(at_load(f"open({str(marker)!r}, 'w')"))
    with pytest.raises(SandboxUnavailable, match=layer):
        broken.ensure(model_spec(path))
    assert not marker.exists()
    assert broken.nursery.verdict is not None
    assert not broken.nursery.verdict.ok


def test_a_sandbox_that_stops_holding_ends_the_running_models(supervisor, tmp_path: Path) -> None:
    one = supervisor()
    one.prove()
    path = tmp_path / "model.pkl"
    path.write_bytes(at_load("1"))
    runner, cold = one.ensure(model_spec(path, "table"))
    assert cold
    object.__setattr__(one.nursery.config, "without", frozenset({"landlock"}))
    assert not one.prove().ok
    assert one.cache.entries() == []
    assert runner.child.exited.wait(5)


def test_knocking_out_is_for_tests_only(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "mlops.runtime.runnerd",
        "--run-dir",
        str(tmp_path),
        "--artifacts",
        str(tmp_path),
        "--knockout",
        "seccomp",
    ]
    done = subprocess.run(
        words, cwd=PROJECT, env={"PATH": "/usr/bin"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "SLIPWAY_TESTING" in done.stderr


def test_a_real_runnerd_without_a_layer_answers_503_to_everything(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "model.pkl"
    path.write_bytes(at_load(f"open({str(marker)!r}, 'w')"))
    running: RunningHost
    with running_host(artifacts=[tmp_path], knockout=("seccomp",), preload=False) as running:
        verdict = running.wait_for_verdict()
        assert not verdict["ok"]
        for ask in (
            running.client.ensure,
            lambda spec: running.client.predict(spec, b"{}"),
            lambda spec: running.client.call(spec, "describe", {}),
        ):
            with pytest.raises(SandboxUnavailable) as refused:
                ask(model_spec(path))
            assert "probe" in refused.value.detail
            assert "seccomp" in refused.value.hint
        assert running.client.status()["ready"] is False
        assert "sandbox_unavailable" in running.log()
    assert not marker.exists()
