"""Real models, tiny: one per file ending, with the answers their own library gives; and hostile files for the sandbox.

`build(folder)` trains and writes everything once (about ten seconds, mostly imports) and returns name -> TinyModel.
`hostile(folder)` writes files that attack, lie or break and returns name -> HostileFile. Nothing in either needs this
module when it is opened: pickles refer to library classes or builtins only.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TinyModel:
    """A model file and what it must answer. `rows` are native inputs; for a tensor model nested lists."""

    name: str
    path: Path
    format: str  # a name in mlops.runtime.formats.FORMATS
    rows: list[Any]
    expected: list[Any]  # predictions of the library itself for `rows`
    schema: dict[str, Any]  # as a user would give it
    task: str
    probabilities: list[list[float]] | None = None
    classes: list[Any] | None = None
    bad_row: Any = None  # one row the schema refuses


@dataclass(frozen=True)
class HostileFile:
    """A file that attacks or breaks. `when`: it strikes at "load", "predict", or "inspect" (found before anything runs)."""

    name: str
    path: Path
    format: str  # what its name pretends to be
    when: str
    does: str
    marker: Path | None = None  # exists after a successful attack
    rows: list[Any] = field(default_factory=lambda: [[1.0, 2.0, 3.0, 4.0]])


# -- good models ----------------------------------------------------------------------------------------------------

IRIS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def build(directory: str | os.PathLike[str]) -> dict[str, TinyModel]:
    """Every tiny model, written under `directory`."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    made = [
        _iris_joblib(folder),
        _iris_skops(folder),
        _iris_onnx(folder),
        _regressor_pickle(folder),
        _regressor_onnx(folder),
        _churn_pipeline(folder),
        _churn_onnx(folder),
        _text_pipeline(folder),
        _cluster(folder),
        _xgb_wrapper(folder),
        *_xgb_native(folder),
        _xgb_regressor(folder),
        _lightgbm(folder),
        _lightgbm_text(folder),
        *_torch(folder),
    ]
    return {model.name: model for model in made}


def build_once(directory: str | os.PathLike[str]) -> dict[str, TinyModel]:
    """The same, trained in one process of a test run only: the others copy its files, and read what they must answer."""
    from tests import shared

    told = "tiny.pickle"  # of this run's own making

    def make(folder: Path) -> None:
        (folder / told).write_bytes(pickle.dumps(list(build(folder).values())))

    copied = Path(shutil.copytree(shared.once("tiny", make), directory, dirs_exist_ok=True))
    found = pickle.loads((copied / told).read_bytes())
    (copied / told).unlink()
    return {model.name: replace(model, path=copied / model.path.name) for model in found}


def _iris() -> tuple[Any, Any]:
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


def _table(
    names: list[str], classes: list[Any] | None = None, task: str = "classifier", **kinds: str
) -> dict[str, Any]:
    inputs = [{"name": name, "type": kinds.get(name, "double"), "nullable": False} for name in names]
    output = {"task": task, "classes": classes, "probabilities": classes is not None}
    return {"kind": "table", "inputs": inputs, "tensor": None, "output": output, "source": "given"}


def _records(names: list[str], rows: Any) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


def _iris_model() -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _iris()
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(x, y), x[[0, 60, 120]]


def _iris_tiny(name: str, path: Path, form: str, names: list[str] = IRIS) -> TinyModel:
    model, sample = _iris_model()
    return TinyModel(
        name, path, form, _records(names, sample), model.predict(sample).tolist(), _table(names, [0, 1, 2]), "classifier",
        model.predict_proba(sample).tolist(), [0, 1, 2], {**dict.fromkeys(names, 1.0), names[1]: "wide"},
    )  # fmt: skip


def _iris_joblib(folder: Path) -> TinyModel:
    import joblib

    path = folder / "iris.joblib"
    joblib.dump(_iris_model()[0], path, compress=("gzip", 3))
    return _iris_tiny("iris_joblib", path, "sklearn")


