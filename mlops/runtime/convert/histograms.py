"""scikit-learn's histogram boosting as ONNX, with its 64-bit thresholds."""

from __future__ import annotations

from typing import Any

from mlops.runtime.convert import trees
from mlops.runtime.convert.plan import Unsuitable
from mlops.runtime.convert.trees import Node

_LINKS = {"squared_error": "", "absolute_error": "", "quantile": "", "poisson": "Exp", "gamma": "Exp"}


def convert(scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx's converter of HistGradientBoostingClassifier and HistGradientBoostingRegressor. Raises Unsuitable."""
    model = operator.raw_operator
    add, names = trees.adder(scope, container), scope.get_unique_variable_name
    groups = int(model.n_trees_per_iteration_)
    found = [_tree(predictor.nodes) for stage in model._predictors for predictor in stage]
    sums = trees.ensemble(add, names, trees.widened(scope, operator, add), found, groups)
    raw, answer = names("raw"), names("answer")
    add("Add", [sums, trees.constant(add, names, model._baseline_prediction.reshape(1, -1))], [raw], "")
    classes = getattr(model, "classes_", None)
    if classes is None:
        if model.loss not in _LINKS:
            raise Unsuitable(f"its loss {model.loss!r} has no converter")
        add(_LINKS[model.loss] or "Identity", [raw], [answer], "")
    elif groups == 1:
        chance = names("chance")
        add("Sigmoid", [raw], [chance], "")
        trees.both_classes(add, names, chance, answer)
    else:
        add("Softmax", [raw], [answer], "", axis=1)
    trees.finish(scope, operator, add, answer, classes)


def _tree(nodes: Any) -> list[Node]:
    if nodes["is_categorical"].any():
        raise Unsuitable("it splits on categories")
    columns = ("is_leaf", "value", "feature_idx", "num_threshold", "left", "right", "missing_go_to_left")
    return [
        Node(value=value) if leaf else Node(column, threshold, left, right, bool(gaps))
        for leaf, value, column, threshold, left, right, gaps in zip(
            *(nodes[name].tolist() for name in columns), strict=True
        )
    ]
