"""A tiny real model of every kind a person may push: estimators in every file sklearn writes, boosters, graphs and networks.

Each is a function that trains or builds it; ``rows`` are what a caller sends, ``expected`` what the library itself answers to them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TEXTS = ["fast and great", "so slow", "great"]


@dataclass(frozen=True)
class Fitted:
    """An estimator, rows for it, and what it answers. ``probabilities``: [rows][classes], or [rows][outputs][classes]."""

    model: Any
    rows: list[Any]
    expected: list[Any]
    task: str
    probabilities: list[Any] | None = None


@dataclass(frozen=True)
class Filed:
    """A model file of another library, the same told of it."""

    path: Path
    format: str
    rows: list[Any]
    expected: list[Any]
    task: str
    probabilities: list[Any] | None = None


def iris() -> tuple[Any, Any, Any]:
    """(x, y, three rows of x)"""
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return x, y, x[[0, 60, 120]]


def _fitted(model: Any, rows: Any, task: str) -> Fitted:
    chances = model.predict_proba(rows).tolist() if hasattr(model, "predict_proba") else None
    return Fitted(model, np.asarray(rows).tolist(), model.predict(rows).tolist(), task, chances)


# -- estimators ---------------------------------------------------------------------------------------------------------
def classifier() -> Fitted:
    from sklearn.linear_model import LogisticRegression

    x, y, rows = iris()
    return _fitted(LogisticRegression(max_iter=300).fit(x, y), rows, "classifier")


def regressor() -> Fitted:
    from sklearn.linear_model import Ridge

    x, y, rows = iris()
    return _fitted(Ridge().fit(x, y.astype(float)), rows, "regressor")


def multi_output_regressor() -> Fitted:
    from sklearn.ensemble import RandomForestRegressor

    x, y, rows = iris()
    targets = np.column_stack([y, x[:, 0]])
    return _fitted(RandomForestRegressor(3, random_state=0).fit(x, targets), rows, "regressor")


def _two_targets(model: Any) -> Fitted:
    x, y, rows = iris()
    model.fit(x, np.column_stack([y, y > 0]))
    by_output = model.predict_proba(rows)
    chances = [[chance[row].tolist() for chance in by_output] for row in range(len(rows))]
    return Fitted(model, rows.tolist(), model.predict(rows).tolist(), "classifier", chances)


def multi_output_classifier() -> Fitted:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multioutput import MultiOutputClassifier

    return _two_targets(MultiOutputClassifier(LogisticRegression(max_iter=300)))


def multi_output_forest() -> Fitted:
    from sklearn.ensemble import RandomForestClassifier

    return _two_targets(RandomForestClassifier(3, random_state=0))


def multilabel() -> Fitted:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    x, y, rows = iris()
    labels = np.column_stack([y == 0, y >= 1, y == 2]).astype(int)
    return _fitted(OneVsRestClassifier(LogisticRegression(max_iter=300)).fit(x, labels), rows, "classifier")


def multilabel_network() -> Fitted:
    from sklearn.neural_network import MLPClassifier

    x, y, rows = iris()
    labels = np.column_stack([y == 0, y >= 1, y == 2]).astype(int)
    return _fitted(MLPClassifier((8,), max_iter=300, random_state=0).fit(x, labels), rows, "classifier")


def clusterer() -> Fitted:
    from sklearn.cluster import KMeans

    x, _, rows = iris()
    return _fitted(KMeans(3, n_init=1, random_state=0).fit(x), rows, "clusterer")


def mixture() -> Fitted:
    from sklearn.mixture import GaussianMixture

    x, _, rows = iris()
    return _fitted(GaussianMixture(2, random_state=0).fit(x), rows, "clusterer")


def outliers() -> Fitted:
    from sklearn.ensemble import IsolationForest

    x, _, rows = iris()
    return _fitted(IsolationForest(n_estimators=5, random_state=0).fit(x), rows, "outlier_detector")


def novelty() -> Fitted:
    from sklearn.neighbors import LocalOutlierFactor

    x, _, rows = iris()
    return _fitted(LocalOutlierFactor(novelty=True).fit(x), rows, "outlier_detector")


def _transformed(model: Any, rows: Any) -> Fitted:
    found = model.transform(rows)
    dense = found.toarray() if hasattr(found, "toarray") else found
    return Fitted(model, np.asarray(rows).tolist(), np.asarray(dense).tolist(), "transformer")


def pca() -> Fitted:
    from sklearn.decomposition import PCA

    x, _, rows = iris()
    return _transformed(PCA(2).fit(x), rows)


def scaler() -> Fitted:
    from sklearn.preprocessing import StandardScaler

    x, _, rows = iris()
    return _transformed(StandardScaler().fit(x), rows)


def transforming_pipeline() -> Fitted:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, _, rows = iris()
    return _transformed(make_pipeline(StandardScaler(), PCA(2)).fit(x), rows)


def column_transformer() -> Fitted:
    import pandas
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pandas.DataFrame({"plan": ["a", "b", "c", "a"], "spend": [1.0, 2.5, 4.0, 0.5]})
    model = make_column_transformer((OneHotEncoder(), ["plan"]), (StandardScaler(), ["spend"]), sparse_threshold=1.0)
    model.fit(frame)
    found = model.transform(frame)
    return Fitted(model, frame.to_dict("records"), found.toarray().tolist(), "transformer")


def tfidf() -> Fitted:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return _transformed(TfidfVectorizer().fit(TEXTS), TEXTS)


def text_pipeline() -> Fitted:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["great and fast", "love it, fast", "slow and broken", "hate it, slow"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["good", "good", "bad", "bad"])
    return _fitted(model, TEXTS, "classifier")


def grid_search() -> Fitted:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    x, y, rows = iris()
    return _fitted(
        GridSearchCV(LogisticRegression(max_iter=300), {"C": [0.1, 1.0]}, cv=2).fit(x, y), rows, "classifier"
    )


def xgb_classifier() -> Fitted:
    from xgboost import XGBClassifier

    x, y, rows = iris()
    return _fitted(XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(x, y), rows, "classifier")


def xgb_ranker() -> Fitted:
    from xgboost import XGBRanker

    x, y, rows = iris()
    model = XGBRanker(n_estimators=3, max_depth=2, n_jobs=1).fit(x, y, group=[75, 75])
    return _fitted(model, rows, "ranker")


def xgb_multi_output() -> Fitted:
    from xgboost import XGBRegressor

    x, y, rows = iris()
    model = XGBRegressor(n_estimators=3, max_depth=2, n_jobs=1, multi_strategy="multi_output_tree", tree_method="hist")
    return _fitted(model.fit(x, np.column_stack([y, x[:, 0]])), rows, "regressor")


def xgb_multilabel() -> Fitted:
    from xgboost import XGBClassifier

    x, y, rows = iris()
    model = XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(x, np.column_stack([y == 0, y >= 1]).astype(int))
    return _fitted(model, rows, "classifier")


def lgbm_regressor() -> Fitted:
    from lightgbm import LGBMRegressor

    x, y, rows = iris()
    return _fitted(LGBMRegressor(n_estimators=3, n_jobs=1, verbose=-1).fit(x, y.astype(float)), rows, "regressor")


def lgbm_ranker() -> Fitted:
    from lightgbm import LGBMRanker

    x, y, rows = iris()
    model = LGBMRanker(n_estimators=3, n_jobs=1, verbose=-1).fit(x, y, group=[75, 75])
    return _fitted(model, rows, "ranker")


ESTIMATORS: dict[str, Callable[[], Fitted]] = {
    make.__name__: make
    for make in (
        classifier, regressor, multi_output_regressor, multi_output_classifier, multi_output_forest, multilabel, multilabel_network, clusterer, mixture,
        outliers, novelty, pca, scaler, transforming_pipeline, column_transformer, tfidf, text_pipeline, grid_search, xgb_classifier,
        xgb_ranker, xgb_multi_output, xgb_multilabel, lgbm_regressor, lgbm_ranker,
    )
}  # fmt: skip


def _joblib(model: Any, path: Path) -> None:
    import joblib

    joblib.dump(model, path, compress=3)


def _pickle(model: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(model))


def _skops(model: Any, path: Path) -> None:
    import skops.io

    skops.io.dump(model, path)


WRITERS: dict[str, tuple[str, str, Callable[[Any, Path], None]]] = {
    "joblib": ("sklearn", ".joblib", _joblib),
    "pickle": ("sklearn", ".pkl", _pickle),
    "skops": ("skops", ".skops", _skops),
}


# -- boosters in their own files ------------------------------------------------------------------------------------------
def _booster(parameters: dict[str, Any], label: Any, path: Path) -> Any:
    import xgboost

    x, _, _ = iris()
    data = xgboost.DMatrix(x, label=label)
    if parameters["objective"].startswith("rank:"):
        data.set_group([75, 75])
    booster = xgboost.train({"max_depth": 2, "nthread": 1, **parameters}, data, num_boost_round=3)
    booster.save_model(path)
    return booster.predict(xgboost.DMatrix(iris()[2]))


def _xgboost(path: Path, parameters: dict[str, Any], label: Any, task: str) -> Filed:
    rows, found = iris()[2].tolist(), _booster(parameters, label, path)
    return Filed(path, "xgboost", rows, found.astype(float).tolist(), task)


def xgb_softprob_ubj(folder: Path) -> Filed:
    path = folder / "softprob.ubj"
    chances = _booster({"objective": "multi:softprob", "num_class": 3}, iris()[1], path).astype(float)
    labels = chances.argmax(axis=1).tolist()
    return Filed(path, "xgboost", iris()[2].tolist(), labels, "classifier", chances.tolist())


def xgb_binary_json(folder: Path) -> Filed:
    path = folder / "binary.json"
    ones = _booster({"objective": "binary:logistic"}, iris()[1] > 0, path).astype(float)
    chances = np.column_stack([1 - ones, ones])
    return Filed(path, "xgboost", iris()[2].tolist(), (ones > 0.5).astype(int).tolist(), "classifier", chances.tolist())


def xgb_regressor_ubj(folder: Path) -> Filed:
    return _xgboost(folder / "regressor.ubj", {"objective": "reg:squarederror"}, iris()[1].astype(float), "regressor")


def xgb_ranker_ubj(folder: Path) -> Filed:
    return _xgboost(folder / "ranker.ubj", {"objective": "rank:ndcg"}, iris()[1], "ranker")


def xgb_two_targets_json(folder: Path) -> Filed:
    x, y, _ = iris()
    return _xgboost(folder / "two.json", {"objective": "reg:squarederror"}, np.column_stack([y, x[:, 0]]), "regressor")


def xgb_two_labels_ubj(folder: Path) -> Filed:
    """Two yes-or-no answers, as wide as the two classes of one: they must not be taken for them."""
    path, y = folder / "labels.ubj", iris()[1]
    chances = _booster({"objective": "binary:logistic"}, np.column_stack([y == 0, y >= 1]).astype(int), path)
    labels = (chances > 0.5).astype(int).tolist()
    return Filed(path, "xgboost", iris()[2].tolist(), labels, "classifier", chances.astype(float).tolist())


def lightgbm_regressor_text(folder: Path) -> Filed:
    fitted, path = lgbm_regressor(), folder / "regressor.txt"
    fitted.model.booster_.save_model(path)
    return Filed(path, "lightgbm", fitted.rows, fitted.expected, "regressor")


def lightgbm_ranker_text(folder: Path) -> Filed:
    fitted, path = lgbm_ranker(), folder / "ranker.txt"
    fitted.model.booster_.save_model(path)
    return Filed(path, "lightgbm", fitted.rows, fitted.expected, "ranker")


def pickled_booster(folder: Path) -> Filed:
    fitted, path = xgb_classifier(), folder / "booster.pkl"
    path.write_bytes(pickle.dumps(fitted.model.get_booster()))
    return Filed(path, "sklearn", fitted.rows, fitted.expected, "classifier", fitted.probabilities)


def pickled_lightgbm_booster(folder: Path) -> Filed:
    fitted, path = lgbm_regressor(), folder / "lgb.pkl"
    path.write_bytes(pickle.dumps(fitted.model.booster_))
    return Filed(path, "sklearn", fitted.rows, fitted.expected, "regressor")


# -- graphs -------------------------------------------------------------------------------------------------------------
def _graph(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any]) -> Any:
    """Write an ONNX graph and open it with onnxruntime itself."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "kinds", inputs, outputs, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _value(name: str, shape: list[Any], kind: str = "FLOAT") -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)


