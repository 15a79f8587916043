"""What the template is started inside of: chosen, refused, and what bubblewrap changes for a runner."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops.runtime import landlock, launchers, probes, sandbox
from mlops.runtime.errors import SandboxUnavailable
from mlops.runtime.nursery import Config
from mlops.runtime.supervisor import Supervisor
from tests.runner_host import PROJECT, RunningHost, bubblewrap, model_spec, running_host, wait_until
from tests.tiny_models import at_load, at_predict

BODY = b'{"inputs": [[1.0]]}'


# -- choosing -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """The only place where launchers are looked for, with the programs that a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(launchers, "_WHERE", str(folder))
    monkeypatch.setattr(launchers, "_GPU", str(folder / "no-gpu"))

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def test_landlock_is_taken_as_demanded(programs, tmp_path: Path) -> None:
    chosen = launchers.choose("landlock", (str(tmp_path),))
    assert (chosen.name, chosen.words, chosen.problem) == ("landlock", (), "")
    assert "SLIPWAY_SANDBOX=landlock" in chosen.why


def test_auto_goes_on_without_bubblewrap_and_says_why(programs, tmp_path: Path) -> None:
    chosen = launchers.choose("auto", (str(tmp_path),))
    assert (chosen.name, chosen.problem) == ("landlock", "")
    assert chosen.why == "Landlock and seccomp alone: bubblewrap is not installed"
    programs("bwrap", "echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    chosen = launchers.choose("auto", (str(tmp_path),))
    assert (chosen.name, chosen.words, chosen.problem) == ("landlock", (), "")
    assert chosen.why.endswith("bubblewrap does not start: bwrap: No permissions to create new namespace")


def test_bubblewrap_demanded_and_not_there_names_the_fix(programs, tmp_path: Path) -> None:
    chosen = launchers.choose("bwrap", (str(tmp_path),))
    assert chosen.problem == "SLIPWAY_SANDBOX=bwrap, but bubblewrap is not installed."
    assert "Install bubblewrap" in chosen.fix
    programs("bwrap", "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1")
    chosen = launchers.choose("bwrap", (str(tmp_path),))
    assert chosen.problem.endswith("does not start: bwrap: setting up uid map: Permission denied.")
    assert "max_user_namespaces" in chosen.fix


def test_a_bubblewrap_that_starts_and_does_not_hold_is_not_taken(programs, tmp_path: Path) -> None:
    programs("bwrap", "exit 0")
    assert launchers.choose("auto", (str(tmp_path),)).name == "landlock"
    assert launchers.choose("bwrap", (str(tmp_path),)).problem


def test_gvisor_is_refused_with_a_sentence(programs, tmp_path: Path) -> None:
    chosen = launchers.choose("runsc", (str(tmp_path),))
    assert "is not installed" in chosen.problem
    programs("runsc", "exit 0")
    chosen = launchers.choose("runsc", (str(tmp_path),))
    assert "sockets from outside" in chosen.problem
    assert "runtime is runsc" in chosen.fix


def test_a_machine_with_a_gpu_gets_bubblewrap_when_it_is_demanded_only(programs, tmp_path: Path) -> None:
    (tmp_path / "bin" / "no-gpu").write_text("")
    chosen = launchers.choose("auto", (str(tmp_path),))
    assert (chosen.name, chosen.problem) == ("landlock", "")
    assert "GPU" in chosen.why


def test_a_wrong_word_stops_the_start_with_a_hint(tmp_path: Path) -> None:
    for name in ("SLIPWAY_SANDBOX", "SANDBOX"):
        words = [
            sys.executable,
            "-m",
            "mlops.runtime.runnerd",
            "--run-dir",
            str(tmp_path),
            "--artifacts",
            str(tmp_path),
        ]
        done = subprocess.run(
            words,
            cwd=PROJECT,
            env={"PATH": "/usr/bin", name: "docker"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert f"{name}='docker' is none of auto, landlock, bwrap, runsc. Choose auto" in done.stderr
        assert "Traceback" not in done.stderr
    with pytest.raises(ValueError, match="none of"):
        launchers.choose("docker", ())


def test_what_was_demanded_and_is_not_possible_runs_nothing(programs, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "model.pkl"
    path.write_bytes(at_load(f"open({str(marker)!r}, 'w')"))
    one = Supervisor(Config(str(tmp_path), (str(tmp_path),), 1 << 30, 0, preload=False, sandbox="bwrap"))
    try:
        one.start()
        verdict = one.prove()
        with pytest.raises(SandboxUnavailable) as refused:
            one.ensure(model_spec(path))
        assert (refused.value.status, refused.value.code) == (503, "sandbox_unavailable")
        assert "bubblewrap is not installed" in refused.value.detail
        assert refused.value.hint == verdict.fix == launchers._INSTALL
        assert one.status()["ready"] is False
    finally:
        one.stop()
    assert not marker.exists()


# -- bubblewrap, where it starts ------------------------------------------------------------------------------------------


@pytest.fixture
def wrapped(tmp_path: Path) -> Iterator[RunningHost]:
    with running_host(artifacts=[tmp_path / "artifacts"], sandbox=bubblewrap(), preload=False) as running:
        running.wait_for_verdict()
        yield running


def says(running: RunningHost, path: Path, body: str) -> str:
    """What a model whose predict is ``body`` answers or raises."""
    path.write_bytes(at_predict(body))
    return running.client.predict(model_spec(path), BODY).body.decode()


def test_a_runner_has_namespaces_of_its_own(wrapped: RunningHost, tmp_path: Path) -> None:
    path = tmp_path / "artifacts" / "model.pkl"  # made after the start
    assert json.loads(says(wrapped, path, "return [1.0 for _ in X]"))["predictions"] == [1.0]
    status = wrapped.client.status()
    assert status["sandbox"]["launcher"]["name"] == "bwrap"
    zygote, runner = status["zygote"]["pid"], status["entries"][0]["pid"]
    for kind in ("mnt", "pid", "net", "ipc", "uts"):
        outside = os.readlink(f"/proc/self/ns/{kind}")
        assert os.readlink(f"/proc/{zygote}/ns/{kind}") != outside
        assert os.readlink(f"/proc/{runner}/ns/{kind}") != outside
    assert os.readlink(f"/proc/{zygote}/ns/mnt") != os.readlink(f"/proc/{runner}/ns/mnt")
    devices = [line.split(":")[0].strip() for line in Path(f"/proc/{runner}/net/dev").read_text().splitlines()[2:]]
    assert [name for name in devices if name != "lo"] == []


def test_a_runner_cannot_even_learn_the_name_of_anything_else(wrapped: RunningHost, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    other, outside = folder / "other.pkl", tmp_path / "outside"
    other.write_bytes(b"another tenant's")
    outside.write_bytes(b"nobody's")
    for number, foreign in enumerate((other, outside, PROJECT / "manage.py", Path("/etc/passwd"), Path("/proc/1"))):
        said = says(wrapped, folder / f"m{number}.pkl", f"import os; return [os.stat({str(foreign)!r}).st_size]")
        assert "FileNotFoundError" in said
    said = says(wrapped, folder / "all.pkl", f"import os; return [os.stat({str(folder / 'all.pkl')!r}).st_size]")
    assert json.loads(said)["predictions"][0] > 0


def test_when_runnerd_is_killed_nothing_of_it_lives_on(wrapped: RunningHost, tmp_path: Path) -> None:
    says(wrapped, tmp_path / "artifacts" / "model.pkl", "return [1.0 for _ in X]")
    status = wrapped.client.status()
    pids = [status["zygote"]["template_pid"], *status["zygote"]["pids"], status["entries"][0]["pid"]]
    assert wrapped.process is not None
    wrapped.process.kill()
    wrapped.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_zygote_that_is_killed_is_replaced_and_a_runner_too(wrapped: RunningHost, tmp_path: Path) -> None:
    path = tmp_path / "artifacts" / "model.pkl"
    says(wrapped, path, "return [1.0 for _ in X]")
    status = wrapped.client.status()
    os.kill(status["entries"][0]["pid"], signal.SIGKILL)
    wait_until(lambda: wrapped.client.predict(model_spec(path), BODY).status == 200)
    os.kill(status["zygote"]["pid"], signal.SIGKILL)
    wait_until(lambda: wrapped.client.status()["zygote"]["pid"] not in (None, status["zygote"]["pid"]))
    wait_until(lambda: wrapped.client.status()["ready"])
    assert wrapped.client.predict(model_spec(path), BODY).status == 200


# -- bubblewrap and the other layers --------------------------------------------------------------------------------------


@pytest.fixture
def inside(supervisor: Callable[..., Supervisor]) -> Callable[..., Supervisor]:
    return lambda *without: supervisor(*without, sandbox=bubblewrap())


def test_inside_bubblewrap_every_attack_is_blocked(inside) -> None:
    verdict = inside().prove()
    assert (verdict.ok, verdict.detail) == (True, "")
    assert [probe["name"] for probe in verdict.probes if not probe["blocked"] or not probe["mandatory"]] == []
    assert len(verdict.probes) == len(probes.PROBES)


def test_bubblewrap_stands_in_for_landlock(inside, tmp_path: Path) -> None:
    """Every attack is blocked all the same, and demanded to be."""
    verdict = inside("landlock").prove()
    assert (verdict.ok, verdict.detail) == (True, "")
    assert [probe["name"] for probe in verdict.probes if not probe["blocked"] or not probe["mandatory"]] == []


def test_a_kernel_without_landlock_needs_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    alone, wrapped = sandbox.Policy((), 1 << 20), sandbox.Policy((), 1 << 20, hidden=("/artifacts",))
    assert "landlock" in sandbox.layers(alone)  # demanded, and so refused
    assert "mounts" not in sandbox.layers(alone)
    assert "landlock" not in sandbox.layers(wrapped)
    assert "mounts" in sandbox.layers(wrapped)
    with pytest.raises(OSError, match="no Landlock"):
        landlock.restrict(())
    assert "install bubblewrap" in probes.FIXES["landlock"]


def test_bubblewrap_has_taken_new_privileges_away_already(inside) -> None:
    verdict = inside("no_new_privs").prove()
    assert (verdict.ok, verdict.detail) == (True, "")


_NEEDED = [layer for layer in sandbox.LAYERS if layer not in ("landlock", "no_new_privs")]


@pytest.mark.parametrize(
    "layers", [*([layer] for layer in _NEEDED), ["landlock", "mounts"], ["landlock", "seccomp"]], ids="+".join
)
def test_inside_bubblewrap_too_a_missing_layer_stops_everything(layers: list[str], inside, tmp_path: Path) -> None:
    if layers == ["identity"] and os.geteuid() != 0:
        pytest.skip("a plain user has no privileges that a runner could keep")
    broken = inside(*layers)
    verdict = broken.prove()
    assert not verdict.ok
    marker = tmp_path / "marker"
    path = tmp_path / "model.pkl"
    path.write_bytes(at_load(f"open({str(marker)!r}, 'w')"))
    with pytest.raises(SandboxUnavailable) as refused:
        broken.ensure(model_spec(path))
    assert (refused.value.status, refused.value.hint) == (503, verdict.fix)
    assert verdict.fix
    assert not marker.exists()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_root_in_an_ordinary_container_goes_on_with_landlock_and_says_why(tmp_path: Path) -> None:
    """There root has no CAP_SYS_ADMIN: no mount can be made."""
    bubblewrap()
    code = f"from mlops.runtime import launchers; print(launchers.choose('auto', ({str(tmp_path)!r},)).to_json())"
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "'name': 'landlock'" in done.stdout
    assert "bubblewrap does not start" in done.stdout
