"""Models that acceptance testing pushed and that were opened wrongly, or refused without a reason that helps."""

from __future__ import annotations

import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest

from mlops.runtime import bodies, formats, inspect
from mlops.runtime.formats import ModelError
from mlops.runtime.formats.base import said


@pytest.fixture(scope="module")
def cats():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.normal(size=300), "k": pd.Categorical(random.choice(["u", "v", "w"], 300))})
    return frame, ((frame.k == "w") | (frame.a > 1)).astype(int)


def chance(path, name, value, kind="string"):
    schema = {"inputs": [{"name": "a", "type": "double"}, {"name": "k", "type": kind}]}
    return formats.load(str(path), name).predict({"a": [0.1], "k": [value]}, schema).probabilities[0][1]


def own(model, value, levels):
    return model.predict_proba(pd.DataFrame({"a": [0.1], "k": pd.Categorical([value], categories=levels)}))[0][1]


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_wrapper_with_categorical_columns_answers_one_row_like_its_library(library, cats, tmp_path):
    import lightgbm
    import xgboost

    frame, target = cats
    if library == "xgboost":
        model = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True).fit(frame, target)
        model.save_model(tmp_path / "native.ubj")
    else:
        model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(frame, target)
        model.booster_.save_model(tmp_path / "native.txt")
    joblib.dump(model, tmp_path / "model.joblib")
    native = next(tmp_path.glob("native.*"))
    assert formats.load(str(native), library).inputs[1]["type"] == "string"
    for level in "uvw":
        wanted = pytest.approx(own(model, level, ["u", "v", "w"]), abs=1e-6)
        assert chance(tmp_path / "model.joblib", "sklearn", level) == wanted
        assert chance(native, library, level) == wanted


@pytest.mark.parametrize("levels", [["Köln", "Oslo", "Rom"], ["Aarhus", "Zürich", "Ålesund"], ["a", "bä", "漢字"]])
def test_xgboost_categories_beyond_ascii_are_found_again(levels, tmp_path):
    """The library cuts them in the wrong places when it stores them."""
    import xgboost

    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"a": random.normal(size=400), "k": pd.Categorical(random.choice(levels, 400), categories=levels)}
    )
    target = ((frame.k == levels[2]) | (frame.a > 1)).astype(int) ^ ((frame.k == levels[0]) & (frame.a < 0)).astype(int)
    model = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True).fit(frame, target)
    joblib.dump(model, tmp_path / "model.joblib")
    model.save_model(tmp_path / "model.ubj")
    for level in levels:
        wanted = pytest.approx(own(model, level, levels), abs=1e-6)
        assert chance(tmp_path / "model.joblib", "sklearn", level) == wanted
        assert chance(tmp_path / "model.ubj", "xgboost", level) == wanted
    assert chance(tmp_path / "model.joblib", "sklearn", "unknown") == pytest.approx(own(model, None, levels), abs=1e-6)


def test_categories_that_are_numbers_are_found_by_value(cats, tmp_path):
    import lightgbm

    frame, _ = cats
    frame = frame.assign(k=pd.Categorical(np.resize([10, 20, 30], len(frame))))
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(frame, (frame.k == 20).astype(int))
    joblib.dump(model, tmp_path / "model.joblib")
    for level in (10, 20):
        assert chance(tmp_path / "model.joblib", "sklearn", level, "double") == pytest.approx(
            own(model, level, [10, 20, 30])
        )


def test_types_of_columns_come_from_what_their_encoders_saw(tmp_path):
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame(
        {"flag": [True, False] * 10, "plan": ["a", "b"] * 10, "kept": [1.0, 2.0] * 10, "day": ["x"] * 20}
    )
    columns = make_column_transformer((OneHotEncoder(), ["flag", "plan"]), ("passthrough", ["kept"]), ("drop", ["day"]))
    model = make_pipeline(columns, LogisticRegression()).fit(frame, [0, 1] * 10)
    joblib.dump(model, tmp_path / "model.joblib")
    inputs = {column["name"]: column for column in formats.load(str(tmp_path / "model.joblib"), "sklearn").inputs}
    assert [inputs[name]["type"] for name in ("flag", "plan")] == ["boolean", "string"]
    assert [name for name in inputs if inputs[name].get("guessed")] == ["kept", "day"]


