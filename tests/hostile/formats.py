"""Hostile files of the other formats: code in containers, graphs that read files or never end, trees with wild indexes."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.cases import TEST_DATA, Case, Trap, code, zipped
from tests.hostile.pickles import Calls

FLOAT = TensorProto.FLOAT


# -- torch --------------------------------------------------------------------------------------------------------------
class _Reads(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.from_file(self.path, shared=False, size=16, dtype=torch.uint8)
        return x[:, :1] * 0 + found.sum()


class _Writes(_Reads):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.from_file(self.path, shared=True, size=16, dtype=torch.uint8)
        found.fill_(88)
        return x[:, :1] * 0 + found.sum()


class _Endless(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool((x == x).all()):
            x = x + 1
        return x


def _script(module: torch.nn.Module) -> bytes:
    raw = io.BytesIO()
    torch.jit.save(torch.jit.script(module), raw)  # type: ignore[no-untyped-call]
    return raw.getvalue()


def _poisoned_export(trap: Trap) -> tuple[str, bytes]:
    """A good program whose sample inputs are a pickle that writes: they are unpickled when it is opened."""
    raw = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(4, 1), (torch.ones(2, 4),)), raw)
    evil = io.BytesIO()
    torch.save(Calls(exec, f"open({str(trap.marker)!r}, 'w')"), evil)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw.getvalue())) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            inputs = "sample_inputs" in entry.filename
            target.writestr(entry.filename, evil.getvalue() if inputs else source.read(entry))
    return "model.pt2", out.getvalue()


def _pickled_module(trap: Trap) -> tuple[str, bytes]:
    raw = io.BytesIO()
    torch.save(Calls(exec, f"open({str(trap.marker)!r}, 'w')"), raw)
    return "model.pt", raw.getvalue()


def _weights(trap: Trap) -> tuple[str, bytes]:
    """The same as the weights of a predict.py without load(): opened as weights only."""
    return "model.zip", zipped({"predict.py": "def predict(model, rows):\n    return [0 for _ in rows]\n", "model.pt": _pickled_module(trap)[1], "test_data.json": TEST_DATA})  # fmt: skip


# -- ONNX ---------------------------------------------------------------------------------------------------------------
def _graph(nodes: list[Any], weights: list[Any] | None = None, domain: str = "") -> bytes:
    ends = [helper.make_tensor_value_info(name, FLOAT, [None, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights or [])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets).SerializeToString()


def _external(location: str) -> bytes:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    return _graph([helper.make_node("Add", ["x", "w"], ["y"])], [weight])


def _enormous(trap: Trap) -> tuple[str, bytes]:
    shape = numpy_helper.from_array(np.array([1 << 40, 4], dtype=np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["big"]), helper.make_node("Add", ["x", "big"], ["y"])]
    return "model.onnx", _graph(nodes, [shape])


def _endless_loop(trap: Trap) -> tuple[str, bytes]:
    count = numpy_helper.from_array(np.array(1 << 62, dtype=np.int64), "count")
    true = numpy_helper.from_array(np.array(True), "true")
    inside = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["v"], ["w"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []), helper.make_tensor_value_info("v", FLOAT, None)],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", FLOAT, None)],
    )  # fmt: skip
    return "model.onnx", _graph([helper.make_node("Loop", ["count", "true", "x"], ["y"], body=inside)], [count, true])


def _custom(trap: Trap) -> tuple[str, bytes]:
    return "model.onnx", _graph([helper.make_node("Shell", ["x"], ["y"], domain="evil")], domain="evil")


# -- trees --------------------------------------------------------------------------------------------------------------
def _wild_xgboost(trap: Trap) -> tuple[str, bytes]:
    """Children and features far outside the arrays."""
    import xgboost

    x = np.random.default_rng(0).normal(size=(40, 4))
    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(x, label=x[:, 0]), 2)
    told = json.loads(booster.save_raw("json"))
    for tree in told["learner"]["gradient_booster"]["model"]["trees"]:
        tree["left_children"] = [1_000_000_000 if child >= 0 else child for child in tree["left_children"]]
        tree["split_indices"] = [2_000_000_000 for _ in tree["split_indices"]]
    return "model.json", json.dumps(told).encode()


def _wild_lightgbm(trap: Trap) -> tuple[str, bytes]:
    import lightgbm

    x = np.random.default_rng(0).normal(size=(60, 4))
    booster = lightgbm.train({"verbose": -1, "min_data_in_leaf": 5}, lightgbm.Dataset(x, label=x[:, 0]), 2)
    lines = booster.model_to_string().splitlines()
    wild = {"split_feature=": "2000000000", "left_child=": "1000000000"}
    for place, line in enumerate(lines):
        for start, value in wild.items():
            if line.startswith(start):
                lines[place] = start + " ".join(value for _ in line[len(start) :].split())
    return "model.txt", "\n".join(lines).encode()


# -- skops and sklearn --------------------------------------------------------------------------------------------------
def _skops(node: Callable[[Trap], dict[str, Any]]) -> Callable[[Trap], tuple[str, bytes]]:
    def make(trap: Trap) -> tuple[str, bytes]:
        schema = {"protocol": 2, "_skops_version": "0.16.0", "__id__": 1, **node(trap)}
        return "model.skops", zipped({"schema.json": json.dumps(schema)})

    return make


def _calls_system(trap: Trap) -> dict[str, Any]:
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(f"touch {trap.marker}"), "is_json": True}  # fmt: skip
    inside = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [text]}
    return {"__class__": "system", "__module__": "posix", "__loader__": "ReduceNode", "args": inside}


def _names_function(trap: Trap) -> dict[str, Any]:
    return {"__class__": "function", "__module__": "os", "__loader__": "FunctionNode", "content": "system"}


def _wild_tree(trap: Trap) -> tuple[str, bytes]:
    """A decision tree whose nodes point far outside: scikit-learn's C code follows them."""
    from sklearn.tree import DecisionTreeClassifier

    x = np.random.default_rng(0).normal(size=(40, 4))
    model = DecisionTreeClassifier(max_depth=3).fit(x, x[:, 0] > 0)
    state = model.tree_.__getstate__()
    state["nodes"]["left_child"][0] = 1 << 40
    state["nodes"]["feature"][0] = 1 << 40
    return "model.pkl", pickle.dumps(model)


