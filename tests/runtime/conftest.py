"""Fixtures of the runtime's tests: models made of a few lines of Python, opened where it is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops.runtime.host import ModelSpec, RunnerHost
from mlops.runtime.nursery import Config
from mlops.runtime.supervisor import Supervisor
from tests.runner_host import RunningHost, model_spec
from tests.tiny_models import at_load, at_predict


@pytest.fixture
def host(runner_host: RunningHost) -> RunnerHost:
    """The session's real runner host."""
    return runner_host.client


@pytest.fixture
def loading(tmp_path: Path) -> Callable[..., ModelSpec]:
    """A model whose file runs ``code`` when it is opened."""

    def make(code: str, **fields) -> ModelSpec:
        path = tmp_path / "hostile.pkl"
        path.write_bytes(at_load(code))
        return model_spec(path, **fields)

    return make


@pytest.fixture
def predicting(tmp_path: Path) -> Callable[..., ModelSpec]:
    """A model whose predict(self, X) is ``body``."""

    def make(body: str, **fields) -> ModelSpec:
        path = tmp_path / "model.pkl"
        path.write_bytes(at_predict(body))
        return model_spec(path, **fields)

    return make


@pytest.fixture
def iris(tmp_path: Path) -> ModelSpec:
    """A small scikit-learn classifier without a schema of its own."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    path = tmp_path / "iris.joblib"
    joblib.dump(LogisticRegression(max_iter=200).fit(*load_iris(return_X_y=True)), path)
    return model_spec(path, name="iris", version=3)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    """``supervisor("seccomp", sandbox="bwrap")``: one in this process, without those layers, ended with the test."""
    made: list[Supervisor] = []

    def make(*without: str, sandbox: str = "landlock") -> Supervisor:
        folder = str(tmp_path)
        config = Config(folder, (folder,), 1 << 30, 0, frozenset(without), preload=False, sandbox=sandbox)
        made.append(Supervisor(config))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()