def test_gradient_boosting_with_its_own_categories_says_which_columns_are_text(cats, tmp_path):
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame, target = cats
    model = HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype").fit(frame, target)
    joblib.dump(model, tmp_path / "model.joblib")
    assert [column["type"] for column in formats.load(str(tmp_path / "model.joblib"), "sklearn").inputs] == [
        "double",
        "string",
    ]


def test_a_model_that_was_never_fitted_is_named_so(tmp_path):
    from sklearn.linear_model import LogisticRegression

    joblib.dump(LogisticRegression(), tmp_path / "model.joblib")
    with pytest.raises(ModelError) as caught:
        formats.load(str(tmp_path / "model.joblib"), "sklearn")
    assert caught.value.code == "not_fitted"
    assert "fit()" in caught.value.hint


def test_a_stack_trace_in_a_librarys_words_is_not_shown():
    xgboost = ValueError("json.cc:409: Expecting ','\nStack trace:\n  [bt] (0) /somewhere/libxgboost.so(+0x11)\n")
    assert said(xgboost) == "ValueError: json.cc:409: Expecting ','"
    script = RuntimeError(
        'failed in the interpreter.\nTraceback of TorchScript:\n  File "code/x.py", line 16\nRuntimeError: Kernel size too big\n'
    )
    assert said(script) == "RuntimeError: RuntimeError: Kernel size too big"
    assert said(KeyError("plan")) == "KeyError: 'plan'"
    assert len(said(ValueError("x" * 10_000))) < 500


def test_a_zip_cut_behind_an_inner_zip_is_cut_short_and_not_weights(tmp_path):
    inner, whole, cut = tmp_path / "inner.zip", tmp_path / "whole.pt2", tmp_path / "cut.pt2"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data.pkl", b"weights")
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.writestr("model/data/weights.pt", inner.read_bytes())
        archive.writestr("model/rest", b"r" * 500)
    raw = whole.read_bytes()
    cut.write_bytes(raw[: raw.index(b"r" * 500)])
    (finding,) = [found for found in inspect.look(cut, "cut.pt2").findings if found["level"] == "error"]
    assert "cut short" in finding["message"]


def test_a_bomb_is_called_one_whatever_it_pretends_to_be(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (8 << 20))
    (finding,) = [
        found for found in inspect.look(tmp_path / "bomb.pt", "bomb.pt").findings if found["level"] == "error"
    ]
    assert "inflates more than" in finding["message"]


@pytest.mark.parametrize(
    ("end", "whole"),
    [
        ("", True),
        ("\nparameters:\n[a: 1]\nend of parameters\n\npandas_categorical:[]\n", True),
        ("\nparameters:\n[a: 1]\nend of parameters\n", True),
        ("\nparameters:\n[a: ", False),
        ('\nparameters:\n[a: 1]\nend of parameters\n\npandas_categorical:[["u"', False),
        ("\nparameters:\n[a: 1]\nend of parameters\n\npandas_cat", False),
    ],
)
def test_a_lightgbm_file_is_whole_to_its_last_part(end, whole, tmp_path):
    (tmp_path / "model.txt").write_text("tree\nversion=v4\nnum_class=1\n\nTree=0\n\nend of trees\n" + end)
    errors = [
        found for found in inspect.look(tmp_path / "model.txt", "model.txt").findings if found["level"] == "error"
    ]
    assert bool(errors) is not whole


def test_nan_is_a_missing_value_and_infinity_a_mistake():
    assert bodies.parse(b'{"inputs": [{"a": NaN, "b": "NaN"}]}') == {"inputs": [{"a": None, "b": "NaN"}]}
    for wrong in (b'{"a": Infinity}', b'{"a": NaN, "b": -Infinity}', b"[" * 100_000 + b"NaN", b'{"a": "NaN"'):
        with pytest.raises(ValueError):  # noqa: PT011  any reason will do, no crash
            bodies.parse(wrong)


def test_a_linear_booster_fitted_on_a_frame_answers(tmp_path):
    import xgboost

    frame = pd.DataFrame(np.random.default_rng(3).normal(size=(200, 2)), columns=["a", "b"])
    model = xgboost.XGBRegressor(booster="gblinear").fit(frame, frame.a - frame.b)
    joblib.dump(model, tmp_path / "model.joblib")
    found = formats.load(str(tmp_path / "model.joblib"), "sklearn").predict({"b": [2.0, 0.5], "a": [1.0, -0.25]}, None)
    rows = pd.DataFrame({"a": [1.0, -0.25], "b": [2.0, 0.5]})
    assert found.values == pytest.approx(model.predict(rows).tolist(), abs=1e-6)
