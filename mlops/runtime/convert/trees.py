"""Trees as one ONNX operator with 64-bit thresholds, and what follows their sum. For libraries whose usual converter rounds to 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Add = Callable[..., None]  # add(op, inputs, outputs, domain, **attributes)
Names = Callable[[str], str]
DOUBLE, FLOAT = 11, 1


class Node(NamedTuple):
    """A split (x[column] <= threshold goes to ``yes``), or with ``value`` a leaf. Numbers are places within the tree."""

    column: int = 0
    threshold: float = 0.0
    yes: int = 0
    no: int = 0
    gaps_to_yes: bool = False
    value: float | None = None


def ensemble(add: Add, names: Names, source: str, trees: Sequence[Sequence[Node]], groups: int) -> str:
    """Sums of the trees' leaves, tree i counting for group i modulo ``groups``: [rows, groups], 64 bits. ``source`` has 64 bits too."""
    from onnx import numpy_helper

    numbers: dict[str, list[Any]] = {name: [] for name in _SPLIT}
    leaves: dict[str, list[Any]] = {name: [] for name in _LEAF}
    thresholds, weights = [], []
    for number, tree in enumerate(trees):
        for place, node in enumerate(tree):
            leaf = node.value is not None
            row = (
                number,
                place,
                node.column,
                "LEAF" if leaf else "BRANCH_LEQ",
                node.yes,
                node.no,
                int(node.gaps_to_yes),
            )
            for name, value in zip(_SPLIT, row, strict=True):
                numbers[name].append(value)
            thresholds.append(node.threshold)
            if leaf:
                for name, value in zip(_LEAF, (number, place, number % groups), strict=True):
                    leaves[name].append(value)
                weights.append(node.value)
    raw, wide = names("trees"), names("sums")
    add(
        "TreeEnsembleRegressor", [source], [raw], "ai.onnx.ml", n_targets=groups, aggregate_function="SUM",
        nodes_values_as_tensor=numpy_helper.from_array(np.array(thresholds, dtype=np.float64), "nodes_values_as_tensor"),
        target_weights_as_tensor=numpy_helper.from_array(np.array(weights, dtype=np.float64), "target_weights_as_tensor"),
        **{f"nodes_{name}": values for name, values in numbers.items()},
        **{f"target_{name}": values for name, values in leaves.items()},
    )  # fmt: skip
    add("Cast", [raw], [wide], "", to=DOUBLE)
    return wide


_SPLIT = ("treeids", "nodeids", "featureids", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
_LEAF = ("treeids", "nodeids", "ids")


def constant(add: Add, names: Names, values: Any) -> str:
    """The name of a 64-bit constant."""
    from onnx import numpy_helper

    name = names("number")
    add("Constant", [], [name], "", value=numpy_helper.from_array(np.asarray(values, dtype=np.float64), name))
    return name


def both_classes(add: Add, names: Names, chance: str, target: str) -> None:
    """[1 - chance, chance]."""
    other = names("other")
    add("Sub", [constant(add, names, [1.0]), chance], [other], "")
    add("Concat", [other, chance], [target], "", axis=1)


# -- inside skl2onnx ---------------------------------------------------------------------------------------------------


def adder(scope: Any, container: Any) -> Add:
    """``add`` for a converter of skl2onnx."""

    def add(op: str, inputs: list[str], outputs: list[str], domain: str, **attributes: Any) -> None:
        version = 3 if domain else _VERSIONS.get(op, 13)
        name = scope.get_unique_operator_name(op)
        container.add_node(op, inputs, outputs, op_domain=domain, op_version=version, name=name, **attributes)

    return add


_VERSIONS = {"Mul": 14, "Div": 14, "Sub": 14, "Add": 14, "Identity": 16, "Reshape": 14}


def widened(scope: Any, operator: Any, add: Add) -> str:
    """The operator's input with 64 bits."""
    source: str = scope.get_unique_variable_name("wide_input")
    add("Cast", [operator.inputs[0].full_name], [source], "", to=DOUBLE)
    return source


def finish(scope: Any, operator: Any, add: Add, answer: str, classes: Any) -> None:
    """The operator's outputs: values, or labels and probabilities, in the types that were promised."""
    from onnx import numpy_helper
    from skl2onnx.common.data_types import DoubleTensorType

    last = operator.outputs[-1]
    add("Cast", [answer], [last.full_name], "", to=DOUBLE if isinstance(last.type, DoubleTensorType) else FLOAT)
    if classes is None:
        return
    names = scope.get_unique_variable_name
    labels = np.asarray(classes)
    labels = labels.astype(np.int64) if labels.dtype.kind in "iub" else labels.astype(str).astype(object)
    best, known, flat, shape = names("best"), names("classes"), names("label"), names("shape")
    add("ArgMax", [answer], [best], "", axis=1, keepdims=0)
    add("Constant", [], [known], "", value=numpy_helper.from_array(labels, known))
    add("Gather", [known, best], [flat], "", axis=0)
    add("Constant", [], [shape], "", value=numpy_helper.from_array(np.array([-1], dtype=np.int64), shape))
    add("Reshape", [flat, shape], [operator.outputs[0].full_name], "")