def _iris_skops(folder: Path) -> TinyModel:
    import skops.io

    path = folder / "iris.skops"
    skops.io.dump(_iris_model()[0], path)
    return _iris_tiny("iris_skops", path, "skops")


def _iris_onnx(folder: Path) -> TinyModel:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    path = folder / "iris.onnx"
    model, _ = _iris_model()
    proto = to_onnx(
        model, initial_types=[("x", FloatTensorType([None, 4]))], options={"zipmap": False}, target_opset=17
    )
    path.write_bytes(proto.SerializeToString())
    return _iris_tiny("iris_onnx", path, "onnx", ["f0", "f1", "f2", "f3"])


def _regressor() -> tuple[Any, Any, list[str]]:
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    random = np.random.default_rng(7)
    x = random.normal(size=(120, 3))
    y = x @ np.array([1.5, -2.0, 0.5]) + 0.1 * random.normal(size=120)
    return (
        RandomForestRegressor(n_estimators=5, max_depth=4, random_state=0, n_jobs=-1).fit(x, y),
        x[:3],
        ["a", "b", "c"],
    )


def _regressor_pickle(folder: Path) -> TinyModel:
    model, sample, names = _regressor()
    path = folder / "price.pkl"
    path.write_bytes(pickle.dumps(model))
    return TinyModel(
        "regressor_pickle", path, "sklearn", _records(names, sample), model.predict(sample).tolist(), _table(names, task="regressor"),
        "regressor", bad_row={"a": 1.0, "b": None, "c": 2.0},
    )  # fmt: skip


def _regressor_onnx(folder: Path) -> TinyModel:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    model, sample, names = _regressor()
    path = folder / "price.onnx"
    path.write_bytes(
        to_onnx(model, initial_types=[("x", FloatTensorType([None, 3]))], target_opset=17).SerializeToString()
    )
    return TinyModel(
        "regressor_onnx", path, "onnx", _records(names, sample), model.predict(sample).tolist(), _table(names, task="regressor"),
        "regressor", bad_row=[1.0, 2.0],
    )  # fmt: skip


def _churn() -> tuple[Any, Any, dict[str, Any]]:
    """Text categories next to numbers, missing values allowed: the pipeline people really push."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(3)
    rows = 200
    frame = pd.DataFrame(
        {
            "plan": random.choice(["basic", "plus", "pro"], rows),
            "months": random.integers(1, 60, rows).astype(float),
            "spend": random.gamma(2.0, 30.0, rows),
        }
    )
    target = np.where((frame["plan"] == "basic") & (frame["months"] < 30), "leaves", "stays")
    frame.loc[::11, "spend"] = np.nan
    columns = ColumnTransformer(
        [
            ("plan", OneHotEncoder(handle_unknown="ignore"), ["plan"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["months", "spend"]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(frame, target)
    schema = _table(["plan", "months", "spend"], ["leaves", "stays"], plan="string")
    schema["inputs"][2]["nullable"] = True
    return model, frame.iloc[:4], schema


def _churn_tiny(name: str, path: Path, form: str) -> TinyModel:
    model, sample, schema = _churn()
    rows = [
        {"plan": plan, "months": months, "spend": None if spend != spend else spend}
        for plan, months, spend in zip(
            *(sample[column].tolist() for column in ("plan", "months", "spend")), strict=True
        )
    ]
    return TinyModel(
        name, path, form, rows, model.predict(sample).tolist(), schema, "classifier", model.predict_proba(sample).tolist(),
        ["leaves", "stays"], {"plan": 7, "months": 3.0, "spend": 1.0},
    )  # fmt: skip


def _churn_pipeline(folder: Path) -> TinyModel:
    import joblib

    path = folder / "churn.joblib"
    joblib.dump(_churn()[0], path)
    return _churn_tiny("churn_pipeline", path, "sklearn")


def _churn_onnx(folder: Path) -> TinyModel:
    """One graph input per column and zipmap probabilities: the other shape skl2onnx writes."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    path = folder / "churn.onnx"
    types = [
        ("plan", StringTensorType([None, 1])),
        ("months", FloatTensorType([None, 1])),
        ("spend", FloatTensorType([None, 1])),
    ]
    path.write_bytes(to_onnx(_churn()[0], initial_types=types, target_opset=17).SerializeToString())
    return _churn_tiny("churn_onnx", path, "onnx")


