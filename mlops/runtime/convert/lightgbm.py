"""LightGBM's trees as ONNX, with their 64-bit thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops.runtime.convert import trees
from mlops.runtime.convert.plan import Unsuitable
from mlops.runtime.convert.trees import Add, Names, Node

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_NONE, _MISSING_NAN = 1, 2, 0, 2
_ZERO = float(np.float32(1e-35))
_IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
_EXPONENT = ("poisson", "gamma", "tweedie")


@dataclass
class Booster:
    """What the model's text says."""

    objective: str
    options: dict[str, str]
    groups: int  # trees of one round: one per class, or one
    average: bool
    trees: list[dict[str, list[str]]]


def read(booster: Any) -> Booster:
    """Raises Unsuitable for one without an objective."""
    objective, groups, average = "", 1, False
    found: list[dict[str, list[str]]] = []
    for line in booster.model_to_string().splitlines():
        name, _, value = line.partition("=")
        if line.startswith("Tree="):
            found.append({})
        elif line.startswith("end of trees"):
            break
        elif found:
            found[-1][name] = value.split()
        elif name == "objective":
            objective = value
        elif name == "num_tree_per_iteration":
            groups = int(value)
        elif name == "average_output":
            average = True
    words = objective.split()
    if not words:
        raise Unsuitable("its objective is not in its file")
    options = dict(word.partition(":")[::2] for word in words[1:])
    return Booster(words[0], options, groups, average, found)


def emit(add: Add, names: Names, booster: Any, source: str, target: str) -> None:
    """From the matrix ``source`` to ``target``: values [rows, 1] or probabilities [rows, classes]. Raises Unsuitable."""
    found = read(booster)
    raw = trees.ensemble(add, names, source, [_tree(tree) for tree in found.trees], found.groups)
    if found.average:
        raw, total = names("mean"), raw
        add("Div", [total, trees.constant(add, names, [len(found.trees) / found.groups])], [raw], "")
    if found.objective in ("binary", "cross_entropy"):
        chance = _sigmoid(add, names, found, raw)
        if found.objective == "binary":
            trees.both_classes(add, names, chance, target)
        else:
            add("Identity", [chance], [target], "")
    elif found.objective == "multiclass":
        add("Softmax", [raw], [target], "", axis=1)
    elif found.objective == "multiclassova":
        add("Identity", [_sigmoid(add, names, found, raw)], [target], "")
    elif found.objective in _EXPONENT:
        add("Exp", [raw], [target], "")
    elif found.objective in _IDENTITY and "sqrt" not in found.options:
        add("Identity", [raw], [target], "")
    else:
        raise Unsuitable(f"its objective {found.objective} has no converter")


def _sigmoid(add: Add, names: Names, found: Booster, raw: str) -> str:
    scaled, chance = names("scaled"), names("chance")
    add("Mul", [raw, trees.constant(add, names, [float(found.options.get("sigmoid", 1))])], [scaled], "")
    add("Sigmoid", [scaled], [chance], "")
    return chance


def _tree(tree: dict[str, list[str]]) -> list[Node]:
    """Splits first, then the leaves."""
    if tree.get("is_linear", ["0"]) != ["0"]:
        raise Unsuitable("its leaves are linear models")
    count = len(tree.get("split_feature", []))
    nodes = []
    for place in range(count):
        kind, threshold = int(tree["decision_type"][place]), float(tree["threshold"][place])
        missing = (kind >> 2) & 3
        if kind & _CATEGORICAL:
            raise Unsuitable("it splits on categories")
        if missing not in (_MISSING_NONE, _MISSING_NAN):
            raise Unsuitable("it takes zero for a missing value")
        gaps_to_yes = threshold >= 0.0 if missing == _MISSING_NONE else bool(kind & _DEFAULT_LEFT)
        yes, no = (_place(int(tree[side][place]), count) for side in ("left_child", "right_child"))
        nodes.append(Node(int(tree["split_feature"][place]), _around_zero(threshold), yes, no, gaps_to_yes))
    return nodes + [Node(value=float(word)) for word in tree["leaf_value"]]


def _around_zero(threshold: float) -> float:
    """LightGBM takes numbers this near to zero for zero, before it compares."""
    if 0.0 <= threshold <= _ZERO:
        return _ZERO
    return math.nextafter(-_ZERO, -math.inf) if -_ZERO <= threshold < 0.0 else threshold


def _place(child: int, splits: int) -> int:
    return child if child >= 0 else splits + ~child


def graph(booster: Any, width: int) -> Any:
    """A whole ONNX model: x (64 bits) to y."""
    from onnx import TensorProto, helper

    nodes: list[Any] = []
    counts: dict[str, int] = {}

    def add(op: str, inputs: list[str], outputs: list[str], domain: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))

    def names(stem: str) -> str:
        counts[stem] = counts.get(stem, 0) + 1
        return f"{stem}_{counts[stem]}"

    emit(add, names, booster, "x", "y")
    body = helper.make_graph(
        nodes, "lightgbm", [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, None])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(body, opset_imports=opsets, ir_version=9)


def convert_wrapper(scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx's converter of LGBMClassifier and LGBMRegressor."""
    model = operator.raw_operator
    add, names = trees.adder(scope, container), scope.get_unique_variable_name
    answer = names("answer")
    emit(add, names, model.booster_, trees.widened(scope, operator, add), answer)
    trees.finish(scope, operator, add, answer, getattr(model, "classes_", None))
