"""Why a model answered so: values per row and column that add up to what the model itself says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mlops.runtime import formats
from mlops.runtime.explain import operation, permutation
from mlops.runtime.handlers import Session
from tests.runner_host import model_spec

try:
    import shap
except ImportError:  # the optional extra: requirements-explain.txt
    shap = None

TREES = ["xgb_wrapper", "xgb_ubj", "xgb_json", "xgb_regressor", "lightgbm_pickle", "lightgbm_text"]
ANY = [
    "churn_pipeline",
    "churn_onnx",
    "iris_onnx",
    "regressor_onnx",
    "torch_export",
    "torchscript",
    "cluster",
    "text_pipeline",
]


@pytest.fixture
def session(tiny):
    def get(name: str) -> Session:
        model = tiny[name]
        return Session(
            formats.load(str(model.path), model.format), model_spec(model.path, model.format, schema=model.schema)
        )

    return get


def _asked(session: Session, rows: Any, status: int = 200, **args: Any) -> dict[str, Any]:
    found, _, body = session.handle({"op": "explain", "args": args}, json.dumps({"inputs": rows}).encode())
    assert found == status, body
    return json.loads(body)


def _adds_up(said: dict[str, Any], *, tolerance: float = 1e-4) -> None:
    """base + the sum over the columns is the explained output, for every row and class."""
    values, outputs = np.array(said["values"]), np.array(said["outputs"])
    assert np.array(said["base_values"]) + values.sum(axis=-1) == pytest.approx(outputs, abs=tolerance)
    assert values.shape[-1] == len(said["columns"])
    if said["classes"] is not None:
        assert values.shape[1] == len(said["classes"])


def _best(said: dict[str, Any]) -> list[Any]:
    """The class with the highest explained output, per row: what the model predicted."""
    return [said["classes"][place] for place in np.array(said["outputs"]).argmax(axis=1)]


@pytest.mark.parametrize("name", TREES)
def test_boosted_trees_explain_themselves(tiny, session, name: str) -> None:
    model = tiny[name]
    said = _asked(session(name), model.rows)
    assert (said["method"], said["exact"]) == ("tree_shap", True)
    _adds_up(said)
    assert said["columns"] == [column["name"] for column in model.schema["inputs"]]
    if model.classes:
        assert (said["explains"], _best(said)) == ("log_odds", model.expected)
        chances = np.exp(said["outputs"]) / np.exp(said["outputs"]).sum(axis=1, keepdims=True)
        assert chances == pytest.approx(np.array(model.probabilities), abs=1e-4)
    else:
        assert (said["explains"], said["outputs"]) == ("prediction", pytest.approx(model.expected, abs=1e-5))


@pytest.mark.parametrize("name", ["iris_joblib", "iris_skops"])
def test_linear_models_by_their_coefficients(tiny, session, name: str) -> None:
    model = tiny[name]
    said = _asked(session(name), model.rows, background=model.rows)
    assert (said["method"], said["explains"]) == ("linear_shap", "log_odds")
    _adds_up(said)
    assert _best(said) == model.expected
    # Against the mean of the background the values of the background rows are nothing on the whole.
    assert np.array(said["values"]).mean(axis=0) == pytest.approx(np.zeros((3, 4)), abs=1e-9)


@pytest.mark.parametrize("name", ANY)
def test_any_other_model_by_permutation(tiny, session, name: str) -> None:
    model = tiny[name]
    said = _asked(session(name), model.rows, background=model.rows)
    assert (said["method"], said["exact"]) == ("permutation_shap", True)
    _adds_up(said)
    if model.probabilities:
        assert said["explains"] == "probability"
        assert np.array(said["outputs"]) == pytest.approx(np.array(model.probabilities), abs=1e-4)
        assert _best(said) == model.expected == said["predictions"]


def test_many_columns_are_sampled_and_still_add_up(session, tmp_path) -> None:
    import joblib
    from sklearn.neural_network import MLPRegressor

    draw = np.random.default_rng(1)
    x = draw.normal(size=(60, 14))
    path = tmp_path / "net.joblib"
    joblib.dump(MLPRegressor(hidden_layer_sizes=(8,), max_iter=50, random_state=0).fit(x, x[:, 0] * x[:, 1]), path)
    net = Session(formats.load(str(path), "sklearn"), model_spec(path))
    said = _asked(net, x[:3].tolist(), background=x[10:30].tolist())
    assert (said["method"], said["exact"], said["explains"]) == ("permutation_shap", False, "prediction")
    _adds_up(said)
    assert said == {**_asked(net, x[:3].tolist(), background=x[10:30].tolist()), "timings_ms": said["timings_ms"]}


def test_exact_values_are_shapleys_own(tiny, session) -> None:
    """A product of two columns against zeros: each gets half, the third nothing."""
    rows = [[2.0, 3.0, 5.0]]
    found = permutation.explain_any(
        lambda table: (table[:, 0] * table[:, 1])[:, None], rows, [[0.0, 0.0, 0.0]], np.array, "prediction"
    )
    assert found.values[0, 0].tolist() == [3.0, 3.0, 0.0]
    assert (found.base.tolist(), found.explained.tolist()) == ([0.0], [[6.0]])


def test_both_ways_agree_on_a_linear_model(tiny, session) -> None:
    """On a model without interactions permutation and coefficients say the same, in the same units."""
    import joblib
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    draw = np.random.default_rng(2)
    x = draw.normal(size=(50, 4))
    path = tiny["iris_joblib"].path.with_name("ridge.joblib")
    joblib.dump(make_pipeline(StandardScaler(), Ridge()).fit(x, x @ [1.0, -2.0, 0.0, 0.5]), path)
    ridge = Session(formats.load(str(path), "sklearn"), model_spec(path))
    rows, others = x[:2].tolist(), x[5:15].tolist()
    exact, asked = (_asked(ridge, rows, background=others, method=method) for method in ("auto", "permutation"))
    assert (exact["method"], asked["method"]) == ("linear_shap", "permutation_shap")
    assert np.array(exact["values"]) == pytest.approx(np.array(asked["values"]), abs=1e-8)
    assert exact["base_values"] == pytest.approx(asked["base_values"])


@pytest.mark.skipif(shap is not None, reason="the extra is installed")
def test_without_the_extra_forests_say_what_to_install_and_what_works_now(tiny, session) -> None:
    forest = tiny["regressor_pickle"]
    said = _asked(session("regressor_pickle"), forest.rows, 501)
    assert said["code"] == "explainer_missing"
    assert "pip install -r requirements-explain.txt" in said["hint"]
    assert "method=permutation" in said["hint"]
    _adds_up(_asked(session("regressor_pickle"), forest.rows, method="permutation", background=forest.rows))


@pytest.mark.skipif(shap is None, reason="needs the extra: pip install -r requirements-explain.txt")
@pytest.mark.parametrize(
    "kind",
    [
        "RandomForestClassifier",
        "ExtraTreesRegressor",
        "GradientBoostingClassifier",
        "HistGradientBoostingClassifier",
        "DecisionTreeClassifier",
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_forests_with_the_extra(tiny, kind: str, classes: int) -> None:
    import joblib
    import sklearn.ensemble
    import sklearn.tree
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    draw = np.random.default_rng(3)
    x = draw.normal(size=(200, 4))
    y = np.digitize(x[:, 0] + x[:, 1] * x[:, 2], [0.0] if classes == 2 else [-0.5, 0.5])
    made = getattr(sklearn.ensemble, kind, None) or getattr(sklearn.tree, kind)
    path = tiny["iris_joblib"].path.with_name(f"{kind}{classes}.joblib")
    joblib.dump(
        make_pipeline(StandardScaler(), made(random_state=0).fit(StandardScaler().fit_transform(x), y)).fit(x, y), path
    )
    forest = Session(formats.load(str(path), "sklearn"), model_spec(path))
    said = _asked(forest, x[:5].tolist(), background=x[10:20].tolist())
    _adds_up(said)
    assert said["method"] == (
        "permutation_shap" if (kind, classes) == ("GradientBoostingClassifier", 3) else "tree_shap"
    )
    if said["classes"] is not None:
        assert _best(said) == said["predictions"]


def test_what_cannot_be_explained_is_said(tiny, session, monkeypatch) -> None:
    iris = tiny["iris_joblib"]
    _asked(session("iris_joblib"), [iris.bad_row], 422)
    _asked(session("iris_joblib"), iris.rows * 400, 413)
    assert "permutation" in _asked(session("iris_joblib"), iris.rows, 400, method="magic")["hint"]
    assert _asked(session("iris_joblib"), iris.rows, background="nonsense")["method"] == "linear_shap"
    assert _asked(session("iris_joblib"), iris.rows, background=[iris.bad_row])["method"] == "linear_shap"
    monkeypatch.setattr(permutation, "MODEL_ROWS", 10)
    assert "too much" in _asked(session("iris_joblib"), iris.rows, 413, method="permutation")["detail"]
    monkeypatch.undo()
    monkeypatch.setattr(permutation, "SECONDS", -1.0)
    assert _asked(session("iris_joblib"), iris.rows, 422, method="permutation")["code"] == "explain_too_slow"


def test_a_row_that_is_alone_is_compared_with_what_the_schema_knows(tiny, session) -> None:
    churn = tiny["churn_pipeline"]
    ranges = {
        "plan": {"levels": ["basic", "plus", "pro"]},
        "months": {"min": 1.0, "max": 60.0},
        "spend": {"min": 0.0, "max": 200.0},
    }
    schema = churn.schema | {"inputs": [column | ranges[column["name"]] for column in churn.schema["inputs"]]}
    model = Session(formats.load(str(churn.path), churn.format), model_spec(churn.path, churn.format, schema=schema))
    alone = [churn.rows[1]]
    assert np.abs(_asked(session("churn_pipeline"), alone, background=alone)["values"]).sum() == 0
    said = _asked(model, alone, background=alone)
    _adds_up(said)
    assert np.abs(said["values"]).sum() > 0.01


def test_a_tensor_of_images_is_not_explained_column_by_column() -> None:
    with pytest.raises(operation.Refusal, match="3 dimensions"):
        operation._Table.of(np.zeros((1, 2, 2)))
