"""LightGBM's trees as ONNX, with their 64-bit thresholds: the usual converter rounds these to 32 bits, and rows near one go astray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops.runtime.convert.plan import Unsuitable

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_NONE, _MISSING_NAN = 1, 2, 0, 2
_IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
_EXPONENT = ("poisson", "gamma", "tweedie")
Add = Callable[..., None]  # add(op, inputs, outputs, domain, **attributes)


@dataclass
class Trees:
    """What the model's text says."""

    objective: str
    options: dict[str, str]
    groups: int  # trees of one round: one per class, or one
    average: bool
    trees: list[dict[str, list[str]]]


def read(booster: Any) -> Trees:
    """Raises Unsuitable for what these operators cannot say."""
    objective, groups, average = "", 1, False
    trees: list[dict[str, list[str]]] = []
    for line in booster.model_to_string().splitlines():
        name, _, value = line.partition("=")
        if line.startswith("Tree="):
            trees.append({})
        elif line.startswith("end of trees"):
            break
        elif trees:
            trees[-1][name] = value.split()
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
    return Trees(words[0], options, groups, average, trees)


def emit(add: Add, booster: Any, source: str, target: str, names: Callable[[str], str]) -> None:
    """Nodes from the matrix ``source`` (64 bits) to ``target``: values [rows, 1] or probabilities [rows, classes], 64 bits."""
    found = read(booster)
    raw, wide = names("trees"), names("wide")
    add(
        "TreeEnsembleRegressor",
        [source],
        [raw],
        "ai.onnx.ml",
        n_targets=found.groups,
        aggregate_function="SUM",
        **_nodes(found),
    )
    add("Cast", [raw], [wide], "", to=11)
    if found.average:
        divided = names("mean")
        add("Div", [wide, _number(add, names, len(found.trees) / found.groups)], [divided], "")
        wide = divided
    _finish(add, found, wide, target, names)


def _finish(add: Add, found: Trees, wide: str, target: str, names: Callable[[str], str]) -> None:
    if found.objective in ("binary", "cross_entropy"):
        scaled, chance, other = names("scaled"), names("chance"), names("other")
        add("Mul", [wide, _number(add, names, float(found.options.get("sigmoid", 1)))], [scaled], "")
        add("Sigmoid", [scaled], [chance], "")
        if found.objective == "cross_entropy":
            add("Identity", [chance], [target], "")
            return
        add("Sub", [_number(add, names, 1.0), chance], [other], "")
        add("Concat", [other, chance], [target], "", axis=1)
    elif found.objective == "multiclass":
        add("Softmax", [wide], [target], "", axis=1)
    elif found.objective == "multiclassova":
        scaled = names("scaled")
        add("Mul", [wide, _number(add, names, float(found.options.get("sigmoid", 1)))], [scaled], "")
        add("Sigmoid", [scaled], [target], "")
    elif found.objective in _EXPONENT:
        add("Exp", [wide], [target], "")
    elif found.objective in _IDENTITY and "sqrt" not in found.options:
        add("Identity", [wide], [target], "")
    else:
        raise Unsuitable(f"its objective {found.objective} has no converter")


def _number(add: Add, names: Callable[[str], str], value: float) -> str:
    from onnx import numpy_helper

    name = names("number")
    add("Constant", [], [name], "", value=numpy_helper.from_array(np.array([value], dtype=np.float64), name))
    return name


def _nodes(found: Trees) -> dict[str, Any]:
    from onnx import numpy_helper

    numbers: dict[str, list[Any]] = {
        name: []
        for name in (
            "treeids",
            "nodeids",
            "featureids",
            "modes",
            "values",
            "truenodeids",
            "falsenodeids",
            "missing_value_tracks_true",
        )
    }
    leaves: dict[str, list[Any]] = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
    for number, tree in enumerate(found.trees):
        for node in _tree(tree):
            numbers["treeids"].append(number)
            for name, value in zip(list(numbers)[1:], node[:7], strict=True):
                numbers[name].append(value)
            if node[7] is not None:
                for name, value in zip(leaves, (number, node[0], number % found.groups, node[7]), strict=True):
                    leaves[name].append(value)
    values = np.array(numbers.pop("values"), dtype=np.float64)
    weights = np.array(leaves.pop("weights"), dtype=np.float64)
    return {
        **{f"nodes_{name}": each for name, each in numbers.items()},
        "nodes_values_as_tensor": numpy_helper.from_array(values, "nodes_values_as_tensor"),
        **{f"target_{name}": each for name, each in leaves.items()},
        "target_weights_as_tensor": numpy_helper.from_array(weights, "target_weights_as_tensor"),
    }