def onnx_two_outputs(folder: Path) -> Filed:
    from onnx import helper

    path, rows = folder / "outputs.onnx", np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["price"]), helper.make_node("Neg", ["x"], ["embedding"])]
    outputs = [_value("price", ["rows", 1]), _value("embedding", ["rows", 3])]
    session = _graph(path, nodes, [_value("x", ["rows", 3])], outputs, {"w": np.ones((3, 1), np.float32)})
    price, embedding = session.run(None, {"x": rows})
    expected = [{"price": float(a[0]), "embedding": b.tolist()} for a, b in zip(price, embedding, strict=True)]
    return Filed(path, "onnx", rows.tolist(), expected, "other")


def onnx_two_inputs(folder: Path) -> Filed:
    from onnx import helper

    path = folder / "inputs.onnx"
    nodes = [
        helper.make_node("Concat", ["age", "rest"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "w"], ["y"]),
    ]
    inputs = [_value("age", ["rows", 1]), _value("rest", ["rows", 2])]
    session = _graph(path, nodes, inputs, [_value("y", ["rows", 1])], {"w": np.array([[1], [10], [100]], np.float32)})
    rows = [{"age": 1.0, "rest_0": 2.0, "rest_1": 3.0}, {"age": 4.0, "rest_0": 5.0, "rest_1": 6.0}]
    feeds = {"age": np.array([[1], [4]], np.float32), "rest": np.array([[2, 3], [5, 6]], np.float32)}
    return Filed(path, "onnx", rows, session.run(None, feeds)[0][:, 0].tolist(), "regressor")