def _text_pipeline(folder: Path) -> TinyModel:
    import joblib
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    good, bad = (
        ["great and fast", "really great", "love it, fast"],
        ["slow and broken", "really broken", "hate it, slow"],
    )
    model = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(good + bad, ["good"] * 3 + ["bad"] * 3)
    path = folder / "review.joblib"
    joblib.dump(model, path, compress=3)
    texts = ["fast and great", "so slow"]
    return TinyModel(
        "text_pipeline", path, "sklearn", [{"text": text} for text in texts], model.predict(texts).tolist(),
        _table(["text"], ["bad", "good"], text="string"), "classifier", model.predict_proba(texts).tolist(), ["bad", "good"], {"text": 5},
    )  # fmt: skip


def _cluster(folder: Path) -> TinyModel:
    import joblib
    from sklearn.cluster import KMeans

    x, _ = _iris()
    model = KMeans(3, n_init=1, random_state=0).fit(x)
    path = folder / "clusters.joblib"
    joblib.dump(model, path)
    return TinyModel(
        "cluster", path, "sklearn", x[[0, 60, 120]].tolist(), model.predict(x[[0, 60, 120]]).tolist(), _table(IRIS, task="clusterer"), "clusterer",
        bad_row=[1, 2, 3],
    )  # fmt: skip


def _xgb_classifier() -> tuple[Any, Any]:
    from xgboost import XGBClassifier

    x, y = _iris()
    return XGBClassifier(n_estimators=4, max_depth=2, n_jobs=1).fit(x, y), x[[0, 60, 120]]


def _xgb_tiny(name: str, path: Path, form: str, names: list[str]) -> TinyModel:
    model, sample = _xgb_classifier()
    return TinyModel(
        name, path, form, _records(names, sample), model.predict(sample).tolist(), _table(names, [0, 1, 2]), "classifier",
        model.predict_proba(sample).astype(float).tolist(), [0, 1, 2], {**dict.fromkeys(names, 1.0), "surprise": 2.0},
    )  # fmt: skip


def _xgb_wrapper(folder: Path) -> TinyModel:
    path = folder / "xgb_wrapper.pkl"
    path.write_bytes(pickle.dumps(_xgb_classifier()[0]))
    return _xgb_tiny("xgb_wrapper", path, "sklearn", IRIS)


def _xgb_native(folder: Path) -> list[TinyModel]:
    model, _ = _xgb_classifier()
    made = []
    for ending in ("ubj", "json"):
        path = folder / f"xgb.{ending}"
        model.get_booster().save_model(path)
        made.append(_xgb_tiny(f"xgb_{ending}", path, "xgboost", ["f0", "f1", "f2", "f3"]))
    return made


def _xgb_regressor(folder: Path) -> TinyModel:
    """A native booster with feature names and a binary:logistic neighbour's opposite: plain regression."""
    import numpy as np
    import xgboost

    random = np.random.default_rng(5)
    x = random.normal(size=(100, 3)).astype(np.float32)
    names = ["width", "height", "depth"]
    data = xgboost.DMatrix(x, label=x[:, 0] * 2 + x[:, 1], feature_names=names)
    booster = xgboost.train({"max_depth": 2, "nthread": 1}, data, num_boost_round=4)
    path = folder / "volume.ubj"
    booster.save_model(path)
    expected = booster.predict(xgboost.DMatrix(x[:3], feature_names=names)).astype(float).tolist()
    return TinyModel(
        "xgb_regressor", path, "xgboost", _records(names, x[:3].astype(float)), expected, _table(names, task="regressor"), "regressor",
        bad_row={"width": True, "height": 1.0, "depth": 1.0},
    )  # fmt: skip


