"""The model host's interface: load, predict, describe, refuse, unload; the same in runners and in process."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from mlops.runtime import host as host_module
from mlops.runtime.errors import ArtifactInvalid
from mlops.runtime.host import Busy, HostUnavailable, Limits, LoadFailed, ModelHost, ModelSpec, RunnerHost, get_host
from mlops.runtime.inprocess import InProcessHost
from tests.runner_host import RunningHost, model_spec

ROWS = b'{"inputs": [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]}'
SCHEMA = {
    "kind": "table",
    "inputs": [{"name": name, "type": "double", "nullable": False} for name in ("sl", "sw", "pl", "pw")],
    "tensor": None,
    "output": {"task": "classifier", "classes": [0, 1, 2], "probabilities": True},
    "source": "given",
}


@pytest.fixture(params=["runners", "in_process"])
def any_host(request: pytest.FixtureRequest) -> ModelHost:
    """Both hosts keep the same promises."""
    if request.param == "runners":
        return request.getfixturevalue("host")
    return InProcessHost(1 << 30)


def test_a_prediction_has_labels_probabilities_ids_and_timings(any_host: ModelHost, iris: ModelSpec) -> None:
    any_host.unload(iris.key)
    base = uuid.UUID(int=uuid.uuid4().int >> 20 << 20)
    reply = any_host.predict(iris, ROWS, base_id=base)
    answer = json.loads(reply.body)
    assert (reply.status, reply.header["rows"]) == (200, 2)
    assert answer["predictions"] == [0, 1]
    assert answer["classes"] == [0, 1, 2]
    assert [round(sum(row), 6) for row in answer["probabilities"]] == [1.0, 1.0]
    assert answer["prediction_ids"] == [str(base), str(uuid.UUID(int=base.int + 1))]
    assert answer["model"] == {"name": "iris", "version": 3}
    assert set(answer["timings_ms"]) == {"parse", "predict", "total", "load"}
    assert "load" not in json.loads(any_host.predict(iris, ROWS).body)["timings_ms"]


def test_the_cold_load_is_told_once(any_host: ModelHost, iris: ModelSpec) -> None:
    any_host.unload(iris.key)
    first, second = any_host.ensure(iris), any_host.ensure(iris)
    assert (first.cold, second.cold) == (True, False)
    assert first.load_ms > 0
    assert first.memory_bytes > 0
    assert first.device == "cpu"
    assert first.generation == second.generation
    assert json.loads(any_host.predict(iris, ROWS, cold_load_ms=12.5).body)["timings_ms"]["load"] == 12.5


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        (b"", 400, "JSON"),
        (b'{"inputs": [[1', 400, "JSON"),
        (b"[1]", 400, "object"),
        (b'{"rows": []}', 400, "inputs"),
        (b'{"inputs": []}', 422, "row"),
        (b'{"inputs": [{"sl": 1.0, "sw": 1.0, "pl": 1.0}]}', 422, "pw"),
        (b'{"inputs": [{"sl": 1.0, "sw": 1.0, "pl": 1.0, "pw": 1.0, "extra": 1}]}', 422, "extra"),
        (b'{"inputs": [{"sl": 1.0, "sw": "wide", "pl": 1.0, "pw": 1.0}]}', 422, "sw"),
        (b'{"inputs": [[1.0, 2.0, null, 4.0]]}', 422, "pl"),
        (b'{"inputs": [' + b",".join([b"[1,2,3,4]"] * 11) + b"]}", 413, "11"),
        (b'{"inputs": ' + b"[" * 2000 + b"]" * 2000 + b"}", 400, "JSON"),
    ],
)
def test_a_bad_request_is_refused_by_name(
    any_host: ModelHost, iris: ModelSpec, body: bytes, status: int, names: str
) -> None:
    spec = replace(iris, schema=SCHEMA, limits=Limits(rows=10))
    reply = any_host.predict(spec, body)
    assert reply.status == status
    assert names in reply.body.decode()
    assert any_host.predict(spec, ROWS).status == 200


def test_another_content_type_is_refused(any_host: ModelHost, iris: ModelSpec) -> None:
    assert any_host.predict(iris, b"a,b\n1,2\n", content_type="text/csv").status == 415
    assert any_host.predict(iris, ROWS, content_type="application/json; charset=utf-8").status == 200


def test_a_model_describes_itself_and_predicts_columns(any_host: ModelHost, iris: ModelSpec) -> None:
    described = json.loads(any_host.call(iris, "describe", {}).body)
    assert (described["framework"], described["task"], described["classes"]) == ("sklearn", "classifier", [0, 1, 2])
    columns = {f"f{index}": [value] for index, value in enumerate((5.1, 3.5, 1.4, 0.2))}
    answer = json.loads(any_host.call(iris, "predict_columns", {}, json.dumps({"columns": columns}).encode()).body)
    assert (answer["predictions"], len(answer["probabilities"][0])) == ([0], 3)
    ragged = any_host.call(iris, "predict_columns", {}, b'{"columns": {"f0": [1], "f1": []}}')
    assert ragged.status == 400
    assert any_host.call(iris, "reboot", {}).status == 400


def test_a_table_is_read_in_the_sandbox_and_predicts_nothing(any_host: ModelHost, tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("a,b\n1,x\n2,\n")
    spec = model_spec(path, "table")
    found = json.loads(any_host.call(spec, "read_table", {"format": "csv", "max_rows": 10}).body)
    assert found["columns"] == {"a": [1, 2], "b": ["x", None]}
    assert any_host.predict(spec, ROWS).status == 400


def test_a_file_with_other_bytes_than_promised_is_not_opened(any_host: ModelHost, iris: ModelSpec) -> None:
    with pytest.raises(ArtifactInvalid, match="sha256"):
        any_host.ensure(replace(iris, key="other", sha256=hashlib.sha256(b"other").hexdigest()))
    with pytest.raises(ArtifactInvalid):
        any_host.ensure(replace(iris, key="gone", path=iris.path + ".gone"))


def test_a_file_outside_the_artifact_folders_is_not_opened(host: RunnerHost, iris: ModelSpec) -> None:
    with pytest.raises(ArtifactInvalid, match="outside"):
        host.ensure(replace(iris, key="outside", path="/etc/hostname"))


def test_a_link_out_of_the_artifact_folders_is_not_followed(host: RunnerHost, tmp_path: Path) -> None:
    link = tmp_path / "link.pkl"
    link.symlink_to("/etc/hostname")
    with pytest.raises(ArtifactInvalid, match="outside"):
        host.ensure(model_spec(link))


def test_a_model_that_does_not_load_says_why_and_may_be_asked_again(any_host: ModelHost, tmp_path: Path) -> None:
    path = tmp_path / "broken.pkl"
    path.write_bytes(b"not a pickle")
    for _ in range(2):
        with pytest.raises(LoadFailed) as failed:
            any_host.ensure(model_spec(path))
        assert failed.value.detail
        assert failed.value.hint


def test_unloading_frees_it_and_the_next_request_loads_it_again(any_host: ModelHost, iris: ModelSpec) -> None:
    first = any_host.ensure(iris).generation
    any_host.unload(iris.key)
    any_host.unload(iris.key)
    assert iris.key not in [entry["key"] for entry in any_host.status()["entries"]]
    assert any_host.predict(iris, ROWS).status == 200
    assert any_host.ensure(iris).generation > first


@pytest.mark.parametrize(
    "name",
    ["iris_joblib", "iris_skops", "iris_onnx", "regressor_pickle", "churn_pipeline", "churn_onnx", "text_pipeline", "cluster", "xgb_wrapper",
     "xgb_ubj", "xgb_json", "xgb_regressor", "lightgbm_pickle", "lightgbm_text", "torch_export", "torchscript"],
)  # fmt: skip
def test_every_format_loads_and_predicts_in_the_sandbox_as_its_library_does(name: str, host: RunnerHost, tiny) -> None:
    model = tiny[name]
    spec = model_spec(model.path, model.format, key=f"tiny-{name}", schema=model.schema)
    reply = host.predict(spec, json.dumps({"inputs": model.rows}).encode())
    answer = json.loads(reply.body)
    assert (reply.status, answer["predictions"]) == (
        200,
        pytest.approx(model.expected) if model.task == "regressor" else model.expected,
    )
    if model.bad_row is not None:
        assert host.predict(spec, json.dumps({"inputs": [model.bad_row]}).encode()).status == 422
    host.unload(spec.key)


def test_a_changed_schema_under_the_same_key_takes_effect(any_host: ModelHost, iris: ModelSpec) -> None:
    by_name = b'{"inputs": {"sl": 5.1, "sw": 3.5, "pl": 1.4, "pw": 0.2}}'
    assert any_host.predict(iris, by_name).status == 422
    assert any_host.predict(replace(iris, schema=SCHEMA), by_name).status == 200
    assert any_host.ensure(replace(iris, schema=SCHEMA, limits=Limits(predict_s=1))).cold is False
    assert any_host.predict(iris, by_name).status == 422


def test_the_status_lists_what_is_loaded(any_host: ModelHost, iris: ModelSpec) -> None:
    any_host.pin(iris.key, True)
    any_host.predict(iris, ROWS)
    any_host.ensure(iris)
    status = any_host.status()
    entry = next(entry for entry in status["entries"] if entry["key"] == iris.key)
    assert (status["ready"], entry["pinned"], entry["device"]) == (True, True, "cpu")
    assert entry["bytes"] > 0
    assert entry["hits"] >= 1
    assert status["limits"]["predict_s"] == 10
    assert {"hits", "misses", "evictions", "used_bytes", "capacity_bytes"} <= set(status["cache"])
    any_host.pin(iris.key, False)


def test_threads_share_one_load_and_keep_their_own_answers(host: RunnerHost, iris: ModelSpec) -> None:
    wrong: list[object] = []

    def ask(label: int, row: list[float]) -> None:
        body = json.dumps({"inputs": [row]}).encode()
        for _ in range(20):
            answer = json.loads(host.predict(iris, body).body)
            if answer["predictions"] != [label]:
                wrong.append(answer)

    rows = [(0, [5.1, 3.5, 1.4, 0.2]), (1, [6.2, 2.9, 4.3, 1.3]), (2, [7.7, 3.0, 6.1, 2.3])]
    threads = [threading.Thread(target=ask, args=rows[index % 3]) for index in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert host.ensure(iris).cold is False


def test_a_forked_process_makes_its_own_connections(host: RunnerHost, iris: ModelSpec) -> None:
    host.predict(iris, ROWS)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, b"".join(host.predict(iris, ROWS).body[:20] for _ in range(3)))
        finally:
            os._exit(0)
    os.close(writing)
    mine = host.predict(iris, ROWS)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b'{"predictions":[0,1]' * 3
    os.waitpid(pid, 0)
    assert mine.status == 200


def test_too_many_waiting_requests_are_turned_away_at_once(host: RunnerHost, iris: ModelSpec) -> None:
    host.ensure(iris)
    runner = host.warm_runner(iris)
    runner.in_flight, runner.call_s = 64, 0.1
    with pytest.raises(Busy) as busy:
        host.predict(iris, ROWS)
    assert (busy.value.status, busy.value.retry_after_s) == (503, 6)
    runner.in_flight = 0
    assert host.predict(iris, ROWS).status == 200


def test_without_a_runner_host_the_error_says_what_to_start(tmp_path: Path, iris: ModelSpec) -> None:
    nobody = RunnerHost(str(tmp_path / "runnerd.sock"))
    with pytest.raises(HostUnavailable) as gone:
        nobody.predict(iris, ROWS)
    assert (gone.value.status, gone.value.retry_after_s) == (503, 1)
    assert "manage.py up" in gone.value.hint
    assert nobody.status()["ready"] is False


def test_get_host_obeys_the_environment(runner_host: RunningHost, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_host() is runner_host.client
    try:
        host_module.set_host(None)
        assert isinstance(get_host(), RunnerHost)
        host_module.set_host(None)
        monkeypatch.setenv("SLIPWAY_TRUST_UPLOADERS", "1")
        monkeypatch.setenv("SLIPWAY_MODEL_CACHE_BYTES", "nonsense")
        with pytest.raises(ValueError, match="SLIPWAY_MODEL_CACHE_BYTES"):
            get_host()
        monkeypatch.setenv("SLIPWAY_MODEL_CACHE_BYTES", "1000000000")
        trusted = get_host()
        assert isinstance(trusted, InProcessHost)
        assert trusted.cache.stats()["capacity_bytes"] == 1_000_000_000
        assert "without a sandbox" in trusted.status()["detail"]
    finally:
        host_module.set_host(runner_host.client)