def onnx_tokens(folder: Path) -> Filed:
    """What a language model takes: ids and a mask, both as long as the text is."""
    from onnx import helper

    path = folder / "tokens.onnx"
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=1),
        helper.make_node("Mul", ["looked", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["y"], keepdims=0),
    ]
    inputs = [_value("input_ids", ["rows", "length"], "INT64"), _value("attention_mask", ["rows", "length"], "INT64")]
    weights = {"table": np.arange(10, dtype=np.float32), "axis": np.array([1])}
    session = _graph(path, nodes, inputs, [_value("y", ["rows"])], weights)
    ids, mask = [[1, 2, 3], [7, 8, 9]], [[1, 1, 0], [1, 1, 1]]
    rows = [{"input_ids": a, "attention_mask": b} for a, b in zip(ids, mask, strict=True)]
    feeds = {"input_ids": np.array(ids), "attention_mask": np.array(mask)}
    return Filed(path, "onnx", rows, session.run(None, feeds)[0].tolist(), "regressor")


def onnx_text(folder: Path) -> Filed:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType

    fitted, path = text_pipeline(), folder / "text.onnx"
    made = to_onnx(
        fitted.model, initial_types=[("text", StringTensorType([None, 1]))], options={"zipmap": False}, target_opset=17
    )
    path.write_bytes(made.SerializeToString())
    return Filed(path, "onnx", fitted.rows, fitted.expected, "classifier", fitted.probabilities)


