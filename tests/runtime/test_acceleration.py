"""Models converted to ONNX Runtime in a real sandbox: equal answers over every format, and everything that must stay native."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import orjson
import pytest

from mlops.runtime.errors import ArtifactInvalid
from mlops.runtime.host import Limits, ModelSpec, RunnerHost
from mlops.runtime.inprocess import InProcessHost
from tests.runner_host import model_spec

CONVERTED = {
    "iris_joblib": "float64", "iris_skops": "float64", "regressor_pickle": "float32", "churn_pipeline": None, "text_pipeline": "float64",
    "cluster": "float64", "xgb_wrapper": "float32", "xgb_ubj": "float32", "xgb_json": "float32", "xgb_regressor": "float32",
    "lightgbm_pickle": "float64", "lightgbm_text": "float64", "torch_export": "float32", "torchscript": "float32",
}  # fmt: skip
LARGE = Limits(reply_bytes=256 << 20)


def convert(host: Any, spec: ModelSpec, given: dict[str, Any] | None = None) -> tuple[dict[str, Any], bytes]:
    reply = host.call(replace(spec, limits=LARGE), "convert", {"budget_s": 15}, orjson.dumps(given or {}), timeout_s=40)
    assert reply.status == 200, reply.body
    return reply.header["record"], reply.body


def accelerated(host: Any, spec: ModelSpec, given: dict[str, Any] | None = None) -> tuple[ModelSpec, dict[str, Any]]:
    """The same model with its faster form, under another key."""
    record, file = convert(host, spec, given)
    assert record["status"] == "accelerated", record
    host.unload(spec.key)
    path = Path(spec.path).with_name(f"{Path(spec.path).stem}-{spec.key[:20]}.onnx")
    path.write_bytes(file)
    form = {"path": str(path), "sha256": hashlib.sha256(file).hexdigest()}
    return replace(spec, key=spec.key + "-a", accelerated=form), record


def asked(host: Any, spec: ModelSpec, rows: Any) -> tuple[int, dict[str, Any]]:
    reply = host.predict(spec, orjson.dumps({"inputs": rows}))
    return reply.status, json.loads(reply.body)


def describe(host: Any, spec: ModelSpec) -> dict[str, Any]:
    return json.loads(host.call(spec, "describe", {}).body)


def alike(host: Any, native: ModelSpec, form: ModelSpec, rows: Any) -> None:
    """Both forms say the same: status, labels, numbers, or the refusal's words."""
    (one, first), (other, second) = asked(host, native, rows), asked(host, form, rows)
    assert one == other, (first, second)
    if one != 200:
        assert (first["code"], first["detail"]) == (second["code"], second["detail"])
        return
    assert set(first) == set(second)
    if isinstance(first["predictions"][0], float):
        assert np.allclose(first["predictions"], second["predictions"], rtol=1e-5, atol=1e-5)
    else:
        assert first["predictions"] == second["predictions"]
    if "probabilities" in first:
        assert np.allclose(first["probabilities"], second["probabilities"], rtol=0, atol=1e-5)


def saved(folder: Path, estimator: Any, name: str, **fields: Any) -> ModelSpec:
    path = folder / f"{name}.joblib"
    joblib.dump(estimator, path)
    return model_spec(path, key=f"acc-{name}", name=name, **fields)


def columns(names: list[str], table: Any) -> dict[str, Any]:
    return {"columns": {name: [None if isinstance(v, float) and v != v else v for v in values] for name, values in zip(names, np.asarray(table, dtype=object).T.tolist(), strict=True)}}  # fmt: skip


# -- every format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CONVERTED))
def test_each_format_is_converted_in_the_sandbox_and_answers_alike(tiny: dict, host: RunnerHost, name: str) -> None:
    model = tiny[name]
    spec = model_spec(model.path, model.format, key=f"acc-{name}", schema=model.schema, name=name, version=1)
    form, record = accelerated(host, spec)
    assert CONVERTED[name] in (None, record["precision"])
    assert record["rows"] > 50
    assert record["max_difference"] <= record["tolerance"] == 1e-5
    assert record["speedup"] >= 1.2
    assert record["native_us"].keys() == record["accelerated_us"].keys() == {"1", "100"}
    alike(host, spec, form, model.rows)
    alike(host, spec, form, model.rows[:1])
    if model.bad_row is not None:
        alike(host, spec, form, [model.bad_row])
    told = describe(host, form)
    assert told["accelerated"] == {"precision": record["precision"], "native_open": False}
    native = describe(host, spec)
    assert {key: told[key] for key in native if key != "batching"} == {
        key: native[key] for key in native if key != "batching"
    }