def _tree(tree: dict[str, list[str]]) -> list[tuple[Any, ...]]:
    """(id, column, mode, threshold, yes, no, gaps go to yes, leaf value) of every node; leaves stand after the splits."""
    leaves = [float(word) for word in tree["leaf_value"]]
    splits = len(tree.get("split_feature", []))
    if tree.get("is_linear", ["0"]) != ["0"]:
        raise Unsuitable("its leaves are linear models")
    nodes: list[tuple[Any, ...]] = []
    for place in range(splits):
        kind, threshold = int(tree["decision_type"][place]), float(tree["threshold"][place])
        missing = (kind >> 2) & 3
        if kind & _CATEGORICAL:
            raise Unsuitable("it splits on categories")
        if missing not in (_MISSING_NONE, _MISSING_NAN):
            raise Unsuitable("it takes zero for a missing value")
        to_yes = threshold >= 0.0 if missing == _MISSING_NONE else bool(kind & _DEFAULT_LEFT)
        yes, no = (_place(int(tree[side][place]), splits) for side in ("left_child", "right_child"))
        nodes.append((place, int(tree["split_feature"][place]), "BRANCH_LEQ", threshold, yes, no, int(to_yes), None))
    return nodes + [(splits + place, 0, "LEAF", 0.0, 0, 0, 0, value) for place, value in enumerate(leaves)]


def _place(child: int, splits: int) -> int:
    return child if child >= 0 else splits + ~child


# -- alone, and inside a pipeline ------------------------------------------------------------------------------------------


def graph(booster: Any, width: int) -> Any:
    """A whole ONNX model: x (64 bits) to y."""
    from onnx import TensorProto, helper

    nodes: list[Any] = []
    counts: dict[str, int] = {}

    def add(op: str, inputs: list[str], outputs: list[str], domain: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))

    emit(add, booster, "x", "y", _counted(counts))
    body = helper.make_graph(
        nodes, "lightgbm", [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, None])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(body, opset_imports=opsets, ir_version=9)


def _counted(counts: dict[str, int]) -> Callable[[str], str]:
    def name(stem: str) -> str:
        counts[stem] = counts.get(stem, 0) + 1
        return f"{stem}_{counts[stem]}"

    return name


def convert_wrapper(scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx's converter of LGBMClassifier and LGBMRegressor."""
    from onnx import numpy_helper
    from skl2onnx.common.data_types import DoubleTensorType

    model = operator.raw_operator
    double = isinstance(operator.inputs[0].type, DoubleTensorType)

    def add(op: str, inputs: list[str], outputs: list[str], domain: str, **attributes: Any) -> None:
        version = 3 if domain else _VERSIONS.get(op, 13)
        container.add_node(
            op,
            inputs,
            outputs,
            op_domain=domain,
            op_version=version,
            name=scope.get_unique_operator_name(op),
            **attributes,
        )

    names = scope.get_unique_variable_name
    source, target = names("wide_input"), names("answer")
    add("Cast", [operator.inputs[0].full_name], [source], "", to=11)
    emit(add, model.booster_, source, target, names)
    kind = 11 if double else 1
    if not hasattr(model, "classes_"):
        add("Cast", [target], [operator.outputs[0].full_name], "", to=kind)
        return
    labels = np.asarray(model.classes_)
    labels = labels.astype(np.int64) if labels.dtype.kind in "iub" else labels.astype(str).astype(object)
    best, known, flat, shape = names("best"), names("classes"), names("label"), names("shape")
    add("ArgMax", [target], [best], "", axis=1, keepdims=0)
    add("Constant", [], [known], "", value=numpy_helper.from_array(labels, known))
    add("Gather", [known, best], [flat], "", axis=0)
    add("Constant", [], [shape], "", value=numpy_helper.from_array(np.array([-1], dtype=np.int64), shape))
    add("Reshape", [flat, shape], [operator.outputs[0].full_name], "")
    add("Cast", [target], [operator.outputs[1].full_name], "", to=kind)


_VERSIONS = {"Mul": 14, "Div": 14, "Sub": 14, "Identity": 16, "Reshape": 14}
