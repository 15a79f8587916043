"""The runner host as a process: secrets it must not hold, deaths it must survive, ends that leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mlops.runtime.host import Busy, HostError, HostUnavailable, Limits, ModelCrashed, ModelSpec, RunnerHost
from tests.runner_host import RunningHost, model_spec, running_host, wait_until
from tests.tiny_models import at_load, at_predict

ANSWERED = 400  # a table's runner is there and says that it does not predict
ROWS = b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'


def entry(host: RunnerHost, spec: ModelSpec) -> dict:
    return next(entry for entry in host.status()["entries"] if entry["key"] == spec.key)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def children(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@pytest.fixture
def table(tmp_path: Path) -> ModelSpec:
    """A data table: its runner needs no ML library, so these hosts may start cold. It answers every prediction with a 400."""
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")
    return model_spec(path, "table")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory):
    """A runnerd of this module's own, to be mistreated. Its environment had secrets."""
    os.environ["SLIPWAY_SECRET_KEY"] = "the-secret"
    os.environ["DATABASE_URL"] = "postgres://the-secret"
    with running_host(artifacts=[tmp_path_factory.getbasetemp().parent], preload=False) as running:
        del os.environ["SLIPWAY_SECRET_KEY"], os.environ["DATABASE_URL"]
        running.wait_for_verdict()
        yield running


def test_the_proof_holds_and_is_told(own: RunningHost) -> None:
    status = own.client.status()
    assert status["ready"]
    assert status["proof"]["ok"]
    assert len(status["proof"]["probes"]) > 50
    assert status["sandbox"]["landlock_abi"] >= 1
    assert status["sandbox"]["user"]
    assert own.client.prove()["ok"]


def test_no_process_of_the_runner_host_has_a_secret_in_its_environment(own: RunningHost, table: ModelSpec) -> None:
    own.client.ensure(table)
    status = own.client.status()
    zygote = status["zygote"]
    for pid in (status["pid"], zygote["template_pid"], zygote["pid"], entry(own.client, table)["pid"]):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"the-secret" not in environment
        assert b"DATABASE" not in environment


def test_a_runner_is_locked_in_as_the_kernel_sees_it(own: RunningHost, table: ModelSpec) -> None:
    own.client.ensure(table)
    pid = entry(own.client, table)["pid"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (
        "1",
        "2",
        0,
        0,
    ) or os.geteuid()
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    kinds = {os.readlink(f"/proc/{pid}/fd/{number}").partition(":")[0] for number in os.listdir(f"/proc/{pid}/fd")}
    assert kinds <= {"socket", "pipe", "/dev/null", "anon_inode"}
    assert os.getsid(pid) == pid


def test_the_folder_and_the_sockets_are_private(own: RunningHost, table: ModelSpec) -> None:
    own.client.ensure(table)
    assert own.run_dir.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in own.run_dir.iterdir() if path.is_socket()} == {0o600}


def test_a_garbled_control_request_gets_nothing_and_harms_nobody(own: RunningHost) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(own.socket_path)
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        sock.settimeout(5)
        assert sock.recv(100) in (b"",)
    assert own.client.status()["ready"]


def test_killing_a_runner_fails_its_request_at_once_and_the_next_call_works(host: RunnerHost, tmp_path: Path) -> None:
    path = tmp_path / "slow.pkl"
    path.write_bytes(
        at_predict("import time\nif X[0][0] > 0:\n print('asked')\n time.sleep(30)\nreturn [0 for _ in X]")
    )
    spec = model_spec(path, limits=Limits(predict_s=60))
    host.ensure(spec)
    pid = entry(host, spec)["pid"]
    seen: list[str] = []

    def ask() -> None:
        try:
            host.predict(spec, b'{"inputs": [[1.0]]}')
        except ModelCrashed as crashed:
            seen.append(crashed.detail)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: "asked" in host.logs(spec.key))
    os.kill(pid, signal.SIGKILL)
    thread.join(20)  # it would have taken 30 s
    assert len(seen) == 1
    assert "SIGKILL" in seen[0]
    assert host.predict(spec, b'{"inputs": [[0.0]]}').status == 200
    assert entry(host, spec)["pid"] != pid


def test_a_runner_killed_while_idle_costs_no_request(own: RunningHost, table: ModelSpec) -> None:
    for _ in range(5):
        assert own.client.predict(table, ROWS).status == ANSWERED
        pid = entry(own.client, table)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not alive(pid))
        assert own.client.predict(table, ROWS).status == ANSWERED