def _lightgbm_model() -> tuple[Any, Any]:
    from lightgbm import LGBMClassifier

    x, y = _iris()
    return LGBMClassifier(n_estimators=4, num_leaves=4, n_jobs=1, verbose=-1).fit(x, y), x[[0, 60, 120]]


def _lightgbm(folder: Path) -> TinyModel:
    import joblib

    model, sample = _lightgbm_model()
    path = folder / "lightgbm.pkl"
    joblib.dump(model, path)
    return TinyModel(
        "lightgbm_pickle", path, "sklearn", _records(IRIS, sample), model.predict(sample).tolist(), _table(IRIS, [0, 1, 2]), "classifier",
        model.predict_proba(sample).tolist(), [0, 1, 2], [1, 2, 3, 4, 5],
    )  # fmt: skip


def _lightgbm_text(folder: Path) -> TinyModel:
    model, sample = _lightgbm_model()
    path = folder / "lightgbm.txt"
    model.booster_.save_model(path)
    return TinyModel(
        "lightgbm_text", path, "lightgbm", _records(IRIS, sample), model.predict(sample).tolist(), _table(IRIS, [0, 1, 2]), "classifier",
        model.predict_proba(sample).tolist(), [0, 1, 2], [1, 2, 3, 4, 5],
    )  # fmt: skip


def _torch(folder: Path) -> list[TinyModel]:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    sample = torch.tensor([[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]])
    with torch.no_grad():
        scores = net(sample)
    chances = torch.softmax(scores.double(), 1)
    schema = {
        "kind": "tensor",
        "inputs": [],
        "tensor": {"dtype": "float32", "shape": [-1, 4]},
        "output": {"task": "classifier", "classes": ["setosa", "versicolor", "virginica"], "probabilities": True},
        "source": "given",
    }
    labels = [schema["output"]["classes"][index] for index in scores.argmax(1).tolist()]
    exported, scripted = folder / "mlp.pt2", folder / "mlp.pt"
    program = torch.export.export(net, (sample,), dynamic_shapes=({0: torch.export.Dim("rows", min=1, max=100_000)},))
    torch.export.save(program, exported)
    torch.jit.script(net).save(str(scripted))
    rest: dict[str, Any] = {
        "probabilities": chances.tolist(),
        "classes": schema["output"]["classes"],
        "bad_row": [[1.0, 2.0]],
    }
    rows = sample.tolist()
    return [
        TinyModel("torch_export", exported, "torch_export", rows, labels, schema, "classifier", **rest),
        TinyModel("torchscript", scripted, "torchscript", rows, labels, schema, "classifier", **rest),
    ]


# -- hostile files --------------------------------------------------------------------------------------------------


class _Call:
    """Pickles as a call of `function(*arguments)`; the file refers to the function only, never to this class."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def at_load(code: str) -> bytes:
    """A pickle that runs `code` when it is opened."""
    return pickle.dumps(_Call(exec, code), protocol=4)


def at_predict(body: str, first: str = "") -> bytes:
    """A pickle of an object whose predict(self, X) runs `body`; the class is made while the pickle opens, after `first` has run."""
    code = f"{first}\nclass M:\n def predict(self, X):\n" + "\n".join("  " + line for line in body.splitlines())
    return pickle.dumps(_Call(eval, f"(lambda space: (exec({code!r}, space), space['M']())[1])({{}})"), protocol=4)


_SEGFAULT = "import ctypes\nctypes.string_at(0)"
_FOREVER = "import time\nwhile True: time.sleep(1)"
_SPIN = "while True: pass"
_EAT = "kept = []\nwhile True: kept.append(bytearray(b'x') * (64 << 20))"
_FORK = "import os\nfor _ in range(50):\n    if os.fork() == 0:\n        while True: pass"
_EXEC = "import os\nos.execv('/bin/sh', ['/bin/sh', '-c', 'touch {marker}'])"
_SOCKET = "import socket\ns = socket.create_connection(('127.0.0.1', {port}), timeout=3)\ns.sendall(b'stolen')"
_UNIX = "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('{path}')"
_WRITE = "open({marker!r}, 'w').write('written')"
_KILL_PARENT = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"
_CHMOD = "import os\nos.chmod({marker!r}, 0o777)"


def hostile(directory: str | os.PathLike[str], *, port: int = 9) -> dict[str, HostileFile]:
    """Every hostile file. `port`: where the socket openers try to connect on loopback."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    made = [*_loaders(folder, port), *_predictors(folder, port), *_broken(folder), *_archives(folder)]
    return {item.name: item for item in made}


