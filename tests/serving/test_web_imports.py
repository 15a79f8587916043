"""The web process never imports a machine-learning library, not even after it has served a prediction."""

from __future__ import annotations

import gc
import json
import runpy
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FORBIDDEN = (
    "sklearn", "torch", "xgboost", "lightgbm", "onnx", "onnxruntime", "joblib", "pandas", "evidently", "apprise", "pyarrow", "skops", "scipy", "skl2onnx",
)  # fmt: skip
PROGRAM = """
import importlib, json, sys
import mlops.wsgi
from django.urls import URLPattern, get_resolver

def walk(patterns):
    for each in patterns:
        if isinstance(each, URLPattern):
            importlib.import_module(each.callback.__module__)
        else:
            walk(each.url_patterns)

walk(get_resolver().url_patterns)
imported_by_urls = sorted(name for name in {forbidden!r} if name in sys.modules)

from tests.serving.server import LocalServer
answer = LocalServer.predict_here()
print(json.dumps({{"urls": imported_by_urls, "after": sorted(name for name in {forbidden!r} if name in sys.modules), "answer": answer}}))
"""


def test_no_url_and_no_warm_prediction_imports_a_model_library(local_slipway) -> None:
    program = PROGRAM.format(forbidden=FORBIDDEN)
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=local_slipway.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    told = json.loads(found.stdout.strip().splitlines()[-1])
    assert told["answer"]["predictions"], told
    assert (told["urls"], told["after"]) == ([], [])


def test_a_worker_collects_garbage_again_when_it_begins_to_serve_but_not_what_it_imported() -> None:
    hooks = runpy.run_path(str(PROJECT / "mlops" / "gunicorn.conf.py"))
    try:
        hooks["post_fork"](None, None)
        assert not gc.isenabled()
        hooks["post_worker_init"](None)
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()