def test_a_model_that_keeps_dying_is_paused_and_shown_as_degraded(host: RunnerHost, tmp_path: Path) -> None:
    path = tmp_path / "dies.pkl"
    path.write_bytes(at_predict("import os\nos._exit(1)"))
    spec = model_spec(path)
    errors: list[HostError] = []
    # A slow machine may outlast the first pauses, which are short.
    while len(errors) < 8 and not (errors and isinstance(errors[-1], Busy)):
        with pytest.raises(HostError) as failed:
            host.predict(spec, ROWS)
        errors.append(failed.value)
    assert len(errors) > 2
    assert {type(error) for error in errors[:-1]} == {ModelCrashed}
    assert isinstance(errors[-1], Busy)
    assert errors[-1].retry_after_s
    assert "in a row" in errors[-1].detail


def test_killing_the_zygote_brings_a_new_one(own: RunningHost, table: ModelSpec) -> None:
    own.client.ensure(table)
    status = own.client.status()
    old, runner = status["zygote"]["pid"], entry(own.client, table)["pid"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not alive(runner))
    wait_until(lambda: own.client.status()["zygote"]["pid"] not in (old, None), 20)
    assert own.client.predict(table, ROWS).status == ANSWERED
    again = own.client.status()
    assert again["proof"]["ok"]
    assert again["proof"]["at"] > status["proof"]["at"]  # tried again, from the new one
    assert again["zygote"]["template_pid"] == status["zygote"]["template_pid"]  # nothing was imported again


def test_killing_the_template_ends_what_came_from_it_and_brings_a_new_one(own: RunningHost, table: ModelSpec) -> None:
    own.client.ensure(table)
    status = own.client.status()
    old = status["zygote"]["template_pid"]
    came_from_it = [status["zygote"]["pid"], entry(own.client, table)["pid"]]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in came_from_it))
    wait_until(lambda: own.client.status()["zygote"]["template_pid"] != old and own.client.status()["ready"], 20)
    assert own.client.predict(table, ROWS).status == ANSWERED


def test_a_runner_that_the_zygote_took_along_is_no_death_of_the_models(own: RunningHost, iris: ModelSpec) -> None:
    """However often: there is no pause, and what it was asked meanwhile is asked again."""
    spec = replace(iris, key="taken-along")
    for _ in range(4):
        own.client.ensure(spec)
        status = own.client.status()
        zygote, runner = status["zygote"]["pid"], entry(own.client, spec)["pid"]
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda runner=runner: not alive(runner))
        wait_until(lambda old=zygote: own.client.status()["zygote"]["pid"] not in (old, None), 20)
    assert own.client.predict(spec, b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}').status == 200
    assert spec.key not in own.client.status()["degraded"]


def test_a_load_that_the_zygote_took_along_is_not_the_models_failure(own: RunningHost, tmp_path: Path) -> None:
    path = tmp_path / "slow.pkl"
    path.write_bytes(at_load("import time; time.sleep(60)"))
    zygote, caught = own.client.status()["zygote"]["pid"], []
    known = children(zygote)

    def load() -> None:
        with pytest.raises(HostError) as error:
            own.client.ensure(model_spec(path))
        caught.append(error.value)

    thread = threading.Thread(target=load)
    thread.start()
    wait_until(lambda: children(zygote) - known, 30)
    os.kill(zygote, signal.SIGKILL)
    thread.join(30)
    assert [type(error) for error in caught] == [HostUnavailable]
    assert caught[0].retry_after_s
    wait_until(lambda: own.client.status()["zygote"]["pid"] not in (zygote, None), 20)
    own.wait_for_verdict()


def test_killing_runnerd_ends_every_runner_and_the_next_one_takes_over(own: RunningHost, table: ModelSpec) -> None:
    own.client.ensure(table)
    status = own.client.status()
    pids = [status["zygote"]["template_pid"], status["zygote"]["pid"], entry(own.client, table)["pid"]]
    os.kill(status["pid"], signal.SIGKILL)
    own.process.wait(10)
    wait_until(lambda: not any(alive(pid) for pid in pids))
    with pytest.raises(HostUnavailable) as gone:
        own.client.predict(table, ROWS)
    assert gone.value.retry_after_s
    assert os.path.exists(own.socket_path)  # stale: a killed process cannot tidy up
    own.start()
    own.wait_for_verdict()
    assert own.client.predict(table, ROWS).status == ANSWERED