def _write(folder: Path, filename: str, content: bytes) -> Path:
    path = folder / filename
    path.write_bytes(content)
    return path


def _loaders(folder: Path, port: int) -> list[HostileFile]:
    marker = folder / "load_marker"
    system = folder / "system_marker"
    codes = {
        "write_load": (_WRITE.format(marker=str(marker)), "writes a file while it is opened"),
        "segfault_load": (_SEGFAULT, "segfaults while it is opened"),
        "sleep_load": (_FOREVER, "never finishes opening"),
        "memory_load": (_EAT, "eats memory while it is opened"),
        "fork_load": (_FORK, "forks fifty processes"),
        "socket_load": (_SOCKET.format(port=port), "connects to a TCP port"),
        "exit_load": ("import os\nos._exit(0)", "ends the process quietly"),
        "kill_parent_load": (_KILL_PARENT, "kills its parent process"),
        "exec_load": (_EXEC.format(marker=marker), "becomes a shell"),
    }
    made = [
        HostileFile(name, _write(folder, f"{name}.pkl", at_load(code)), "sklearn", "load", does, marker)
        for name, (code, does) in codes.items()
    ]
    shell = pickle.dumps(_Call(os.system, f"touch {system}"), protocol=2)
    made.append(
        HostileFile(
            "marker_pickle", _write(folder, "marker.pkl", shell), "sklearn", "load", "runs a shell command", system
        )
    )
    squeezed = _write(folder, "marker.joblib", zlib.compress(shell))
    made.append(
        HostileFile("marker_joblib", squeezed, "sklearn", "load", "runs a shell command from a compressed file", system)
    )
    return made


def _predictors(folder: Path, port: int) -> list[HostileFile]:
    marker = folder / "predict_marker"
    answers = "return [0 for _ in range(len(X))]"
    bodies = {
        "segfault_predict": (_SEGFAULT, "segfaults"),
        "sleep_predict": (_FOREVER, "never answers"),
        "spin_predict": (_SPIN, "never answers and burns the CPU"),
        "memory_predict": (_EAT, "eats memory"),
        "fork_predict": (f"{_FORK}\n{answers}", "forks fifty processes"),
        "exec_predict": (_EXEC.format(marker=marker), "becomes a shell"),
        "socket_predict": (f"{_SOCKET.format(port=port)}\n{answers}", "connects to a TCP port"),
        "environment_predict": ("import os\nreturn [dict(os.environ)]", "answers the environment"),
        "passwd_predict": ("return [open('/etc/passwd').read()]", "answers a system file"),
        "proc_predict": (
            "import os\nreturn [open(f'/proc/{os.getppid()}/environ', 'rb').read().decode()]",
            "reads its parent's environment",
        ),
        "files_predict": (
            "import os\nreturn [[os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')]]",
            "lists its open files",
        ),
        "write_predict": (f"{_WRITE.format(marker=str(marker))}\n{answers}", "writes a file"),
        "chmod_predict": (f"{_CHMOD.format(marker=str(folder))}\n{answers}", "changes a mode"),
        "kill_parent_predict": (f"{_KILL_PARENT}\n{answers}", "kills its parent process"),
        "huge_reply_predict": ("return ['x' * (1 << 20)] * 64", "answers 64 MB"),
        "print_predict": (
            f"import sys\nfor _ in range(20000): print('x' * 1000)\nsys.stdout.flush()\n{answers}",
            "prints 20 MB",
        ),
        "raise_predict": ("raise ValueError('the model gave up')", "raises an error"),
        "exit_predict": ("import os\nos._exit(3)", "ends the process"),
        "wrong_count_predict": ("return [1] * (len(X) + 1)", "answers one value too many"),
        "good_predict": (answers, "answers zeros: the harmless twin of the others"),
    }
    return [
        HostileFile(name, _write(folder, f"{name}.pkl", at_predict(body)), "sklearn", "predict", does, marker)
        for name, (body, does) in bodies.items()
    ]


