"""Where runners are forked from: what it has ready for them, what they give back, and what follows when it dies."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from mlops.runtime.host import RunnerHost
from tests.runner_host import model_spec, running_host, wait_until
from tests.tiny_models import at_predict

LEFT_OVERS = "left = [bytes(3000) for _ in range(40000)]; last = bytes(3000); del left"


def test_what_loading_left_behind_goes_back_to_the_system(host: RunnerHost, tmp_path: Path) -> None:
    path = tmp_path / "wasteful.pkl"
    path.write_bytes(at_predict("return [row[0] for row in X]", LEFT_OVERS))
    assert 0 < host.ensure(model_spec(path)).memory_bytes < 60 << 20  # of 120 MB that were in use


def pid(host: RunnerHost, key: str) -> int:
    return next(entry["pid"] for entry in host.status()["entries"] if entry["key"] == key)


@pytest.mark.parametrize(
    ("name", "place"), [("iris_joblib", 0), ("iris_onnx", 0), ("torchscript", 1), ("iris_skops", 1)]
)
def test_a_model_comes_from_the_zygote_that_has_its_library(
    host: RunnerHost, tiny: dict, name: str, place: int
) -> None:
    model = tiny[name]
    spec = model_spec(model.path, model.format, key=f"zygote-{name}")
    host.ensure(spec)
    zygotes = wait_until(lambda: len(found := host.status()["zygote"]["pids"]) == 2 and found, 60)
    assert psutil.Process(pid(host, spec.key)).ppid() == zygotes[place]


def test_models_of_quick_libraries_do_not_wait_for_the_slow_ones(tmp_path: Path, tiny: dict) -> None:
    """The template is stopped when it has forked the first zygote: as long as it stands still, there is no second one."""
    model = tiny["iris_joblib"]
    with running_host(artifacts=[tmp_path, model.path.parent]) as starting:
        status = starting.client.status
        template = psutil.Process(wait_until(lambda: status()["zygote"]["template_pid"]))
        wait_until(lambda: template.children(), 60, every_s=0.001)
        template.suspend()
        starting.wait_for_verdict()
        spec = model_spec(model.path, model.format)
        assert starting.client.ensure(spec).cold
        assert "torch" not in status()["zygote"]["libraries"]
        template.resume()
        wait_until(lambda: "torch" in status()["zygote"]["libraries"], 60)
        assert psutil.pid_exists(pid(starting.client, spec.key))  # the second did not cost the first its runners


def test_the_death_of_one_zygote_leaves_the_runners_of_the_other(tmp_path: Path, tiny: dict) -> None:
    quick, slow = tiny["iris_joblib"], tiny["torchscript"]
    with running_host(artifacts=[quick.path.parent, slow.path.parent]) as running:
        host = running.client
        specs = [model_spec(model.path, model.format, key=model.name) for model in (quick, slow)]
        for spec in specs:
            host.ensure(spec)
        kept, lost = (pid(host, spec.key) for spec in specs)
        psutil.Process(host.status()["zygote"]["pids"][1]).kill()
        wait_until(lambda: not is_running(lost))
        wait_until(lambda: host.status()["ready"], 20)
        assert host.ensure(specs[1]).cold
        assert is_running(kept)
        assert not host.ensure(specs[0]).cold


def is_running(number: int) -> bool:
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


def test_a_zygote_has_one_thread_of_ours_so_that_nothing_is_half_done_when_it_forks(host: RunnerHost) -> None:
    zygote = wait_until(lambda: (found := host.status()["zygote"])["libraries"] and found, 60)
    assert "onnxruntime" in zygote["libraries"]
    names = [path.read_text().strip() for path in Path(f"/proc/{zygote['pid']}/task").glob("*/comm")]
    assert len([name for name in names if name != "jemalloc_bg_thd"]) == 1  # that one is pyarrow's and came to stay