def onnx_clusterer(folder: Path) -> Filed:
    from skl2onnx import to_onnx

    fitted, path = clusterer(), folder / "clusters.onnx"
    path.write_bytes(to_onnx(fitted.model, np.array(fitted.rows, np.float32), target_opset=17).SerializeToString())
    return Filed(path, "onnx", fitted.rows, fitted.expected, "other")


def onnx_transformer(folder: Path) -> Filed:
    from skl2onnx import to_onnx

    fitted, path = pca(), folder / "pca.onnx"
    path.write_bytes(to_onnx(fitted.model, np.array(fitted.rows, np.float32), target_opset=17).SerializeToString())
    return Filed(path, "onnx", fitted.rows, fitted.expected, "other")


def pictures(count: int = 2, layout: str = "NCHW", size: tuple[int, int] = (4, 6)) -> Any:
    """``count`` float pictures of 3 colours, height x width, whose values are those of 8-bit pictures."""
    shape = (count, 3, *size) if layout == "NCHW" else (count, *size, 3)
    values = np.random.default_rng(3).integers(0, 256, shape)
    return (values / 255.0).astype(np.float32)


def onnx_image(folder: Path) -> Filed:
    from onnx import helper

    path, rows = folder / "image.onnx", pictures()
    nodes = [helper.make_node("ReduceMean", ["image"], ["colours"], axes=[2, 3], keepdims=0)]
    session = _graph(path, nodes, [_value("image", ["rows", 3, 4, 6])], [_value("colours", ["rows", 3])], {})
    return Filed(path, "onnx", rows.tolist(), session.run(None, {"image": rows})[0].tolist(), "other")


