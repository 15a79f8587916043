"""Control groups: found where they may be made, told why not where they may not; a runner's limits; an end for memory is told as such."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.runtime import cgroups
from tests.runner_host import model_spec, running_host
from tests.tiny_models import at_predict

MIB = 1 << 20


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Path]:
    """What the kernel shows of a delegated group, as files: where the real thing cannot be had, the words written into it can still be read."""
    point = tmp_path / "unified"
    base = point / "slice" / "service"
    base.mkdir(parents=True)
    (base / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (base / "cgroup.procs").write_text("1\n2\n")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        f"22 27 0:21 / /proc rw - proc proc rw\n41 31 0:38 / {point} rw,relatime - cgroup2 cgroup2 rw\n"
    )
    own = tmp_path / "own"
    own.write_text("4:memory:/elsewhere\n0::/slice/service\n")
    return {"base": base, "mountinfo": mountinfo, "own": own}


def found(tree: dict[str, Path]) -> cgroups.Groups:
    return cgroups.find(str(tree["mountinfo"]), str(tree["own"]))


def test_a_runner_gets_a_group_with_its_limits(tree: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_SYSTEMD", "/proc/none")
    groups = found(tree)
    assert groups.said() == "one for every runner (memory, pids, cpu)"
    group = groups.make("r1", 512 * MIB)
    assert group is not None
    assert group.path.parent.parent.parent == tree["base"]
    assert {file.name: file.read_text() for file in group.path.iterdir()} == {
        "memory.max": str(768 * MIB),
        "memory.oom.group": "1",
        "pids.max": "128",
        "cpu.weight": "50",
    }
    group.take(4242)
    assert (group.path / "cgroup.procs").read_text() == "4242"
    assert not group.ran_out_of_memory()
    for count, wanted in (("0", False), ("1", True), ("12", True)):
        (group.path / "memory.events").write_text(f"low 0\noom 7\noom_kill {count}\noom_group_kill 0\n")
        assert group.ran_out_of_memory() is wanted


def test_a_missing_controller_is_told(tree: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_SYSTEMD", "/proc/none")
    (tree["base"] / "cgroup.controllers").write_text("pids\n")
    assert found(tree).said() == "one for every runner (pids), without memory, cpu"
    (tree["base"] / "cgroup.controllers").write_text("hugetlb\n")
    assert found(tree).said() == "none (the memory, pids and cpu controllers are not in cgroup v2 here)"


def test_a_group_that_systemd_did_not_delegate_is_left_alone(
    tree: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_SYSTEMD", str(tmp_path))
    groups = found(tree)
    assert "systemd keeps" in groups.said()
    assert "Delegate=yes" in groups.said()
    assert groups.make("r1", MIB) is None
    assert [file.name for file in tree["base"].iterdir() if file.is_dir()] == []


def test_without_a_mount_or_a_group_there_are_none(tree: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    assert cgroups.find(str(empty), str(tree["own"])).said() == "none (cgroup v2 is not mounted)"
    assert cgroups.find(str(tree["mountinfo"]), str(empty)).said() == "none (this process is in no cgroup v2 group)"


def test_what_a_killed_runner_host_left_goes_and_what_a_living_one_has_stays(
    tree: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_SYSTEMD", "/proc/none")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead, living = tree["base"] / f"slipway-{ended.pid}" / "runners", tree["base"] / "slipway-1"
    dead.mkdir(parents=True)
    living.mkdir()
    found(tree)
    assert not dead.parent.exists()
    assert living.exists()


# -- the kernel's own -------------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Iterator[Path]:
    """A group in this machine's own cgroup v2."""
    mounted = cgroups._mounted("/proc/self/mountinfo")
    if mounted is None:
        pytest.skip("cgroup v2 is not mounted here")
    folder = mounted[0] / f"slipway-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"cgroup v2 is not writable here: {error.strerror}")
    yield folder
    cgroups._remove_tree(folder)


def test_a_process_is_taken_in_and_the_group_goes_when_it_has_ended(real: Path) -> None:
    group = cgroups.Group(real)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        group.take(process.pid)
        assert (real / "cgroup.procs").read_text().split() == [str(process.pid)]
        group.remove()
        assert real.exists()  # not while somebody lives in it
        process.communicate(b"\n")
    group.remove()
    assert not real.exists()


def test_an_end_for_memory_is_told_as_such(real: Path) -> None:
    limit = real / "memory.max"
    if not limit.exists():
        pytest.skip(
            "the memory controller is not in this group: on this machine it belongs to cgroup v1, or was not handed down"
        )
    limit.write_text(str(64 * MIB))
    group = cgroups.Group(real)
    code = "input(); print(len(bytearray(b'x') * (256 << 20)))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        group.take(process.pid)
        process.communicate(b"\n")
    assert process.returncode == -signal.SIGKILL
    assert group.ran_out_of_memory()


def test_the_status_tells_why_there_are_none_or_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(at_predict("return [1.0 for _ in X]"))
    with running_host(artifacts=[tmp_path], preload=False) as running:
        assert running.wait_for_verdict()["ok"]
        said = running.client.status()["sandbox"]["cgroup"]
        assert said.startswith(("none (", "one for every runner ("))
        reply = running.client.predict(model_spec(path), b'{"inputs": [[1.0]]}')
        assert json.loads(reply.body)["predictions"] == [1.0]
