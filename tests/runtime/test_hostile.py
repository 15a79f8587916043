"""Models that attack: each gets a clear answer, reaches nothing, and leaves the neighbours alone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.runtime.host import (
    Busy,
    DeadlineExceeded,
    HostError,
    Limits,
    LoadFailed,
    LoadTimeout,
    ModelCrashed,
    ModelSpec,
    OutOfMemory,
    ReplyTooLarge,
    RunnerHost,
)
from tests.runner_host import RunningHost, model_spec, patience, running_host, wait_until
from tests.tiny_models import HostileFile
from tests.tiny_models import hostile as hostile_files

BODY = b'{"inputs": [[1.0, 2.0, 3.0, 4.0]]}'
SMALL = Limits(load_s=20, memory_bytes=256 << 20)


@pytest.fixture(scope="module")
def listener():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.settimeout(0)
        yield sock


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, listener: socket.socket) -> dict[str, HostileFile]:
    return hostile_files(tmp_path_factory.mktemp("hostile"), port=listener.getsockname()[1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """Without bubblewrap outside, which most machines do not have: what Landlock and seccomp stop, they stop inside it too."""
    with running_host(artifacts=[tmp_path_factory.getbasetemp().parent], sandbox="landlock") as running:
        yield running


@pytest.fixture
def host(alone: RunningHost) -> RunnerHost:
    return alone.client


@pytest.fixture
def neighbour(host: RunnerHost, iris: ModelSpec):
    """A good model that must go on answering from the same process, whatever the test does."""
    before = host.ensure(iris)
    yield
    reply = host.predict(iris, b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}')
    assert (reply.status, json.loads(reply.body)["predictions"]) == (200, [0])
    assert host.ensure(iris).generation == before.generation


pytestmark = pytest.mark.usefixtures("neighbour")


def untouched(file: HostileFile, listener: socket.socket) -> None:
    assert file.marker is None or not file.marker.exists()
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    "name",
    [
        "marker_pickle",
        "marker_joblib",
        "write_load",
        "socket_load",
        "fork_load",
        "exec_load",
        "exit_load",
        "kill_parent_load",
    ],
)
def test_an_attack_while_loading_fails_the_load_and_reaches_nothing(
    name: str, host: RunnerHost, files, listener
) -> None:
    file = files[name]
    with pytest.raises(LoadFailed) as failed:
        host.ensure(model_spec(file.path, limits=SMALL))
    assert (failed.value.status, bool(failed.value.detail), bool(failed.value.hint)) == (422, True, True)
    untouched(file, listener)


def test_a_segfault_while_loading_is_told_with_its_signal_and_log(host: RunnerHost, files) -> None:
    spec = model_spec(files["segfault_load"].path)
    with pytest.raises(LoadFailed, match="SIGSEGV") as failed:
        host.ensure(spec)
    assert "Segmentation fault" in failed.value.fields["log"]
    assert "Segmentation fault" in host.logs(spec.key)


def test_a_model_that_never_loads_is_killed_at_its_deadline(host: RunnerHost, files) -> None:
    start = time.monotonic()
    with pytest.raises(LoadTimeout) as late:
        host.ensure(model_spec(files["sleep_load"].path, limits=Limits(load_s=0.5)))
    assert late.value.status == 504
    assert time.monotonic() - start < 5 * patience()  # a load may take 60 s


def test_a_model_that_eats_memory_while_loading_hits_its_quota(host: RunnerHost, files) -> None:
    with pytest.raises(OutOfMemory) as full:
        host.ensure(model_spec(files["memory_load"].path, limits=SMALL))
    assert full.value.code == "out_of_memory"


@pytest.mark.parametrize("name", ["memory_predict"])
def test_a_model_that_eats_memory_while_predicting_gets_an_error_and_lives(name: str, host: RunnerHost, files) -> None:
    spec = model_spec(files[name].path, limits=SMALL)
    reply = host.predict(spec, BODY)
    assert (reply.status, json.loads(reply.body)["code"]) == (502, "out_of_memory")
    generation = host.ensure(spec).generation
    assert host.predict(spec, b'{"inputs": []}').status == 422
    assert host.ensure(spec).generation == generation


@pytest.mark.parametrize(
    "name",
    [
        "exec_predict",
        "socket_predict",
        "passwd_predict",
        "proc_predict",
        "write_predict",
        "chmod_predict",
        "kill_parent_predict",
        "fork_predict",
    ],
)
def test_an_attack_while_predicting_is_an_error_of_the_model(name: str, host: RunnerHost, files, listener) -> None:
    file = files[name]
    reply = host.predict(model_spec(file.path), BODY)
    problem = json.loads(reply.body)
    assert (reply.status, problem["code"]) in [
        (500, "model_error"),
        (422, "load_failed"),
        (422, "model_error"),
        (422, "model_failed"),
    ]
    assert "root:" not in reply.body.decode()
    untouched(file, listener)


def test_the_environment_holds_nothing_of_ours(host: RunnerHost, files, monkeypatch) -> None:
    monkeypatch.setenv("SLIPWAY_SECRET_KEY", "the-secret")
    reply = host.predict(model_spec(files["environment_predict"].path), BODY)
    assert "secret" not in reply.body.decode()
    assert not any(name in reply.body.decode() for name in ("SLIPWAY", "DATABASE", "DJANGO", "PYTEST"))


def test_the_database_file_cannot_be_read_or_even_opened(host: RunnerHost, predicting, tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite3"
    database.write_bytes(b"SQLite format 3\x00 the-secret")
    os.chmod(database, 0o666)
    reply = host.predict(predicting(f"return [open({str(database)!r}, 'rb').read().decode()]"), BODY)
    assert reply.status != 200
    assert "the-secret" not in reply.body.decode()
    refusals = ("Permission denied", "not permitted", "No such file")  # the last where it is not even there
    assert any(words in reply.body.decode() for words in refusals)


def test_the_other_models_in_its_folder_cannot_be_read(host: RunnerHost, predicting, tmp_path: Path) -> None:
    (tmp_path / "neighbour.pkl").write_bytes(b"the-secret")
    reply = host.predict(predicting(f"import os\nreturn [os.listdir({str(tmp_path)!r})]"), BODY)
    assert "neighbour" not in reply.body.decode()
    reply = host.predict(predicting(f"return [open({str(tmp_path / 'neighbour.pkl')!r}).read()]"), BODY)
    assert "the-secret" not in reply.body.decode()


@pytest.mark.parametrize(("name", "how"), [("segfault_predict", "SIGSEGV"), ("exit_predict", "exit 3")])
def test_a_crash_while_predicting_is_a_502_and_the_next_call_starts_it_again(
    name: str, how: str, host: RunnerHost, files
) -> None:
    spec = model_spec(files[name].path)
    first = host.ensure(spec).generation
    with pytest.raises(ModelCrashed, match=how) as crashed:  # not waited for until the deadline
        host.predict(spec, BODY)
    assert crashed.value.status == 502
    assert host.predict(spec, b'{"inputs": []}').status == 422
    assert host.ensure(spec).generation > first


@pytest.mark.parametrize("name", ["sleep_predict", "spin_predict"])
def test_an_endless_prediction_is_killed_at_its_deadline(name: str, host: RunnerHost, files) -> None:
    spec = model_spec(files[name].path, limits=Limits(predict_s=0.4))
    host.ensure(spec)
    pid = next(entry["pid"] for entry in host.status()["entries"] if entry["key"] == spec.key)
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded) as late:
        host.predict(spec, BODY)
    assert (late.value.status, time.monotonic() - start < 3 * patience()) == (504, True)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert host.predict(spec, b'{"inputs": []}').status == 422


def test_a_huge_answer_is_refused_by_the_runner(host: RunnerHost, files) -> None:
    reply = host.predict(
        model_spec(files["huge_reply_predict"].path), b'{"inputs": ' + json.dumps([[1.0]] * 64).encode() + b"}"
    )
    assert (reply.status, json.loads(reply.body)["code"]) == (502, "reply_too_large")


def test_a_runner_that_lies_about_the_length_of_its_answer_is_refused_by_the_host(host: RunnerHost, predicting) -> None:
    body = """import os, struct