# -- descriptions beside the model --------------------------------------------------------------------------------------
def _mlmodel(text: Callable[[Trap], str]) -> Callable[[Trap], tuple[str, bytes]]:
    return lambda trap: ("model.zip", zipped({"MLmodel": text(trap), "model.pkl": pickle.dumps([1])}))


_YAML_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)


def _beside(name: str, content: bytes | str) -> Callable[[Trap], tuple[str, bytes]]:
    def make(trap: Trap) -> tuple[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(code("return [0 for _ in rows]"))) as archive:
            files: dict[str, bytes | str] = {entry: archive.read(entry) for entry in archive.namelist()}
        return "model.zip", zipped({**files, name: content})

    return make


CASES = (
    Case("torchscript-reads", "reads a system file into a tensor", lambda t: ("model.pt", _script(_Reads(str(t.canary)))), ("smoke",)),
    Case("torchscript-writes", "writes a file through a shared tensor", lambda t: ("model.pt", _script(_Writes(str(t.marker)))), ("smoke",)),
    Case("torchscript-endless", "never answers", lambda t: ("model.pt", _script(_Endless())), ("load", "smoke")),
    Case("export-sample-inputs", "hides a pickle in its sample inputs", _poisoned_export, ("load",)),
    Case("torch-pickle", "is a pickle that writes", _pickled_module, ("format", "load")),
    Case("torch-weights", "is the same, as the weights of a predict.py", _weights, ("format", "contents", "load")),
    Case("onnx-external", "takes its weights from a system file", lambda t: ("model.onnx", _external("../../../../../etc/passwd")), ("format",)),
    Case("onnx-external-canary", "takes its weights from a file by its full path", lambda t: ("model.onnx", _external(str(t.canary))), ("format",)),
    Case("onnx-enormous", "makes a tensor of 16 TB", _enormous, ("load", "smoke")),
    Case("onnx-endless", "loops 2^62 times", _endless_loop, ("load", "smoke")),
    Case("onnx-custom-operator", "asks for an operator of its own", _custom, ("format", "load")),
    Case("xgboost-wild", "has trees that point outside", _wild_xgboost, ("load", "smoke")),
    Case("lightgbm-wild", "has trees that point outside", _wild_lightgbm, ("load", "smoke")),
    Case("tree-wild", "has a scikit-learn tree that points outside", _wild_tree, ("smoke", "load")),
    Case("skops-reduce", "calls os.system", _skops(_calls_system), ("load",)),
    Case("skops-function", "names os.system", _skops(_names_function), ("load",)),
    Case("skops-deep", "nests its schema 100,000 times", lambda t: ("model.skops", zipped({"schema.json": "[" * 100_000})), ("format", "load")),
    Case("mlmodel-climbs", "points to a file outside", _mlmodel(lambda t: f"flavors:\n  sklearn:\n    pickled_model: ../../../..{t.canary}\n    serialization_format: pickle\n"), ("contents",)),
    Case("mlmodel-object", "builds a Python object from YAML", _mlmodel(lambda t: f"flavors: !!python/object/apply:os.system ['touch {t.marker}']\n"), ("contents",)),
    Case("mlmodel-bomb", "repeats itself a billion times", _mlmodel(lambda t: _YAML_BOMB), ("contents",)),
    Case("mlmodel-loader", "names code to load it with", _mlmodel(lambda t: "flavors:\n  python_function:\n    loader_module: os\n    data: model.pkl\n"), ("contents",)),
    Case("toml-climbs", "names a model outside its folder", _beside("slipway.toml", 'model_file = "../../../../etc/passwd"\n'), ("contents",)),
    Case("toml-broken", "is no TOML", _beside("slipway.toml", "[[["), ("contents",), "slipway.toml"),
    Case("test-data-deep", "nests 100,000 times", _beside("test_data.json", b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), ("contents", "schema", "smoke")),
    Case("test-data-null", "has a NUL in a text", _beside("test_data.json", b'{"inputs": [["a\\u0000b"], ["\\ud800"]]}'), ("ready", "contents", "schema", "smoke")),
    Case("test-data-huge-number", "has a number of a million digits", _beside("test_data.json", b'{"inputs": [[' + b"9" * 1_000_000 + b"]]}"), ("contents", "schema", "smoke")),
)  # fmt: skip
