"""Uploads that attack, pushed through the API like anybody's: each ends where it must, and nothing else happens.

What holds for every one of them: no marker file, no secret in anything said or shown, nobody called, the neighbour goes on answering
from the same process, and five seconds later nothing of it is left. Honest models under the same conditions pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings

from mlops.jobs.models import Job
from mlops.runtime.host import HostError, get_host
from registry.models import Finding, ModelVersion
from registry.services import artifacts
from tests.hostile import archives, codes, formats, pickles, requirement_lines
from tests.hostile.cases import READY, TEST_DATA, ZEROS, Case, Trap, code, member, tarred, zipped
from tests.registry.conftest import Push, push  # noqa: F401  the fixture
from tests.runner_host import model_spec, wait_until

CORPUS = (*pickles.CASES, *archives.CASES, *codes.CASES, *formats.CASES, *requirement_lines.CASES)
pytestmark = [pytest.mark.django_db, pytest.mark.slow]
LEFT_S = 5


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory, runner_host: Any) -> Iterator[Trap]:
    folder = Path(tempfile.mkdtemp(prefix="trap-"))
    folder.chmod(0o777)  # only the sandbox keeps anybody out
    canary = folder / "canary"
    secret = f"canary-{secrets.token_hex(12)}"
    canary.write_text(secret)
    canary.chmod(0o666)
    place = str(folder / "listen.sock")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        unix.bind(place)
        os.chmod(place, 0o777)
        for each in (tcp, unix):
            each.listen()
            each.setblocking(False)
        found = Trap(folder, folder / "marker", canary, secret, tcp.getsockname()[1], place, runner_host.socket_path)
        yield found
        for each in (tcp, unix):  # nobody has knocked, not even late
            with pytest.raises(BlockingIOError):
                each.accept()
        assert not found.marker.exists()
        assert canary.read_text() == secret
    for name in ("canary", "listen.sock"):
        (folder / name).unlink()
    folder.rmdir()  # nothing else lies there


@pytest.fixture(autouse=True)
def _short_limits(settings: Any) -> None:
    settings.MODEL_LOAD_S, settings.MODEL_PREDICT_S = 3, 2
    settings.MODEL_MEMORY_BYTES = 512 << 20


def said(pushed: Push) -> str:
    """Everything that people, scripts and logs are told of it."""
    rows = [pushed.body, pushed.shown, *Job.objects.values("log", "error", "steps")]
    rows += Finding.objects.values("message", "hint")
    return json.dumps(rows, default=str)


def runners() -> set[int]:
    """The processes of all models that the host has."""
    return {entry["pid"] for entry in get_host().status()["entries"]}


def left_over() -> list[str]:
    """Temporary files of uploads and half-unpacked folders."""
    found = [str(path) for path in Path(live_settings.FILE_UPLOAD_TEMP_DIR).iterdir()]
    return found + [str(path) for path in live_settings.ARTIFACT_DIR.glob("*/.*") if not path.name.endswith(".lock")]


@pytest.fixture
def undisturbed(trap: Trap, tiny: dict, runner_host: Any, settings: Any) -> Iterator[None]:
    """A good model answers before and after from the same process, and what the test started is gone."""
    host = get_host()
    neighbour = model_spec(tiny["iris_joblib"].path)
    before, known = host.ensure(neighbour).generation, runners()
    yield
    reply = host.predict(neighbour, b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}')
    assert (reply.status, json.loads(reply.body)["predictions"]) == (200, [0])
    assert host.ensure(neighbour).generation == before
    assert not trap.marker.exists()
    wait_until(lambda: runners() <= known, LEFT_S)
    wait_until(lambda: not left_over(), LEFT_S)


def test_the_corpus_is_large_and_has_no_two_of_a_name() -> None:
    assert len({case.name for case in CORPUS}) == len(CORPUS) >= 120


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_a_hostile_upload_ends_where_it_must(case: Case, trap: Trap, push: Any, undisturbed: None) -> None:  # noqa: F811
    filename, content = case.make(trap)
    pushed = push(content, "hostile", filename=filename)
    assert pushed.status == 202, pushed.body
    ended = pushed.shown["status"]
    told = said(pushed)
    assert trap.secret not in told
    assert live_settings.SECRET_KEY not in told
    if ended == READY:
        assert READY in case.ends, pushed.shown["findings"]
        answers_harmlessly(trap)
    else:
        assert ended == "failed"
        error = pushed.error
        assert error["check"] in case.ends, error
        assert error["hint"], error
        assert case.says in error["message"], error
        assert "Traceback" not in error["message"]


def answers_harmlessly(trap: Trap) -> None:
    """It does again what it does when it is asked, under the same conditions."""
    version = ModelVersion.objects.get()
    spec = artifacts.spec_for(version)
    host = get_host()
    try:
        for _ in range(2):
            with contextlib.suppress(HostError):
                reply = host.predict(spec, TEST_DATA)
                assert trap.secret.encode() not in reply.body
                for word in ("SLIPWAY_SECRET", "DATABASE_URL", "DJANGO", "PYTEST", live_settings.SECRET_KEY):
                    assert word.encode() not in reply.body
        assert trap.secret not in host.logs(spec.key)
        assert "\x1b" not in host.logs(spec.key)
        assert len(host.logs(spec.key)) <= 300_000
    finally:
        host.unload(spec.key)


HONEST = {
    "zip-of-a-model": lambda tiny: ("model.zip", zipped({"model.joblib": tiny["iris_joblib"].path.read_bytes()}, packed=True)),
    "folder-in-a-zip": lambda tiny: ("model.zip", zipped({"iris/model.joblib": tiny["iris_joblib"].path.read_bytes(), "__MACOSX/iris/._model.joblib": b"x"})),
    "tar-gz-with-modes": lambda tiny: ("model.tar.gz", tarred((member("./model.joblib", mode=0o4755, uid=0), tiny["iris_joblib"].path.read_bytes()), mode="w:gz")),
    "predict-py": lambda tiny: ("model.zip", code(ZEROS, top="import json, math, re, random, logging, collections, datetime, decimal, threading")),
    "predict-py-threads": lambda tiny: ("model.zip", code("from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as pool: return list(pool.map(sum, rows))")),
    "predict-py-asset": lambda tiny: ("model.zip", zipped({"predict.py": "WORDS = open('assets/words.txt').read().split()\ndef predict(model, rows):\n    return [WORDS[0] for _ in rows]\n", "assets/words.txt": "good bad", "test_data.json": TEST_DATA})),
    "predict-py-numpy": lambda tiny: ("model.zip", code("return np.asarray(rows).sum(axis=1)", top="import numpy as np")),
    "requirements-ours": lambda tiny: ("model.zip", zipped({"predict.py": f"def predict(model, rows):\n    {ZEROS}\n", "requirements.txt": "# ours\nnumpy>=1.0\nscikit-learn\n\n", "test_data.json": TEST_DATA})),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_honest_uploads_pass_under_the_same_conditions(name: str, tiny: dict, push: Any, undisturbed: None) -> None:  # noqa: F811
    filename, content = HONEST[name](tiny)
    pushed = push(content, "honest", filename=filename)
    assert (pushed.status, pushed.shown.get("status")) == (202, READY), pushed.shown.get("findings") or pushed.body


@pytest.mark.parametrize(
    "kind", ["iris_joblib", "iris_onnx", "xgb_ubj", "iris_skops", "torchscript", "torch_export", "lightgbm_text"]
)
def test_honest_models_of_each_format_pass(kind: str, tiny: dict, push: Any, undisturbed: None) -> None:  # noqa: F811
    found = tiny[kind]
    pushed = push(found.path, "honest", sample={"inputs": found.rows})
    assert (pushed.status, pushed.shown.get("status")) == (202, READY), pushed.shown.get("findings") or pushed.body