@pytest.mark.parametrize("name", sorted(CONVERTED))
def test_many_rows_answer_as_the_same_rows_one_by_one(tiny: dict, host: RunnerHost, name: str) -> None:
    """Many rows of numbers go to the graph as one array, single ones as columns."""
    model = tiny[name]
    spec = model_spec(model.path, model.format, key=f"many-{name}", schema=model.schema, name=name, version=1)
    form, _ = accelerated(host, spec)
    rows = (model.rows * 20)[:20]
    alike(host, spec, form, rows)
    together = asked(host, form, rows)[1]["predictions"]
    singles = [asked(host, form, [row])[1]["predictions"][0] for row in rows]
    if isinstance(singles[0], float):
        assert np.allclose(together, singles, rtol=1e-5, atol=1e-5)
    else:
        assert together == singles
    for row in (model.bad_row, None, [], {}):
        alike(host, spec, form, [*rows, row])


def test_trusted_uploaders_models_are_converted_in_the_process(tiny: dict) -> None:
    model, here = tiny["iris_joblib"], InProcessHost(1 << 30)
    spec = model_spec(model.path, model.format, schema=model.schema, name="iris", version=1)
    form, _ = accelerated(here, spec)
    alike(here, spec, form, model.rows)
    assert {each["key"]: each["accelerated"] for each in here.status()["entries"]} == {spec.key: False, form.key: True}
    assert describe(here, form)["accelerated"]["native_open"] is False
    Path(form.accelerated["path"]).write_bytes(b"another file")
    here.unload(form.key)
    with pytest.raises(ArtifactInvalid):
        here.predict(form, b"{}")


# -- what the graph was not proven on -----------------------------------------------------------------------------------


def with_gaps(rows: Any, rng: np.random.Generator, share: float = 0.2) -> list[list[Any]]:
    return [[None if rng.random() < share else value for value in row] for row in np.asarray(rows).tolist()]


@pytest.mark.parametrize("kind", ["forest", "xgboost", "lightgbm", "histogram"])
def test_rows_with_missing_values_answer_as_the_model_itself(host: RunnerHost, tmp_path: Path, kind: str) -> None:
    import lightgbm
    import xgboost
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 6))
    x[rng.random(x.shape) < 0.1] = np.nan
    y = (np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) > 0).astype(int)
    estimator = {
        "forest": lambda: RandomForestClassifier(20, random_state=0),
        "xgboost": lambda: xgboost.XGBClassifier(n_estimators=20),
        "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=20, verbose=-1),
        "histogram": lambda: HistGradientBoostingClassifier(max_iter=20),
    }[kind]()
    spec = saved(tmp_path, estimator.fit(x, y), f"gaps-{kind}")
    form, record = accelerated(host, spec, columns([f"f{i}" for i in range(6)], x))
    rows = with_gaps(rng.normal(size=(120, 6)), rng)
    alike(host, spec, form, rows)
    for row in rows[:5]:
        alike(host, spec, form, [row])
    # Where gaps were proven, the model itself was not even opened for them (a row between two classes may still ask for it).
    assert record["missing_values"] in ("onnx", "native")
    assert record["missing_values"] == "onnx" or describe(host, form)["accelerated"]["native_open"]


def test_texts_the_encoder_does_not_know_are_refused_or_answered_as_before(host: RunnerHost, tmp_path: Path) -> None:
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(5)
    frame = pandas.DataFrame({"plan": rng.choice(["a", "b", "c"], 200), "spend": rng.gamma(2, 30, 200)})
    y = (frame.spend + 40 * (frame.plan == "c") > 70).astype(int)
    for how in ("error", "ignore"):
        chosen = ColumnTransformer(
            [("c", OneHotEncoder(handle_unknown=how), ["plan"]), ("n", StandardScaler(), ["spend"])]
        )
        spec = saved(tmp_path, make_pipeline(chosen, LogisticRegression()).fit(frame, y), f"texts-{how}")
        form, record = accelerated(host, spec, {"columns": {name: frame[name].tolist() for name in frame}})
        assert record["native_texts"] == (["plan"] if how == "error" else [])
        rows = [{"plan": "a", "spend": 3.5}, {"plan": "zzz", "spend": 3.5}, {"plan": "", "spend": 1e9}]
        for row in rows:
            alike(host, spec, form, [row])
        alike(host, spec, form, rows)


