"""Every format opens its files and answers what its own library answers; what cannot be served says why."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from mlops.runtime import formats
from mlops.runtime.formats import FORMATS, ModelError
from mlops.runtime.schema import Checker, SchemaError, from_model, infer, validate_schema
from tests import tiny_models

NAMES = [
    "iris_joblib", "iris_skops", "iris_onnx", "regressor_pickle", "regressor_onnx", "churn_pipeline", "churn_onnx", "text_pipeline",
    "cluster", "xgb_wrapper", "xgb_ubj", "xgb_json", "xgb_regressor", "lightgbm_pickle", "lightgbm_text", "torch_export", "torchscript",
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return tiny_models.hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def iris():
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


def saved(folder, model, name="model.joblib"):
    import joblib

    joblib.dump(model, folder / name)
    return str(folder / name)


def columns_of(rows):
    return {f"f{place}": list(values) for place, values in enumerate(zip(*rows, strict=True))}


def refused(path, form, **options):
    with pytest.raises(ModelError) as caught:
        formats.load(str(path), form, options=options or None)
    assert caught.value.message
    assert caught.value.hint
    return caught.value


# -- every tiny model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_library_s_own(tiny, name):
    model = tiny[name]
    schema = validate_schema(model.schema)
    outcome = formats.load(str(model.path), model.format).predict(Checker(schema).rows(model.rows), schema)
    if model.task == "regressor":
        assert outcome.values == pytest.approx(model.expected, abs=1e-4)
    else:
        assert outcome.values == model.expected
    assert (outcome.probabilities is None) == (model.probabilities is None)
    if model.probabilities is not None:
        assert np.allclose(outcome.probabilities, model.probabilities, atol=1e-5)
    json.dumps([outcome.values, outcome.probabilities], allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_row_is_refused_before_the_model_sees_it(tiny, name):
    with pytest.raises(SchemaError):
        Checker(validate_schema(tiny[name].schema)).rows([tiny[name].bad_row])


@pytest.mark.parametrize("name", NAMES)
def test_the_description_is_json_and_gives_a_schema(tiny, name):
    model = tiny[name]
    found = formats.load(str(model.path), model.format)
    described = json.loads(json.dumps(found.describe()))
    assert described["libraries"]
    assert from_model(described) is not None


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("torch")])
def test_task_and_classes_are_known_without_a_schema(tiny, name):
    model = tiny[name]
    found = formats.load(str(model.path), model.format)
    assert (found.task, found.classes) == (model.task, model.classes)


def test_every_file_ending_has_a_tiny_model(tiny):
    assert {model.path.suffix for model in tiny.values()} >= {
        ".joblib",
        ".pkl",
        ".skops",
        ".ubj",
        ".json",
        ".onnx",
        ".pt2",
        ".pt",
        ".txt",
    }
    assert set(NAMES) == set(tiny)
    assert {model.format for model in tiny.values()} == set(FORMATS) - {
        "table",
        "python",
        "bundle",
    }  # folders have tests of their own


def test_files_without_an_ending_open_too(tiny, tmp_path):
    for model in tiny.values():
        plain = tmp_path / model.name
        plain.write_bytes(model.path.read_bytes())
        formats.load(str(plain), model.format)


def test_a_sample_and_the_description_make_a_schema_that_predicts(tiny):
    model = tiny["churn_pipeline"]
    found = formats.load(str(model.path), model.format)
    columns = {name: [row[name] for row in model.rows] for name in model.rows[0]} | {
        "target": ["stays"] * len(model.rows)
    }
    schema = infer(columns, describe=found.describe())
    assert [(item["name"], item["type"]) for item in schema["inputs"]] == [
        ("plan", "string"),
        ("months", "double"),
        ("spend", "double"),
    ]
    assert found.predict(Checker(schema).rows(model.rows), schema).values == model.expected


# -- scikit-learn ---------------------------------------------------------------------------------------------------


def test_columns_may_come_in_any_order_by_name(tiny):
    model = tiny["churn_pipeline"]
    found = formats.load(str(model.path), model.format)
    shuffled = {name: [row[name] for row in model.rows] for name in ("spend", "plan", "months")}
    assert found.predict(shuffled, model.schema).values == model.expected


def test_missing_values_are_allowed_where_an_imputer_stands_first(tiny):
    found = formats.load(str(tiny["churn_pipeline"].path), "sklearn")
    assert {item["name"]: item["nullable"] for item in found.inputs}["spend"] is True


def test_a_wrong_number_of_columns_is_a_model_error(tiny):
    found = formats.load(str(tiny["iris_joblib"].path), "sklearn")
    with pytest.raises(ModelError, match="takes 4 columns"):
        found.predict({"a": [1.0]})


def test_text_for_a_numeric_model_names_the_column(tiny):
    found = formats.load(str(tiny["iris_joblib"].path), "sklearn")
    with pytest.raises(ModelError, match="'c'"):
        found.predict({"a": [1.0], "b": [1.0], "c": ["wide"], "d": [1.0]})


def test_probabilities_and_labels_agree_for_estimators_of_all_kinds(iris, tmp_path):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC, LinearSVC
    from sklearn.tree import DecisionTreeClassifier

    x, y = iris
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    for estimator in (
        RandomForestClassifier(4, n_jobs=-1), HistGradientBoostingClassifier(max_iter=3), KNeighborsClassifier(3), SVC(), LinearSVC(), SGDClassifier(),
        GaussianNB(), MLPClassifier(4, max_iter=20), DecisionTreeClassifier(), OneVsRestClassifier(LogisticRegression()),
        GridSearchCV(LogisticRegression(max_iter=200), {"C": [1.0]}, cv=2, n_jobs=1), CalibratedClassifierCV(LinearSVC(), cv=2),
        VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier())], voting="soft"),
    ):  # fmt: skip
        estimator.fit(x, words)
        found = formats.load(saved(tmp_path, estimator), "sklearn")
        outcome = found.predict(columns_of(x.tolist()))
        assert outcome.values == estimator.predict(x).tolist(), estimator
        assert found.classes == ["setosa", "versicolor", "virginica"]
        assert (outcome.probabilities is not None) == hasattr(estimator, "predict_proba"), estimator


def test_regressors_transformers_and_several_outputs(iris, tmp_path):
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression

    x, y = iris
    two = np.column_stack([y, y % 2])
    linear = formats.load(saved(tmp_path, LinearRegression().fit(x, two)), "sklearn")
    assert np.shape(linear.predict(columns_of(x[:5].tolist())).values) == (5, 2)
    several = formats.load(saved(tmp_path, RandomForestClassifier(3).fit(x, two)), "sklearn")
    outcome = several.predict(columns_of(x[:5].tolist()))
    assert (np.shape(outcome.values), several.classes, several.classes_by_output) == ((5, 2), None, [[0, 1, 2], [0, 1]])
    assert [[len(chances) for chances in row] for row in outcome.probabilities] == [[3, 2]] * 5
    flat = formats.load(saved(tmp_path, PCA(2).fit(x)), "sklearn")
    assert (flat.task, np.shape(flat.predict(columns_of(x[:5].tolist())).values)) == ("transformer", (5, 2))


def test_a_dict_vectorizer_gets_records(tmp_path):
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(DictVectorizer(), LogisticRegression()).fit([{"c": "a", "n": 1}, {"c": "b", "n": 2}], [0, 1])
    assert formats.load(saved(tmp_path, model), "sklearn").predict({"c": ["a", "b"], "n": [1, 9]}).values == [0, 1]


def test_boosters_with_text_categories_get_a_frame(tmp_path):
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame = pd.DataFrame({"c": pd.Categorical(["a", "b"] * 40), "n": np.arange(80.0)})
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features=["c"]).fit(
        frame, (frame["c"] == "a").astype(int)
    )
    schema = infer({"c": ["a", "b"], "n": [1.0, 2.0]})
    assert formats.load(saved(tmp_path, model), "sklearn").predict(
        {"c": ["a", "b"], "n": [1.0, 2.0]}, schema
    ).values == [1, 0]


def test_a_models_own_labels_in_another_order_are_refused(tmp_path):
    from sklearn.linear_model import LogisticRegression

    x = np.arange(20.0).reshape(-1, 1)
    path = saved(tmp_path, LogisticRegression().fit(x, np.where(x[:, 0] < 10, "leaves", "stays")))
    # Renamed one by one, every "leaves" would be called "stays".
    said = refused(path, "sklearn", class_names=["stays", "leaves"])
    assert said.code == "class_names_order"
    assert "['leaves', 'stays']" in said.hint
    same = formats.load(str(path), "sklearn", options={"class_names": ["leaves", "stays"]})
    assert same.predict({"x0": [1.0]}, None).values == ["leaves"]
    words = formats.load(str(path), "sklearn", options={"class_names": ["gone", "here"]})
    assert words.predict({"x0": [1.0]}, None).values == ["gone"]


def test_class_names_rename_the_labels(tiny):
    found = formats.load(str(tiny["iris_joblib"].path), "sklearn", options={"class_names": ["x", "y", "z"]})
    columns = {name: [row[name] for row in tiny["iris_joblib"].rows] for name in tiny_models.IRIS}
    assert (found.predict(columns).values, found.classes) == (["x", "y", "z"], ["x", "y", "z"])
    assert refused(tiny["iris_joblib"].path, "sklearn", class_names=["x"]).code == "class_names_mismatch"


def test_things_that_are_not_models_are_refused(hostile, tmp_path):
    assert refused(hostile["not_a_model"].path, "sklearn").code == "not_a_model"
    assert refused(saved(tmp_path, {"model": 1, "scaler": 2}), "sklearn").code == "not_a_model"
    assert refused(hostile["truncated"].path, "sklearn").code in ("truncated", "load_failed")
    assert refused(tmp_path / "absent.pkl", "sklearn").code == "load_failed"
    assert refused(tmp_path / "absent.pkl", "magic").code == "unknown_format"


def test_a_class_from_a_notebook_or_a_missing_module_is_explained(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"c__main__\nMyModel\n.")
    (tmp_path / "b.pkl").write_bytes(b"cmy_company_models\nModel\n.")
    missing = refused(tmp_path / "a.pkl", "sklearn")
    assert (missing.code, "predict.py" in missing.hint) == ("class_missing", True)
    error = refused(tmp_path / "b.pkl", "sklearn")
    assert (error.code, "my_company_models" in error.message) == ("module_missing", True)


def test_one_estimator_in_a_dict_is_taken(tiny, iris, tmp_path):
    from sklearn.linear_model import LogisticRegression

    x, y = iris
    path = saved(tmp_path, {"model": LogisticRegression(max_iter=200).fit(x, y), "accuracy": 0.9})
    assert formats.load(path, "sklearn").task == "classifier"


def test_results_that_json_cannot_carry_become_null(tmp_path):
    (tmp_path / "m.pkl").write_bytes(
        tiny_models.at_predict("import numpy\nreturn numpy.array([float('nan'), float('inf'), 1.5])")
    )
    assert formats.load(str(tmp_path / "m.pkl"), "sklearn").predict({"a": [1.0, 2.0, 3.0]}).values == [None, None, 1.5]


# -- skops ----------------------------------------------------------------------------------------------------------


def test_skops_opens_estimators_that_skops_itself_distrusts(iris, tmp_path):
    import skops.io
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from xgboost import XGBClassifier

    x, y = iris
    for estimator in (
        RandomForestClassifier(3), HistGradientBoostingClassifier(max_iter=3), KNeighborsClassifier(3), MLPClassifier(4, max_iter=20),
        XGBClassifier(n_estimators=3, n_jobs=1), LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1),
    ):  # fmt: skip
        skops.io.dump(estimator.fit(x, y), tmp_path / "m.skops")
        found = formats.load(str(tmp_path / "m.skops"), "skops").predict(columns_of(x.tolist()))
        assert found.values == estimator.predict(x).tolist(), estimator


def test_a_type_that_is_not_on_the_list_is_named(iris, tmp_path):
    import os

    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(os.system), tmp_path / "m.skops")
    error = refused(tmp_path / "m.skops", "skops")
    assert (error.code, "system" in error.message) == ("untrusted_types", True)


@pytest.mark.parametrize("name", ["zip_bomb", "zip_climb", "zip_link", "zip_twice"])
def test_an_unsafe_container_is_not_handed_to_skops(hostile, name):
    assert refused(hostile[name].path, "skops").code not in ("load_failed", "untrusted_types")


# -- XGBoost and LightGBM -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "probabilities"),
    [
        ({"objective": "binary:logistic"}, True),
        ({"objective": "binary:logitraw"}, True),
        ({"objective": "binary:hinge"}, False),
        ({"objective": "binary:logistic", "booster": "gblinear"}, True),
        ({"objective": "multi:softmax", "num_class": 3}, True),
        ({"objective": "multi:softprob", "num_class": 3, "booster": "dart"}, True),
    ],
)
def test_native_classifiers_give_labels_and_probabilities(iris, tmp_path, parameters, probabilities):
    import xgboost

    x, y = iris
    labels = y if "num_class" in parameters else (y == 0).astype(int)
    booster = xgboost.train({**parameters, "nthread": 1}, xgboost.DMatrix(x, label=labels), num_boost_round=6)
    booster.save_model(tmp_path / "m.json")
    found = formats.load(str(tmp_path / "m.json"), "xgboost")
    outcome = found.predict(columns_of(x.tolist()))
    assert (np.array(outcome.values) == labels).mean() > 0.9
    assert (found.task, found.probabilities) == ("classifier", probabilities)
    assert (outcome.probabilities is not None) == probabilities
    if probabilities:
        assert np.allclose(np.sum(outcome.probabilities, axis=1), 1.0)


def test_a_booster_with_text_categories(tmp_path):
    import pandas as pd
    import xgboost

    frame = pd.DataFrame({"c": pd.Categorical(["a", "b", "c"] * 30), "n": np.arange(90.0)})
    data = xgboost.DMatrix(frame, label=(frame["c"] == "b").astype(int), enable_categorical=True)
    xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5).save_model(tmp_path / "m.ubj")
    found = formats.load(str(tmp_path / "m.ubj"), "xgboost")
    assert [item["type"] for item in found.inputs] == ["string", "double"]
    assert found.predict({"c": ["b", "a"], "n": [1.0, 2.0]}, from_model(found.describe())).values == [1, 0]


def test_missing_values_reach_the_trees_and_other_libraries_agree(iris, tmp_path):
    import lightgbm
    import xgboost

    x, y = iris
    holes = x.copy()
    holes[::3, 2] = math.nan
    columns = {
        name: [None if value != value else value for value in values]
        for name, values in columns_of(holes.tolist()).items()
    }
    booster = xgboost.train(
        {"objective": "multi:softprob", "num_class": 3, "nthread": 1}, xgboost.DMatrix(holes, label=y), 4
    )
    booster.save_model(tmp_path / "m.ubj")
    found = formats.load(str(tmp_path / "m.ubj"), "xgboost").predict(columns)
    assert np.allclose(found.probabilities, booster.predict(xgboost.DMatrix(holes)), atol=1e-6)
    trees = lightgbm.train({"objective": "regression", "num_threads": 1, "verbose": -1}, lightgbm.Dataset(holes, y), 4)
    trees.save_model(tmp_path / "m.txt")
    answers = formats.load(str(tmp_path / "m.txt"), "lightgbm").predict(columns).values
    assert np.allclose(answers, trees.predict(holes))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("xgb_json", "xgboost"),
        ("lightgbm_text", "lightgbm"),
        ("iris_skops", "skops"),
        ("iris_onnx", "onnx"),
        ("torch_export", "torch_export"),
        ("torchscript", "torchscript"),
    ],
)
def test_half_a_file_is_refused(tiny, tmp_path, name, form):
    raw = tiny[name].path.read_bytes()
    (tmp_path / "half").write_bytes(raw[: len(raw) // 2])
    refused(tmp_path / "half", form)


# -- ONNX -----------------------------------------------------------------------------------------------------------


def test_external_data_and_foreign_operators_are_refused(hostile, tmp_path):
    from onnx import TensorProto, helper

    assert refused(hostile["external_onnx"].path, "onnx").code == "external_data"
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("PyOp", ["x"], ["y"], domain="ai.onnx.contrib")], "g", value[:1], value[1:]
    )
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert refused(tmp_path / "m.onnx", "onnx").code == "unknown_domain"


def test_external_data_inside_a_subgraph_is_found(tmp_path):
    from onnx import TensorProto, helper

    hidden = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    hidden.external_data.add(key="location", value="/etc/passwd")
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])
    branch = helper.make_graph([helper.make_node("Constant", [], ["o"], value=hidden)], "b", [], [out])
    choose = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [choose],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert refused(tmp_path / "m.onnx", "onnx").code == "external_data"


def test_a_graph_with_a_fixed_batch_answers_any_number_of_rows(tmp_path):
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    (tmp_path / "m.onnx").write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    found = formats.load(str(tmp_path / "m.onnx"), "onnx")
    assert found.predict(columns_of([[1, 2, 3], [4, 5, 6], [7, 8, 9]])).values == [6.0, 15.0, 24.0]


@pytest.mark.parametrize("zipmap", [True, False])
def test_text_labels_survive_the_conversion(iris, tmp_path, zipmap):
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    x, y = iris
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    model = MLPClassifier(4, max_iter=50, random_state=0).fit(x, words)
    (tmp_path / "m.onnx").write_bytes(
        to_onnx(model, x[:1].astype(np.float32), options={"zipmap": zipmap}, target_opset=17).SerializeToString()
    )
    found = formats.load(str(tmp_path / "m.onnx"), "onnx")
    outcome = found.predict(columns_of(x.tolist()))
    assert found.classes == ["setosa", "versicolor", "virginica"]
    assert outcome.values == model.predict(x.astype(np.float32)).tolist()
    assert np.allclose(outcome.probabilities, model.predict_proba(x), atol=1e-5)


# -- torch ----------------------------------------------------------------------------------------------------------


def test_weights_without_a_network_are_refused_with_the_ways_out(hostile):
    error = refused(hostile["state_dict"].path, "torchscript")
    assert error.code == "weights_only"
    assert all(word in error.hint for word in ("predict.py", "torch.export", "torch.jit"))


def test_raw_outputs_stay_raw_until_the_schema_says_classifier(tiny):
    model = tiny["torchscript"]
    found = formats.load(str(model.path), model.format)
    array = np.array(model.rows, dtype=np.float32)
    raw = found.predict(array)
    assert (np.shape(raw.values), raw.probabilities) == ((2, 3), None)
    chances = found.predict(array, {"output": {"task": "classifier", "classes": None}})
    assert np.allclose(chances.probabilities, model.probabilities, atol=1e-6)
    plain = found.predict(array, {"output": {"task": "classifier", "classes": None, "activation": "none"}})
    assert np.allclose(plain.probabilities, raw.values)
    named = formats.load(str(model.path), model.format, options={"class_names": ["a", "b", "c"]}).predict(array)
    assert set(named.values) <= {"a", "b", "c"}


def test_a_table_schema_feeds_a_network_too(tiny):
    model = tiny["torch_export"]
    found = formats.load(str(model.path), model.format)
    schema = {**model.schema, "kind": "table"}
    assert found.predict(columns_of(model.rows), schema).values == model.expected


def test_a_fixed_batch_export_and_single_scores(tmp_path):
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(3, 1)).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3),)), tmp_path / "m.pt2")
    found = formats.load(str(tmp_path / "m.pt2"), "torch_export")
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = net(torch.from_numpy(rows)).detach().numpy()[:, 0]
    assert np.allclose(found.predict(rows).values, expected, atol=1e-6)
    chances = found.predict(rows, {"output": {"task": "classifier", "classes": ["no", "yes"]}})
    assert np.allclose(np.array(chances.probabilities)[:, 1], 1 / (1 + np.exp(-expected)), atol=1e-6)
    assert chances.values == ["yes" if value > 0 else "no" for value in expected]


def test_a_single_score_is_told_from_a_probability_by_the_network_not_by_the_rows(tmp_path):
    import torch

    torch.manual_seed(1)
    head = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    rows = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    logits = head(torch.from_numpy(rows)).detach().numpy()[:, 0]
    assert ((logits > 0) & (logits < 0.5)).any()  # what looks like a probability of "no"
    for net, said in ((head, "sigmoid"), (torch.nn.Sequential(head, torch.nn.Sigmoid()), "none")):
        torch.jit.script(net.eval()).save(str(tmp_path / "m.pt"))
        torch.onnx.export(
            net, (torch.zeros(1, 3),), str(tmp_path / "m.onnx"), dynamo=False, dynamic_axes={"x": {0: "rows"}},
            input_names=["x"], output_names=["score"],
        )  # fmt: skip
        for name, kind in (("m.pt", "torchscript"), ("m.onnx", "onnx")):
            found = formats.load(str(tmp_path / name), kind)
            assert found.describe()["single_score"] == said
            output = {"task": "classifier", "classes": ["no", "yes"], "activation": said}
            alone = [found.predict(row[None], {"output": output}) for row in rows]
            assert [one.values[0] for one in alone] == ["yes" if logit > 0 else "no" for logit in logits.tolist()]


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, 0, 1], [5, 15, 25], ["b", "c", "a"], [-1, 1], [False, True]])
@pytest.mark.parametrize("kind", ["one_vs_rest", "bagging", "neighbours", "margins"])
def test_the_columns_of_a_converted_classifiers_probabilities_have_its_own_labels(tmp_path, kind, labels, zipmap):
    from skl2onnx import to_onnx
    from sklearn.ensemble import BaggingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import LinearSVC

    kinds = {
        "one_vs_rest": OneVsRestClassifier(LogisticRegression()), "bagging": BaggingClassifier(n_estimators=3, random_state=0),
        "neighbours": KNeighborsClassifier(), "margins": LinearSVC(),
    }  # fmt: skip
    random = np.random.default_rng(2)
    rows = random.normal(size=(90, 2)).astype(np.float32)
    truth = np.array(labels)[np.digitize(rows[:, 0], [-0.4, 0.4][: len(labels) - 1])]
    model = kinds[kind].fit(rows, truth)
    options = {id(model): {"zipmap": zipmap}} if kind != "margins" else None
    graph = to_onnx(model, rows[:1], options=options)
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    found = formats.load(str(tmp_path / "m.onnx"), "onnx")
    outcome = found.predict({"f0": rows[:, 0].tolist(), "f1": rows[:, 1].tolist()})
    assert np.mean([got == wanted for got, wanted in zip(outcome.values, model.predict(rows), strict=True)]) > 0.97
    assert (found.task, found.classes) == ("classifier", model.classes_.tolist())
    if kind == "margins":  # which its converter calls probabilities
        assert (found.probabilities, outcome.probabilities) == (False, None)
    else:
        assert np.isclose(outcome.probabilities, model.predict_proba(rows), atol=1e-3).mean() > 0.97


def test_probabilities_of_a_zipmap_stand_in_the_order_of_the_classes(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node(
            "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", coefficients=[1.0, -1.0],
            intercepts=[0.0, 0.0], classlabels_strings=["yes", "no"], post_transform="SOFTMAX", multi_class=0,
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=["yes", "no"]),
    ]  # fmt: skip
    told = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
            helper.make_value_info("probabilities", helper.make_sequence_type_proto(told)),
        ],
    )  # fmt: skip
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    )
    onnx.save(model, str(tmp_path / "m.onnx"))
    found = formats.load(str(tmp_path / "m.onnx"), "onnx")
    outcome = found.predict({"f0": [3.0, -3.0]})
    assert outcome.values == ["yes", "no"]
    assert [found.classes[row.index(max(row))] for row in outcome.probabilities] == outcome.values


@pytest.mark.parametrize("native", [True, False])
def test_columns_with_a_space_reach_lightgbm_which_writes_an_underscore(tmp_path, native):
    import lightgbm
    import pandas
    from joblib import dump

    from mlops.runtime.checker import Checker
    from mlops.runtime.schema import infer

    random = np.random.default_rng(4)
    frame = pandas.DataFrame(
        {
            "monthly fee": random.normal(size=60),
            "age": random.normal(size=60),
            "home town": pandas.Categorical(random.choice(["Oslo", "Rome"], 60)),
        }
    )
    truth = frame["monthly fee"] - 2 * frame["age"] + (frame["home town"] == "Rome")
    model = lightgbm.LGBMRegressor(n_estimators=5, min_child_samples=3, verbose=-1).fit(frame, truth)
    path = tmp_path / ("m.txt" if native else "m.joblib")
    model.booster_.save_model(str(path)) if native else dump(model, path)
    found = formats.load(str(path), "lightgbm" if native else "sklearn")
    rows = frame.astype({"home town": object})[["home town", "age", "monthly fee"]].to_dict("records")
    seen = infer({name: [row[name] for row in rows] for name in rows[0]}, describe=found.describe())
    assert [column["name"] for column in seen["inputs"]] == ["monthly fee", "age", "home town"]
    assert np.allclose(found.predict(Checker(seen).rows(rows), seen).values, model.predict(frame))


def test_several_inputs_come_as_columns(tmp_path):
    import torch

    class Two(torch.nn.Module):
        def forward(self, left, right):
            return left * 2 + right

    shape = {0: torch.export.Dim("rows", min=1, max=1000)}
    program = torch.export.export(Two(), (torch.zeros(3, 1), torch.zeros(3, 1)), dynamic_shapes=(shape, shape))
    torch.export.save(program, tmp_path / "m.pt2")
    found = formats.load(str(tmp_path / "m.pt2"), "torch_export")
    assert [item["name"] for item in found.inputs] == ["left", "right"]
    assert found.predict({"right": [1.0, 2.0], "left": [10.0, 20.0]}).values == [21.0, 42.0]


def test_a_network_that_loses_rows_is_an_error(tmp_path):
    import torch

    class Mean(torch.nn.Module):
        def forward(self, x):
            return x.mean(0, keepdim=True)

    torch.jit.script(Mean()).save(str(tmp_path / "m.pt"))
    found = formats.load(str(tmp_path / "m.pt"), "torchscript")
    with pytest.raises(ModelError, match="for 2 rows"):
        found.predict(np.ones((2, 3), dtype=np.float32))


# -- the zygote -----------------------------------------------------------------------------------------------------


def test_preload_imports_everything_and_a_fork_of_it_predicts(tiny):
    """The promise a zygote rests on: preload, fork, load, predict, in every format, without a hang."""
    code = (
        "import json, os, sys\n"
        "from mlops.runtime import formats\n"
        "from mlops.runtime.schema import Checker\n"
        "found = formats.preload(slow=False) | formats.preload(slow=True)\n"
        "assert {'sklearn', 'xgboost', 'lightgbm', 'onnxruntime', 'skops', 'torch', 'pandas', 'joblib', 'numpy'} <= set(found), found\n"
        "for path, form, schema, rows in json.loads(sys.stdin.read()):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        formats.load(path, form).predict(Checker(schema).rows(rows), schema)\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0, form\n"
        "print('fine')\n"
    )
    jobs = [(str(model.path), model.format, model.schema, model.rows) for model in tiny.values()]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(jobs), capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("fine", 0), done.stderr[-2000:]


@pytest.mark.parametrize(
    "error", ["OSError('no libcudart')", "RuntimeError('old')", "AttributeError('x')", "ImportError('y')"]
)
def test_a_library_that_does_not_start_costs_its_own_models_only(error, tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text(f"raise {error}")
    (tmp_path / "half_library.py").write_text("__version__ = '1'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(formats, "_ENVIRONMENT", {})
    monkeypatch.setattr(formats, "_quiet", lambda: None)
    for names, late, slow in (("LIBRARIES", "_LATE", False), ("SLOW", "_SLOW_LATE", True)):
        monkeypatch.setattr(formats, names, ("broken_library", "not_installed_library", "half_library"))
        monkeypatch.setattr(formats, late, ("half_library.moved", "broken_library.part"))
        failed = {}
        assert formats.preload(slow=slow, failed=failed) == {"half_library": "1"}
        assert list(failed) == ["broken_library"]
        assert failed["broken_library"].startswith(error.partition("(")[0])


def test_a_late_part_of_a_library_that_does_not_start_is_told(tmp_path, monkeypatch):
    (tmp_path / "whole_library").mkdir()
    (tmp_path / "whole_library" / "__init__.py").write_text("__version__ = '2'")
    (tmp_path / "whole_library" / "part.py").write_text("raise RuntimeError('moved')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(formats, "_ENVIRONMENT", {})
    monkeypatch.setattr(formats, "_quiet", lambda: None)
    monkeypatch.setattr(formats, "SLOW", ("whole_library",))
    monkeypatch.setattr(formats, "_SLOW_LATE", ("whole_library.part",))
    failed = {}
    assert formats.preload(slow=True, failed=failed) == {"whole_library": "2"}
    assert failed == {"whole_library.part": "RuntimeError: moved"}


def test_hostile_pickles_need_no_module_of_ours(hostile):
    for item in hostile.values():
        if item.path.suffix == ".pkl":
            assert b"tests" not in item.path.read_bytes().replace(str(item.path.parent).encode(), b"")
    assert pickle.loads(hostile["good_predict"].path.read_bytes()).predict([1, 2]) == [0, 0]