def test_a_full_cache_evicts_the_least_recently_used_and_loses_no_request(
    own: RunningHost, tmp_path: Path, table: ModelSpec
) -> None:
    size = own.client.ensure(table).memory_bytes
    own.client.unload(table.key)
    specs = [replace(table, key=f"copy{index}") for index in range(3)]
    with running_host(artifacts=[tmp_path], cache_bytes=int(size * 2.5), preload=False) as small:
        for index in (0, 1, 0, 2):
            assert small.client.predict(specs[index], ROWS).status == ANSWERED
            small.client.ensure(specs[index])
        assert {found["key"] for found in small.client.status()["entries"]} == {"copy0", "copy2"}
        assert small.client.status()["cache"]["evictions"] == 1
        # In turn through a cache too small for all, from several threads: evicted runners finish what they have.
        wrong: list[object] = []

        def ask(start: int) -> None:
            for step in range(12):
                try:
                    reply = small.client.predict(specs[(start + step) % 3], ROWS)
                    if reply.status != ANSWERED:
                        wrong.append(reply)
                except HostError as error:
                    wrong.append(error.to_json())

        threads = [threading.Thread(target=ask, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []


def test_an_idle_model_is_unloaded(tmp_path: Path, table: ModelSpec) -> None:
    with running_host(artifacts=[tmp_path], idle_s=0.5, preload=False) as running:
        assert running.client.ensure(table).cold
        pid = entry(running.client, table)["pid"]
        wait_until(lambda: running.client.status()["entries"] == [], 10)
        wait_until(lambda: not alive(pid))
        assert running.client.ensure(table).cold


def test_sigterm_ends_it_cleanly(tmp_path: Path, table: ModelSpec) -> None:
    with running_host(artifacts=[tmp_path], preload=False) as running:
        running.client.ensure(table)
        status = running.client.status()
        pids = [status["zygote"]["pid"], entry(running.client, table)["pid"]]
        running.process.terminate()
        assert running.process.wait(10) == 0
        wait_until(lambda: not any(alive(pid) for pid in pids))
        assert list(running.run_dir.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_connect(own: RunningHost) -> None:
    code = f"import socket\nsocket.socket(socket.AF_UNIX).connect({own.socket_path!r})"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in done.stderr


def test_a_zygote_that_cannot_start_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlops.runtime import template
    from mlops.runtime.nursery import Config, Nursery

    monkeypatch.setattr(template, "_BOOTSTRAP", "raise ImportError('no such library, {root} {fd} {pid} {preload}')")
    nursery = Nursery(Config(str(tmp_path), (), 1 << 30, 0), lambda child: None, lambda: None)
    nursery.start()
    try:
        wait_until(lambda: nursery.tick() or nursery.status()["zygote"]["error"])
        assert not nursery.status()["ready"]
        with pytest.raises(HostUnavailable, match="no such library"):
            nursery.require_sandbox()
    finally:
        nursery.stop()


def test_a_slow_library_that_does_not_start_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch without its CUDA: the first zygote serves by then, and must go on to."""
    from mlops.runtime import template
    from mlops.runtime.nursery import Config, Nursery

    (tmp_path / "broken_library.py").write_text("raise OSError('no libcudart')")
    bootstrap = (
        f"import sys; sys.path[:0] = [{{root!r}}, {str(tmp_path)!r}]; from mlops.runtime import formats, zygote; "
        "formats.LIBRARIES = formats._LATE = (); formats.FORMATS = {{}}; formats.SLOW = ('broken_library',); "
        "zygote.main({fd}, {pid}, preload={preload})"
    )
    monkeypatch.setattr(template, "_BOOTSTRAP", bootstrap)
    nursery = Nursery(Config(str(tmp_path), (), 1 << 30, 0), lambda child: None, lambda: None)
    nursery.start()
    try:
        told = wait_until(lambda: nursery.tick() or len((found := nursery.status()["zygote"])["pids"]) == 2 and found)
        assert told["failed"] == {"broken_library": "OSError: no libcudart"}
        assert told["error"] == ""
        assert alive(told["pids"][0])
    finally:
        nursery.stop()