def _broken(folder: Path) -> list[HostileFile]:
    import joblib
    from sklearn.linear_model import LogisticRegression

    x, y = _iris()
    whole = io.BytesIO()
    joblib.dump(LogisticRegression(max_iter=200).fit(x, y), whole)
    half = whole.getvalue()[: len(whole.getvalue()) // 2]
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(17)
    return [
        HostileFile("empty", _write(folder, "empty.joblib", b""), "sklearn", "inspect", "has no bytes"),
        HostileFile("truncated", _write(folder, "truncated.joblib", half), "sklearn", "inspect", "stops in the middle"),
        HostileFile("picture", _write(folder, "picture.joblib", png), "sklearn", "inspect", "is a picture"),
        HostileFile("table_as_onnx", _write(folder, "table.onnx", b"a,b\n1,2\n"), "onnx", "inspect", "is a CSV table"),
        HostileFile(
            "page",
            _write(folder, "page.pkl", b"<!doctype html><title>404</title>"),
            "sklearn",
            "inspect",
            "is a web page",
        ),
        HostileFile("lfs_pointer", _write(folder, "pointer.onnx", _LFS), "onnx", "inspect", "is a Git LFS pointer"),
        HostileFile("not_a_model", _write(folder, "list.pkl", pickle.dumps([1, 2, 3])), "sklearn", "load", "is a list"),
        HostileFile(
            "plain_json",
            _write(folder, "plain.json", json.dumps({"a": 1}).encode()),
            "xgboost",
            "inspect",
            "is any JSON",
        ),
        _external_onnx(folder),
        _state_dict(folder),
    ]


_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def _external_onnx(folder: Path) -> HostileFile:
    from onnx import TensorProto, helper, save_model

    secret = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value="../../../etc/passwd")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])],
        [secret],
    )
    path = folder / "external.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return HostileFile("external_onnx", path, "onnx", "inspect", "reads its weights from another file")


def _state_dict(folder: Path) -> HostileFile:
    import torch

    path = folder / "weights.pt"
    torch.save(torch.nn.Linear(4, 2).state_dict(), path)
    return HostileFile("state_dict", path, "torchscript", "inspect", "holds weights without a network")


def _archives(folder: Path) -> list[HostileFile]:
    bomb, climb, link, twice = (folder / f"{name}.skops" for name in ("bomb", "climb", "link", "twice"))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", bytes(64 << 20))
    with zipfile.ZipFile(climb, "w") as archive:
        archive.writestr("../../escaped", b"x")
    with zipfile.ZipFile(link, "w") as archive:
        entry = zipfile.ZipInfo("schema.json")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, b"/etc/passwd")
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("schema.json", b"{}")
        second = zipfile.ZipInfo("schema.json")
        archive.filelist[-1].filename = "other"  # quietens zipfile's warning about the twin
        archive.NameToInfo.clear()
        archive.writestr(second, b"{}")
        archive.filelist[0].filename = "schema.json"
    return [
        HostileFile("zip_bomb", bomb, "skops", "inspect", "inflates 1,000 times"),
        HostileFile("zip_climb", climb, "skops", "inspect", "has a member outside its folder"),
        HostileFile("zip_link", link, "skops", "inspect", "has a link to a system file"),
        HostileFile("zip_twice", twice, "skops", "inspect", "has the same member twice"),
    ]