head = struct.pack('!4sBBHQII', b'SLW1', 1, 0, 200, 1, 2, 4000000000)
for fd in range(5, 30):
    try: os.write(fd, head + b'{}')
    except OSError: pass
import time
time.sleep(60)"""
    with pytest.raises((ReplyTooLarge, ModelCrashed)):
        host.predict(predicting(body), BODY)


def test_a_runner_that_babbles_is_ended(host: RunnerHost, predicting) -> None:
    body = """import os, time
for fd in range(5, 30):
    try: os.write(fd, b'HTTP/1.1 200 OK and not a frame at all, sorry')
    except OSError: pass
time.sleep(60)"""
    spec = predicting(body)
    first = host.ensure(spec).generation
    with pytest.raises(ModelCrashed, match="invalid answer"):
        host.predict(spec, BODY)
    assert host.ensure(spec).generation > first


def test_a_model_cannot_switch_the_whole_host_off_by_claiming_that_the_sandbox_failed(
    host: RunnerHost, loading
) -> None:
    claim = {"event": "sandbox_failed", "layer": "seccomp", "detail": "a lie"}
    code = (
        f"from mlops.runtime import wire\nimport os\nos.write(3, wire.pack(0, {claim!r}))\nimport time\ntime.sleep(30)"
    )
    with pytest.raises(LoadFailed):
        host.ensure(loading(code))
    assert host.status()["ready"]


def test_a_flood_of_log_lines_is_bounded_and_does_not_hold_up_the_answer(host: RunnerHost, files) -> None:
    spec = model_spec(files["print_predict"].path, limits=Limits(predict_s=30))
    reply = host.predict(spec, BODY)
    assert reply.status == 200
    log = wait_until(lambda: host.logs(spec.key))
    assert 100_000 < len(log) <= 256 * 1024


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "[1.0, float('nan')]"])
def test_nan_and_infinity_are_refused_by_name_and_never_sent(value: str, host: RunnerHost, predicting) -> None:
    spec = predicting(f"return [1.0] + [{value}] * (len(X) - 1)")
    reply = host.predict(spec, b'{"inputs": [[1.0], [2.0]]}')
    problem = json.loads(reply.body)
    assert (reply.status, problem["code"], problem["errors"][0]["row"]) == (422, "model_output_invalid", 1)
    assert host.predict(spec, b'{"inputs": [[1.0]]}').status == 200


def test_an_answer_of_the_wrong_length_is_refused(host: RunnerHost, files) -> None:
    reply = host.predict(model_spec(files["wrong_count_predict"].path), BODY)
    assert reply.status in (422, 500)
    assert json.loads(reply.body)["code"]


def test_an_error_of_the_model_is_told_and_the_runner_lives(host: RunnerHost, files) -> None:
    spec = model_spec(files["raise_predict"].path)
    reply = host.predict(spec, BODY)
    assert "the model gave up" in json.loads(reply.body)["detail"]
    generation = host.ensure(spec).generation
    host.predict(spec, BODY)
    assert host.ensure(spec).generation == generation


def test_the_harmless_twin_answers(host: RunnerHost, files) -> None:
    reply = host.predict(model_spec(files["good_predict"].path), BODY)
    assert (reply.status, json.loads(reply.body)["predictions"]) == (200, [0])


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "truncated",
        "picture",
        "not_a_model",
        "external_onnx",
        "state_dict",
        "zip_bomb",
        "zip_climb",
        "zip_link",
    ],
)
def test_a_broken_file_fails_its_load_with_a_sentence(name: str, host: RunnerHost, files) -> None:
    file = files[name]
    with pytest.raises(HostError) as failed:
        host.ensure(model_spec(file.path, file.format, limits=SMALL))
    assert failed.value.code in ("load_failed", "out_of_memory")
    assert failed.value.detail


def test_threads_are_bounded(host: RunnerHost, predicting) -> None:
    body = """import threading, time
threads = []
try:
    for _ in range(2000):
        threads.append(threading.Thread(target=time.sleep, args=(20,), daemon=True))
        threads[-1].start()
except RuntimeError: pass
return [len(threads) for _ in X]"""
    spec = predicting(body)
    with contextlib.suppress(ModelCrashed, Busy):  # runnerd may see the threads before the answer is on its way
        answer = json.loads(host.predict(spec, BODY).body)
        assert answer.get("predictions", [0])[0] < 600  # their stacks count against the memory quota
    wait_until(lambda: not any(entry["key"] == spec.key for entry in host.status()["entries"]), 15)
