"""Where runners are forked from: what it has ready for them, what they give back, and what follows when it dies."""

from __future__ import annotations

from pathlib import Path

from mlops.runtime.host import RunnerHost
from tests.runner_host import model_spec
from tests.tiny_models import at_predict

LEFT_OVERS = "left = [bytes(3000) for _ in range(40000)]; last = bytes(3000); del left"


def test_what_loading_left_behind_goes_back_to_the_system(host: RunnerHost, tmp_path: Path) -> None:
    path = tmp_path / "wasteful.pkl"
    path.write_bytes(at_predict("return [row[0] for row in X]", LEFT_OVERS))
    assert 0 < host.ensure(model_spec(path)).memory_bytes < 60 << 20  # of 120 MB that were in use


def test_a_zygote_has_one_thread_of_ours_so_that_nothing_is_half_done_when_it_forks(host: RunnerHost) -> None:
    zygote = host.status()["zygote"]
    assert "onnxruntime" in zygote["libraries"]
    names = [path.read_text().strip() for path in Path(f"/proc/{zygote['pid']}/task").glob("*/comm")]
    assert len([name for name in names if name != "jemalloc_bg_thd"]) == 1  # that one is pyarrow's and came to stay
