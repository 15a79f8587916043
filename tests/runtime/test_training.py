"""Training a user's code in the sandbox: it learns, and does nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops.runtime.host import HostError, Limits, RunnerHost
from tests.runner_host import RunningHost, model_spec, running_host, wait_until

LEARN = """
import json, os, shutil, tempfile
import joblib
import pandas
from sklearn.linear_model import LogisticRegression

def train(data_dir, out_dir):
    rows = pandas.read_csv(os.path.join(data_dir, "recent.csv"))
    print("rows:", len(rows))
    model = LogisticRegression().fit(rows[["x"]], rows["y"])
    joblib.dump(model, os.path.join(out_dir, "model.joblib"))
    os.makedirs(os.path.join(out_dir, "more"))
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("scratch")
    shutil.copy(os.path.join(data_dir, "recent.csv"), os.path.join(out_dir, "more", "rows.csv"))
    return {"accuracy": model.score(rows[["x"]], rows["y"]), "odd": "text"}
"""


@pytest.fixture(scope="module", params=["bwrap", "landlock"])
def place(request: pytest.FixtureRequest) -> Iterator[RunningHost]:
    """A runner host with a folder for trainings; the artifacts lie beside it, the code in them."""
    if request.param == "bwrap":
        from tests.runner_host import bubblewrap

        bubblewrap()
    folder = Path(tempfile.mkdtemp(prefix="slipway-tr-"))
    with running_host(
        artifacts=[folder / "artifacts"], trainings=[folder / "trainings"], sandbox=request.param, preload=False
    ) as running:
        running.base = folder
        yield running
    shutil.rmtree(folder, ignore_errors=True)


class Trial:
    def __init__(self, place: RunningHost, code: str, number: int, **limits: Any) -> None:
        self.host: RunnerHost = place.client
        self.folder = place.base / "trainings" / f"t{number}"
        for path in (self.folder / "data", self.folder / "work" / "out", self.folder / "work" / "tmp"):
            path.mkdir(parents=True)
        (self.folder / "data" / "recent.csv").write_text("x,y\n" + "".join(f"{n},{int(n > 10)}\n" for n in range(20)))
        path = place.base / "artifacts" / f"code{number}" / "train.py"
        path.parent.mkdir()
        path.write_text(code)
        options = {"data": str(self.folder / "data"), "work": str(self.folder / "work")}
        self.spec = model_spec(path, "training", key=f"train-{number}-{place.socket_path[-20:]}", options=options)
        self.spec = replace(self.spec, limits=Limits(**{"load_s": 60.0, "memory_bytes": 1 << 30, **limits}))

    @property
    def out(self) -> Path:
        return self.folder / "work" / "out"

    def run(self, out_bytes: int = 32 << 20) -> dict[str, Any]:
        self.host.train(self.spec, str(self.folder), out_bytes)
        return self.wait()

    def told(self) -> dict[str, Any]:
        return self.host.training(self.spec.key)

    def wait(self) -> dict[str, Any]:
        wait_until(lambda: self.told()["state"] != "running", 90, every_s=0.05)
        return self.told()


@pytest.fixture
def trial(place: RunningHost) -> Callable[..., Trial]:
    wait_until(lambda: place.client.status()["ready"], 110)

    def make(code: str, **limits: Any) -> Trial:
        place.count = getattr(place, "count", 0) + 1
        return Trial(place, code, place.count, **limits)

    return make


def test_a_training_learns_from_its_data_and_leaves_a_model(trial) -> None:
    one = trial(LEARN)
    told = one.run()
    assert told["state"] == "done", told
    assert told["metrics"] == {"accuracy": 1.0}
    assert "rows: 20" in told["log"]
    assert (one.out / "model.joblib").stat().st_size > 100
    assert (one.out / "more" / "rows.csv").read_text().startswith("x,y")


def _def(body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return f"import os\n\ndef train(data_dir, out_dir):\n{lines}\n"


# What a hostile one tries; each says LEAK where it could.
ATTACKS = {
    "network": "import socket\nsocket.socket().connect(('127.0.0.1', 80))",
    "name service": "import socket\nsocket.getaddrinfo('example.com', 443)[0] and print('LE' 'AK')\nraise OSError('no')",
    "secrets": "open('/etc/passwd').read()",
    "other trainings": "os.listdir(os.path.dirname(os.path.dirname(data_dir)))\nraise OSError(os.listdir('/tmp'))",
    "its data": "open(os.path.join(data_dir, 'recent.csv'), 'w').write('LE' 'AK')",
    "beside out": "open(os.path.join(os.path.dirname(data_dir), 'x'), 'w').write('LE' 'AK')",
    "its code": "open(__file__, 'a').write('LE' 'AK')",
    "a link": "os.symlink('/etc/passwd', os.path.join(out_dir, 'model.joblib'))",
    "a hard link": "os.link(os.path.join(data_dir, 'recent.csv'), os.path.join(out_dir, 'model.joblib'))",
    "a pipe": "os.mkfifo(os.path.join(out_dir, 'model.joblib'))",
    "modes": "open(os.path.join(out_dir, 'm'), 'w').close()\nos.chmod(os.path.join(out_dir, 'm'), 0o4755)",
    "a process": "os.fork()",
    "a program": "import subprocess\nsubprocess.run(['/bin/true'])",
    "a fork bomb": "while True:\n    os.fork()",
    "moving out": "open(os.path.join(out_dir, 'm'), 'w').close()\nos.rename(os.path.join(out_dir, 'm'), os.path.join(data_dir, 'm'))",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_training_gets_nowhere(trial, name: str) -> None:
    one = trial(_def(ATTACKS[name]))
    told = one.run()
    assert told["state"] == "failed", told
    assert "LEAK" not in told["log"]
    assert (one.folder / "data" / "recent.csv").read_text().startswith("x,y")
    assert not [path for path in one.folder.rglob("*") if path.is_symlink() or path.name == "x"]
    assert sorted(os.listdir(one.folder)) == ["data", "work"]


def test_an_endless_training_is_ended(trial) -> None:
    told = trial(_def("while True:\n    pass"), load_s=2.0).run()
    assert told["state"] == "failed"
    assert told["error"]["fields"]["reason"] == "timeout"
    assert "2 s" in told["error"]["detail"]


def test_a_training_that_writes_too_much_is_ended(trial) -> None:
    many = "n = 0\nwhile True:\n    n += 1\n    open(os.path.join(out_dir, str(n)), 'wb').write(bytes(1 << 20))"
    told = trial(_def(many)).run(out_bytes=8 << 20)
    assert told["state"] == "failed"
    assert told["error"]["fields"]["reason"] == "too_large"


def test_one_file_cannot_outgrow_the_bound_at_all(trial) -> None:
    one = trial(
        _def(
            "with open(os.path.join(out_dir, 'm'), 'wb') as file:\n    for _ in range(64):\n        file.write(bytes(1 << 20))"
        )
    )
    told = one.run(out_bytes=8 << 20)
    assert told["state"] == "failed"
    assert (one.out / "m").stat().st_size <= 8 << 20


def test_memory_is_bounded(trial) -> None:
    told = trial(_def("held = [bytearray(64 << 20) for _ in range(100)]")).run()
    assert told["state"] == "failed"
    assert "memory" in told["error"]["detail"]


def test_an_error_names_its_file_and_line(trial) -> None:
    told = trial("def train(data_dir, out_dir):\n    rows = 1\n    raise ValueError('no rows with labels')\n").run()
    assert told["state"] == "failed"
    assert told["error"]["detail"].startswith("train.py, line 3: ")
    assert "no rows with labels" in told["error"]["detail"]
    assert "Traceback" in told["log"]


def test_code_without_train_is_told_the_contract(trial) -> None:
    told = trial("def fit():\n    pass\n").run()
    assert told["error"]["fields"]["reason"] == "no_train"
    assert "train(data_dir, out_dir)" in told["error"]["hint"]


def test_a_training_can_be_stopped_and_its_log_read_meanwhile(trial) -> None:
    one = trial(_def("import time\nprint('at work', flush=True)\ntime.sleep(600)"))
    one.host.train(one.spec, str(one.folder), 1 << 20)
    wait_until(lambda: "at work" in one.told()["log"], 60)
    assert one.told()["state"] == "running"
    assert one.host.stop_training(one.spec.key, "Dan has stopped it.")
    assert one.wait()["state"] == "stopped"
    assert not one.host.stop_training(one.spec.key, "again")


def test_a_second_training_waits_for_its_turn(trial) -> None:
    first, second = trial(_def("import time\ntime.sleep(600)")), trial(LEARN)
    first.host.train(first.spec, str(first.folder), 1 << 20)
    with pytest.raises(HostError) as caught:
        second.host.train(second.spec, str(second.folder), 1 << 20)
    assert caught.value.retry_after_s
    assert second.told() == {"state": "unknown"}
    first.host.stop_training(first.spec.key, "enough")
    first.wait()
    assert second.run()["state"] == "done"


def test_a_folder_elsewhere_is_refused(trial, tmp_path: Path) -> None:
    one = trial(LEARN)
    with pytest.raises(HostError, match="outside the trainings folder"):
        one.host.train(one.spec, str(tmp_path), 1 << 20)


def test_code_that_was_changed_is_not_run(trial) -> None:
    one = trial(LEARN)
    Path(one.spec.path).write_text("def train(data_dir, out_dir): pass\n")
    told = one.run()
    assert told["error"]["code"] == "artifact_invalid"
