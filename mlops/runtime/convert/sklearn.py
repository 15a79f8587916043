"""scikit-learn and everything that speaks its language, through skl2onnx: one matrix, a column each for pipelines that choose by name, or text."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from mlops.runtime.convert import thresholds
from mlops.runtime.convert.candidates import Candidate
from mlops.runtime.convert.plan import COLUMNS, MATRIX, TEXT, Plan, Unsuitable
from mlops.runtime.convert.registered import register
from mlops.runtime.formats import sklearn as native
from mlops.runtime.formats.pipelines import nested_steps

OPSET = {"": 20, "ai.onnx.ml": 3}
# These round their inputs to float32 themselves; what stands before them computes in float64.
_ROUNDING = {
    "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor", "DecisionTreeClassifier",
    "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor", "GradientBoostingClassifier", "GradientBoostingRegressor",
    "XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor", "IsolationForest",
}  # fmt: skip
_WITHOUT_ZIPMAP = {"LinearSVC", "RidgeClassifier", "Perceptron", "PassiveAggressiveClassifier"}
_SWAPPED = "its labels come without probabilities, and rounding may swap them"
_UNDATED = "a column of dates is read by Python code"


def candidates(model: native.SklearnModel, schema: dict[str, Any]) -> Iterator[Candidate]:
    """Ways to convert, the most promising first. Raises Unsuitable when there is none."""
    register()
    if model.way == native._RECORDS:
        raise Unsuitable("its rows are dictionaries of any columns")
    if model.levels:
        raise Unsuitable("its categorical columns are kept by the booster itself")
    estimator = _ready(model.estimator)
    for precision in _precisions(model, estimator):
        yield Candidate(precision, _builder(model, estimator, schema, precision))


def _ready(estimator: Any) -> Any:
    """Settings that change no prediction and that the converter needs."""
    for step in nested_steps(estimator):
        name = type(step).__name__
        if name == "VotingClassifier":
            step.flatten_transform = False
        elif name == "KBinsDiscretizer" and step.encode == "onehot":
            step.encode = "onehot-dense"
    return estimator


def _precisions(model: native.SklearnModel, estimator: Any) -> tuple[str, ...]:
    last, steps = _last(estimator)
    if _rounds_inside(last):
        if model.task != "regressor" and model._proba is None:
            raise Unsuitable(_SWAPPED)
        return ("float32",)  # the graph has no place to round where its trees do
    if model.task != "regressor" and model._proba is None:
        if type(last).__name__ in _ROUNDING:
            raise Unsuitable(_SWAPPED)
        return ("float64",)
    if type(last).__name__ in _ROUNDING:
        return ("mixed", "float32", "float64") if steps else ("float32",)
    if type(last).__module__.partition(".")[0] == "lightgbm" or type(last).__name__.startswith("HistGradient"):
        return ("float64",)  # a rounded row may fall on the other side of a threshold
    return ("float64", "float32")


def _rounds_inside(last: Any) -> bool:
    """Voting, stacking, calibration and the like over trees that round."""
    return type(last).__name__ not in _ROUNDING and any(
        type(step).__name__ in _ROUNDING for step in [*nested_steps(last), *_deep(last)]
    )


def _deep(last: Any) -> list[Any]:
    found = thresholds._members(last)
    return [step for member in found[:8] for step in nested_steps(member)]


def _last(estimator: Any) -> tuple[Any, int]:
    """The estimator at the end of nested pipelines, and how many steps stand before it."""
    before = 0
    while getattr(estimator, "steps", None):
        before += sum(1 for _, step in estimator.steps[:-1] if step is not None and step != "passthrough")
        estimator = estimator.steps[-1][1]
    return estimator, before


def _builder(
    model: native.SklearnModel, estimator: Any, schema: dict[str, Any], precision: str
) -> Callable[[], tuple[Any, Plan]]:
    def build() -> tuple[Any, Plan]:
        from skl2onnx import to_onnx

        types, plan = _inputs(model, schema, precision)
        subject = _with_rounding(estimator) if precision == "mixed" else estimator
        proto = to_onnx(subject, initial_types=types, options=_options(subject), target_opset=OPSET)
        _outputs(model, proto, plan)
        if plan.way == COLUMNS:
            _gather(proto, plan)
        return proto, plan

    return build


def _inputs(model: native.SklearnModel, schema: dict[str, Any], precision: str) -> tuple[list[tuple[str, Any]], Plan]:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    kind, dtype = (FloatTensorType, "float32") if precision == "float32" else (DoubleTensorType, "float64")
    described = schema.get("inputs") or []
    if model.way == native._TABLE:
        width = model.width or len(described)
        plan = Plan(MATRIX, precision, [{"name": "x", "dtype": dtype}], model.names)
        return [("x", kind([None, width]))], plan
    if model.way == native._TEXT:
        plan = Plan(
            TEXT,
            precision,
            [{"name": "text", "dtype": "object", "columns": [described[0]["name"]]}],
            ascii=[described[0]["name"]],
        )
        return [("text", StringTensorType([None]))], plan
    names = model.names or [column["name"] for column in described]
    if len(names) != len(described):
        raise Unsuitable("its schema has other columns than the pipeline")
    by_name = {column["name"]: column["type"] for column in described}
    kinds = [by_name.get(name, column["type"]) for name, column in zip(names, described, strict=True)]
    types: list[tuple[str, Any]] = []
    feeds: list[dict[str, Any]] = []
    for place, (name, column) in enumerate(zip(names, kinds, strict=True)):
        if column == "datetime":
            raise Unsuitable(_UNDATED)
        text = column == "string"
        # A column transformer finds its columns by these names.
        types.append((name, StringTensorType([None, 1]) if text else kind([None, 1])))
        feeds.append({"name": name or f"c{place}", "dtype": "object" if text else dtype, "column": name})
    return types, Plan(COLUMNS, precision, feeds, names, ascii=_free_texts(model, names))


def _gather(proto: Any, plan: Plan) -> None:
    """One input for all numbers and one for all texts, cut into columns inside the graph: an array per column costs more than the model does."""
    from onnx import TensorProto, helper

    kinds = {"object": TensorProto.STRING, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
    nodes, inputs, feeds = [], [], []
    used = {entry.name for entry in proto.graph.input}
    for dtype in dict.fromkeys(feed["dtype"] for feed in plan.feeds):
        chosen = [feed for feed in plan.feeds if feed["dtype"] == dtype and feed["name"] in used]
        name = f"slipway_{dtype}"
        inputs.append(helper.make_tensor_value_info(name, kinds[dtype], [None, len(chosen)]))
        feeds.append({"name": name, "dtype": dtype, "columns": [feed["column"] for feed in chosen]})
        outputs = [feed["name"] for feed in chosen]
        whole = len(outputs) == 1
        nodes.append(
            helper.make_node("Identity", [name], outputs)
            if whole
            else helper.make_node("Split", [name], outputs, axis=1, num_outputs=len(outputs))
        )
    following = list(proto.graph.node)
    del proto.graph.node[:], proto.graph.input[:]
    proto.graph.node.extend([*nodes, *following])
    proto.graph.input.extend(inputs)
    plan.feeds = feeds
    if len(feeds) == 1 and feeds[0]["dtype"] != "object" and feeds[0]["columns"] == plan.names:
        plan.way = MATRIX


def _free_texts(model: native.SklearnModel, names: list[str]) -> list[str]:
    from mlops.runtime.formats.pipelines import _picked

    found = []
    for step in nested_steps(model.estimator):
        if type(step).__name__ == "ColumnTransformer":
            for _, inner, chosen in getattr(step, "transformers_", []):
                if any(type(part).__module__ == "sklearn.feature_extraction.text" for part in nested_steps(inner)):
                    found += _picked(chosen, names)
    return found


def _with_rounding(estimator: Any) -> Any:
    import numpy as np
    from skl2onnx.sklapi import CastTransformer

    outer = copy.copy(estimator)
    name, last = estimator.steps[-1]
    if getattr(last, "steps", None):
        outer.steps = [*estimator.steps[:-1], (name, _with_rounding(last))]
    else:
        cast = CastTransformer(dtype=np.float32)
        outer.steps = [*estimator.steps[:-1], ("slipway_rounding", cast), (name, last)]
    return outer


def _options(estimator: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for step in [estimator, *nested_steps(estimator)]:
        name = type(step).__name__
        if name in ("TfidfVectorizer", "CountVectorizer"):
            found[id(step)] = {"locale": "C"}
    if native._task(estimator) == "classifier" and type(_last(estimator)[0]).__name__ not in _WITHOUT_ZIPMAP:
        found[id(estimator)] = {"zipmap": False}
    return found


def _outputs(model: native.SklearnModel, proto: Any, plan: Plan) -> None:
    names = [output.name for output in proto.graph.output]
    if model.task != "classifier":
        chosen = next((name for name in names if name in ("variable", "label", "transformed_column")), names[0])
        plan.values = chosen
        return
    plan.values = names[0]
    if model._proba is not None and model._array_classes is not None:
        if len(names) < 2:
            raise Unsuitable("the converted graph gives no probabilities")
        plan.chances, plan.labels = names[1], list(model._array_classes)
        plan.pick = native._argmax_is_predict(model.estimator)
        _clip(proto, plan.chances)
    elif model._array_classes is not None:
        plan.labels = list(model._array_classes)


def _clip(proto: Any, name: str) -> None:
    """Probabilities stay between 0 and 1: a forest's 32-bit sum ends at 1.0000001, and 1 - that below 0, of which a caller's logarithm is NaN."""
    from onnx import TensorProto, helper

    kind = next(output for output in proto.graph.output if output.name == name).type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        return
    raw, ends = f"{name}_raw", [f"{name}_least", f"{name}_most"]
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [raw if each == name else each for each in names]
    proto.graph.initializer.extend(
        helper.make_tensor(end, kind, [], [value]) for end, value in zip(ends, (0.0, 1.0), strict=True)
    )
    proto.graph.node.append(helper.make_node("Clip", [raw, *ends], [name]))