def test_text_beyond_ascii_goes_to_the_model_itself(tiny: dict, host: RunnerHost) -> None:
    model = tiny["text_pipeline"]
    spec = model_spec(model.path, model.format, key="acc-texts", schema=model.schema)
    form, record = accelerated(host, spec)
    assert record["native_texts"]
    name = model.schema["inputs"][0]["name"]
    for text in ("", "déjà vu très bon", "漢字 good", "GOOD bad; e.g. 3.5", "x" * 5000):
        alike(host, spec, form, [{name: text}])


def test_numbers_beyond_32_bits_answer_as_the_model_itself(host: RunnerHost, tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 3))
    spec = saved(tmp_path, RandomForestRegressor(10).fit(x, x.sum(axis=1)), "huge")
    form, _ = accelerated(host, spec)
    for value in (1e300, -1e300, 3.5e38, 1e-320, 0):
        alike(host, spec, form, [[value, 0.5, 0.5]])
    alike(host, spec, form, [[1e300, 0.5, 0.5], [0.1, 0.5, 0.5]])


def test_a_forests_probabilities_stay_between_0_and_1(host: RunnerHost, tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    x = np.random.default_rng(0).normal(size=(400, 3))
    for kind, y in (("two", x[:, 0] > 0), ("three", np.digitize(x[:, 1], (-0.5, 0.5)))):
        spec = saved(tmp_path, RandomForestClassifier(20, random_state=0).fit(x, y), f"forest-{kind}")
        form, _ = accelerated(host, spec)
        for rows in (x[:100].tolist(), *([row] for row in x[:10].tolist())):
            _, answer = asked(host, form, rows)
            found = np.asarray(answer["probabilities"])
            assert found.min() >= 0, kind
            assert found.max() <= 1, kind
            alike(host, spec, form, rows)


# -- what stays native ----------------------------------------------------------------------------------------------------


def native_only(name: str) -> tuple[Any, Any, Any, str]:
    """(estimator, rows, target, words of the reason)."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(2)
    x = rng.normal(size=(120, 4))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    if name == "linear_svc":
        return LinearSVC(), x, y, "the converter says"
    if name == "function":
        return make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression()), x, y, "FunctionTransformer"
    if name == "log_target":
        from sklearn.compose import TransformedTargetRegressor

        return (
            TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
            x,
            y + 1.0,
            "the converter says",
        )
    return KNeighborsClassifier(weights="distance"), np.round(x), y, ""


@pytest.mark.parametrize("name", ["linear_svc", "function", "log_target", "neighbours"])
def test_what_cannot_be_converted_or_proven_says_why(host: RunnerHost, tmp_path: Path, name: str) -> None:
    estimator, x, y, words = native_only(name)
    record, file = convert(host, saved(tmp_path, estimator.fit(x, y), f"native-{name}"))
    assert (record["status"], file) == ("native", b"")
    assert words in record["reason"]
    assert len(record["reason"]) <= 1000


def test_onnx_files_and_models_without_a_schema_are_left_alone(tiny: dict, host: RunnerHost) -> None:
    model = tiny["iris_onnx"]
    record, _ = convert(host, model_spec(model.path, model.format, key="acc-onnx", schema=model.schema))
    assert record["reason"] == "it is ONNX already"


def test_a_model_whose_answers_are_random_is_never_accelerated(host: RunnerHost, predicting: Any) -> None:
    record, file = convert(host, predicting("import random; return [random.random() for _ in X]"))
    assert (record["status"], file) == ("native", b"")


def test_rounded_thresholds_do_not_pass(host: RunnerHost, tmp_path: Path) -> None:
    """Scaled columns into trees: with 32 bits throughout, rows fall on the other side of a threshold."""
    import xgboost
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(9)
    x = rng.normal(size=(400, 5)) * [1, 10, 100, 1000, 1e4] + [0, 1e3, 1e4, 1e5, 1e6]
    y = (x[:, 1] > 1e3).astype(int) ^ (x[:, 4] > 1e6).astype(int)
    pipeline = make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=40)).fit(x, y)
    spec = saved(tmp_path, pipeline, "rounded")
    form, record = accelerated(host, spec, columns([f"f{i}" for i in range(5)], x))
    assert record["precision"] == "mixed"  # 64 bits up to the trees, which round by themselves
    alike(host, spec, form, x.tolist())


# -- what an acceptance tester found ------------------------------------------------------------------------------------------


def frame_of(rng: np.random.Generator, rows: int = 300) -> Any:
    import pandas

    frame = pandas.DataFrame(rng.normal(size=(rows, 3)).round(1), columns=["alter", "preis", "länge"])
    frame["stadt"] = rng.choice(["Köln", "Oslo", "Rom"], rows)
    frame.loc[::17, "alter"] = np.nan
    frame.loc[::19, "stadt"] = None
    return frame


def test_xgboost_fitted_on_a_frame_is_accelerated(host: RunnerHost, tmp_path: Path) -> None:
    """Its columns have names then, of which the library's converter knows none."""
    import xgboost

    frame = frame_of(np.random.default_rng(1))[["alter", "preis", "länge"]]
    names = list(frame)
    model = xgboost.XGBClassifier(n_estimators=15).fit(frame, (frame.preis > 0).astype(int))
    spec = saved(tmp_path, model, "xgb-frame")
    form, _ = accelerated(host, spec, columns(names, frame))
    rows = [dict(zip(names, row, strict=True)) for row in [[0.1, 0.2, 0.3], [None, -1.0, 1e9], [1e308, 0.0, 0.0]]]
    alike(host, spec, form, rows)
    alike(host, spec, form, [dict(reversed(row.items())) for row in rows])


def test_texts_that_an_imputer_fills_do_not_keep_a_pipeline_native(host: RunnerHost, tmp_path: Path) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = frame_of(np.random.default_rng(2))
    for place, last in enumerate((LogisticRegression(), ExtraTreesClassifier(15, random_state=0))):
        texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
        numbers = make_pipeline(SimpleImputer(), StandardScaler())
        chosen = ColumnTransformer([("n", numbers, ["alter", "preis", "länge"]), ("t", texts, ["stadt"])])
        model = make_pipeline(chosen, last).fit(frame, (frame["preis"] > 0).astype(int))
        spec = saved(tmp_path, model, f"text-imputer-{place}")
        given = {"columns": {name: [None if v != v else v for v in frame[name].astype(object)] for name in frame}}
        form, _ = accelerated(host, spec, given)
        row = {"alter": 0.5, "preis": 0.25, "länge": -1.0, "stadt": "Rom"}
        rows = [{**row, "stadt": text} for text in ("Köln", None, "", "Ürümqi", "rom")]
        rows += [{**row, "preis": value} for value in (1e308, -1e308, 3.5e38, 1e29, 1e-300)]
        for each in rows:
            alike(host, spec, form, [each])
        alike(host, spec, form, [row for row in rows if abs(row["preis"]) < 1e30])


def test_trees_inside_other_estimators_round_where_they_are(host: RunnerHost, tmp_path: Path) -> None:
    """A tree rounds its rows to 32 bits: 0.15 lies right of a split between 0.1 and 0.2, with 64 bits left of it."""
    from sklearn.ensemble import StackingRegressor, VotingClassifier
    from sklearn.linear_model import Ridge
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    rng = np.random.default_rng(3)
    x = rng.integers(-20, 20, size=(400, 3)) / 10
    y = (x[:, 0] > 0.1).astype(int)
    votes = VotingClassifier(
        [(name, DecisionTreeClassifier(max_features=1, random_state=seed)) for seed, name in enumerate("abc")]
    )
    record, file = convert(host, saved(tmp_path, votes.fit(x, y), "votes"))
    assert (record["status"], file) == ("native", b"")
    assert "rounding may swap them" in record["reason"]
    stack = StackingRegressor([("tree", DecisionTreeRegressor(max_depth=5)), ("line", Ridge())]).fit(x, x.sum(axis=1))
    spec = saved(tmp_path, stack, "stack")
    form, record = accelerated(host, spec, columns(["f0", "f1", "f2"], x))
    assert record["precision"] == "float32"
    alike(host, spec, form, [[value / 100, 0.5, -0.25] for value in range(-200, 200, 5)])


def test_numbers_no_form_was_proven_on_are_the_models_own(host: RunnerHost, tmp_path: Path) -> None:
    """A distance overflows in another way in each library."""
    from sklearn.cluster import KMeans

    x = np.random.default_rng(4).normal(size=(200, 3))
    spec = saved(tmp_path, KMeans(3, n_init=1, random_state=0).fit(x), "far")
    form, _ = accelerated(host, spec)
    rows = [[value, 0.5, -0.5] for value in (1e308, -1e308, 3.5e38, 1e31, 1e12, 0.0)]
    for row in rows:
        alike(host, spec, form, [row])
    alike(host, spec, form, rows)


def test_bins_are_cut_where_they_were_cut(host: RunnerHost, tmp_path: Path) -> None:
    """0.3 lies left of an edge at 0.30000000000000004, with 32 bits on it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer

    x = np.random.default_rng(5).integers(0, 11, size=(300, 2)) / 10
    y = (x[:, 0] > 0.4).astype(int)
    model = make_pipeline(KBinsDiscretizer(10, strategy="uniform"), LogisticRegression()).fit(x, y)
    spec = saved(tmp_path, model, "bins")
    record, file = convert(host, spec, columns(["f0", "f1"], x))
    assert (record["status"], file) == ("native", b"")


def test_a_sample_beyond_ascii_does_not_keep_a_text_model_native(host: RunnerHost, tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["good and cheap", "bad", "schön and good", "naïve bad ÄRGER", "cheap", "bad and dear"] * 20
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["good" in text for text in texts])
    spec = saved(tmp_path, model, "umlauts")
    record, _ = convert(host, spec, {"columns": {"text": texts}})
    if record["status"] == "native":  # proven equal, and on a busy machine perhaps not faster for a hundred rows
        assert "is not faster" in record["reason"]
        return
    form, record = accelerated(host, replace(spec, key="umlauts-again"), {"columns": {"text": texts}})
    assert record["native_texts"] == ["text"]
    alike(host, spec, form, [{"text": text} for text in (*texts[:6], "", "SCHÖN", "Good, bad!")])


# -- the file ---------------------------------------------------------------------------------------------------------------


def test_a_form_that_was_tampered_with_is_refused(tiny: dict, host: RunnerHost) -> None:
    model = tiny["xgb_json"]
    spec = model_spec(model.path, model.format, key="acc-tampered", schema=model.schema)
    form, _ = accelerated(host, spec)
    path = Path(form.accelerated["path"])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ArtifactInvalid, match="sha256 differs"):
        host.predict(form, orjson.dumps({"inputs": model.rows}))


def test_a_form_that_cannot_be_opened_is_done_without(tiny: dict, host: RunnerHost) -> None:
    """Another onnxruntime may refuse what this one made: the model is still there."""
    model = tiny["xgb_json"]
    path = model.path.with_name("not-a-form.onnx")
    path.write_bytes(b"not a graph")
    form = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    spec = model_spec(model.path, model.format, key="acc-unopened", schema=model.schema, accelerated=form)
    assert "could not be opened" in " ".join(host.ensure(spec).notes)
    status, body = asked(host, spec, model.rows)
    assert (status, body["predictions"]) == (200, model.expected)


# -- many rows of any kind ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_any_rows_answer_alike(tiny: dict, host: RunnerHost, seed: int) -> None:
    """Values of every size, gaps, texts known and unknown, one row and many: never another answer than the model's own."""
    rng = np.random.default_rng(seed)
    model = tiny["churn_pipeline"]
    schema = {**model.schema, "inputs": [{**column, "nullable": True} for column in model.schema["inputs"]]}
    spec = model_spec(model.path, model.format, key="acc-any", schema=schema)
    form, _ = accelerated(host, spec)

    def value(column: dict[str, Any]) -> Any:
        if rng.random() < 0.1:
            return None
        if column["type"] == "string":
            return str(rng.choice(["basic", "plus", "pro", "other", "", "ß"]))
        return float(rng.choice([rng.normal() * 50, rng.integers(-5, 60), 10.0 ** rng.integers(-30, 30)]))

    rows = [{column["name"]: value(column) for column in schema["inputs"]} for _ in range(150)]
    for row in rows[:40]:
        alike(host, spec, form, [row])
    alike(host, spec, form, rows)