# -- networks -----------------------------------------------------------------------------------------------------------
def _exported(path: Path, net: Any, examples: tuple[Any, ...], dims: Any) -> None:
    import torch

    torch.export.save(torch.export.export(net.eval(), examples, dynamic_shapes=dims), path)


def _network(kind: str) -> tuple[Any, Any]:
    """(module, two rows)"""
    import torch

    torch.manual_seed(0)
    if kind == "image":
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        return net.eval(), torch.from_numpy(pictures())
    if kind == "tokens":

        class Tokens(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embed = torch.nn.Embedding(20, 4)
                self.out = torch.nn.Linear(4, 3)

            def forward(self, ids):
                return self.out(self.embed(ids).mean(1))

        return Tokens().eval(), torch.tensor([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5]])

    class Heads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Linear(4, 1)
            self.two = torch.nn.Linear(4, 3)

        def forward(self, x):
            return self.one(x), self.two(x)

    return Heads().eval(), torch.from_numpy(iris()[2].astype(np.float32))


def _torch(path: Path, form: str, kind: str) -> Filed:
    import torch

    net, rows = _network(kind)
    if form == "torch_export":
        free = {0: torch.export.Dim("rows", min=1, max=100_000)}
        _exported(path, net, (rows,), (free,))
    else:
        torch.jit.script(net).save(str(path))
    with torch.inference_mode():
        found = net(rows)
    if isinstance(found, tuple):
        one, two = (part.numpy() for part in found)
        expected: list[Any] = [{"output_0": float(a[0]), "output_1": b.tolist()} for a, b in zip(one, two, strict=True)]
    else:
        expected = found.numpy().tolist()
    return Filed(path, form, rows.tolist(), expected, "other")


def torch_image_pt2(folder: Path) -> Filed:
    return _torch(folder / "image.pt2", "torch_export", "image")


def torch_image_script(folder: Path) -> Filed:
    return _torch(folder / "image.pt", "torchscript", "image")


def torch_tokens_pt2(folder: Path) -> Filed:
    return _torch(folder / "tokens.pt2", "torch_export", "tokens")


def torch_tokens_script(folder: Path) -> Filed:
    return _torch(folder / "tokens.pt", "torchscript", "tokens")


def torch_heads_pt2(folder: Path) -> Filed:
    return _torch(folder / "heads.pt2", "torch_export", "heads")


def torch_heads_script(folder: Path) -> Filed:
    return _torch(folder / "heads.pt", "torchscript", "heads")


FILES: dict[str, Callable[[Path], Filed]] = {
    make.__name__: make
    for make in (
        xgb_softprob_ubj, xgb_binary_json, xgb_regressor_ubj, xgb_ranker_ubj, xgb_two_targets_json, xgb_two_labels_ubj,
        lightgbm_regressor_text, lightgbm_ranker_text, pickled_booster, pickled_lightgbm_booster, onnx_two_outputs, onnx_two_inputs,
        onnx_tokens, onnx_text, onnx_clusterer, onnx_transformer, onnx_image, torch_image_pt2, torch_image_script, torch_tokens_pt2,
        torch_tokens_script, torch_heads_pt2, torch_heads_script,
    )
}  # fmt: skip


def filed(fitted: Fitted, writer: str, folder: Path) -> Filed:
    """The estimator written as sklearn's people do."""
    form, ending, write = WRITERS[writer]
    path = folder / f"model{ending}"
    write(fitted.model, path)
    return Filed(path, form, fitted.rows, fitted.expected, fitted.task, fitted.probabilities)
