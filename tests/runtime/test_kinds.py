"""Every kind of model in every file it is saved in: pushed bytes go to a real runner, and its answer is the library's own."""

from __future__ import annotations

import base64
import functools
import io
import json
import pickle

import numpy as np
import orjson
import pytest

from mlops.runtime import formats
from mlops.runtime.formats.base import ModelError
from mlops.runtime.schema import (
    SchemaError,
    answer_json_schema,
    check_rows,
    example_row,
    to_json_schema,
    validate_schema,
)
from mlops.runtime.schema_docs import grey_picture
from tests import kind_models
from tests.runner_host import model_spec

fitted = functools.cache(lambda name: kind_models.ESTIMATORS[name]())
TABLES = [(name, writer) for name in kind_models.ESTIMATORS for writer in kind_models.WRITERS]


def near(got, wanted):
    if isinstance(wanted, dict):
        return (
            isinstance(got, dict)
            and got.keys() == wanted.keys()
            and all(near(got[name], wanted[name]) for name in wanted)
        )
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(near, got, wanted))
    return got == pytest.approx(wanted, abs=1e-5)


def asked(host, spec, rows):
    """(what the model says of itself, status, answer)"""
    described = json.loads(host.call(spec, "describe", {}).body)
    reply = host.predict(spec, orjson.dumps({"inputs": rows}))
    return described, reply.status, json.loads(reply.body)


def answers_like_its_library(host, filed):
    spec = model_spec(filed.path, filed.format)
    try:
        described, status, answer = asked(host, spec, filed.rows)
    finally:
        host.unload(spec.key)
    assert status == 200, answer
    assert near(answer["predictions"], filed.expected)
    assert near(answer.get("probabilities"), filed.probabilities)
    assert described["task"] == filed.task
    assert bool(described["probabilities"]) == (filed.probabilities is not None)


@pytest.mark.parametrize(("name", "writer"), TABLES)
def test_an_estimator_answers_like_itself(name, writer, host, tmp_path):
    answers_like_its_library(host, kind_models.filed(fitted(name), writer, tmp_path))


@pytest.mark.parametrize("name", kind_models.FILES)
def test_a_file_of_another_library_answers_like_it(name, host, tmp_path):
    answers_like_its_library(host, kind_models.FILES[name](tmp_path))


# -- what is said of it -------------------------------------------------------------------------------------------------
def schema_of(filed, **output):
    from mlops.runtime.schema import from_model

    described = formats.load(str(filed.path), filed.format).describe()
    found = from_model(json.loads(json.dumps(described)))
    return {**found, "output": {**found["output"], **output}}


def valid(schema, instance):
    import jsonschema

    return jsonschema.Draft202012Validator(schema).is_valid(instance)


@pytest.mark.parametrize(
    "name",
    ["multi_output_classifier", "multilabel", "clusterer", "outliers", "pca", "multi_output_regressor", "xgb_ranker"],
)
def test_the_described_answer_is_the_one_that_is_given(name, tmp_path):
    found = fitted(name)
    schema = answer_json_schema(schema_of(kind_models.filed(found, "joblib", tmp_path)))["properties"]
    assert valid(schema["predictions"], found.expected)
    if found.probabilities is not None:
        assert valid(schema["probabilities"], found.probabilities)


def test_several_labels_and_several_outputs_are_told_apart(tmp_path):
    several = schema_of(kind_models.filed(fitted("multi_output_forest"), "joblib", tmp_path))["output"]
    labels = schema_of(kind_models.filed(fitted("xgb_multilabel"), "joblib", tmp_path))["output"]
    assert (several["classes"], several["classes_by_output"]) == (None, [[0, 1, 2], [0, 1]])
    assert (labels["classes"], labels["multilabel"]) == ([0, 1], True)


@pytest.mark.parametrize(
    "name", ["onnx_tokens", "onnx_image", "torch_image_script", "torch_tokens_pt2", "onnx_two_inputs"]
)
def test_the_example_and_the_json_schema_fit_what_the_model_takes(name, tmp_path):
    filed = kind_models.FILES[name](tmp_path)
    schema = schema_of(filed)
    check_rows(schema, [example_row(schema)])
    assert valid(to_json_schema(schema), {"inputs": [example_row(schema)]})
    assert valid(to_json_schema(schema), {"inputs": filed.rows})
    assert not valid(to_json_schema(schema), {"inputs": [7]})


# -- text ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "rows", [kind_models.TEXTS, [{"text": text} for text in kind_models.TEXTS], [[text] for text in kind_models.TEXTS]]
)
def test_texts_come_bare_by_name_or_as_rows(rows, host, tmp_path):
    filed = kind_models.filed(fitted("text_pipeline"), "joblib", tmp_path)
    assert asked(host, model_spec(filed.path), rows)[2]["predictions"] == filed.expected


@pytest.mark.parametrize(("row", "words"), [(7, "needs text, got the number 7"), (None, "a value is missing")])
def test_what_is_no_text_is_named_by_its_row(row, words, host, tmp_path):
    filed = kind_models.filed(fitted("text_pipeline"), "joblib", tmp_path)
    _, status, answer = asked(host, model_spec(filed.path), ["great", row])
    assert (status, answer["errors"][0]["row"]) == (422, 1)
    assert words in answer["detail"]


def test_a_sparse_answer_has_its_limit():
    from scipy import sparse

    from mlops.runtime.formats.values import check_dense

    check_dense(sparse.csr_matrix((100, 20_000)).shape)
    with pytest.raises(ModelError, match="101 rows of 20,000") as caught:
        check_dense((101, 20_000))
    assert caught.value.hint == "Send at most 100 rows at a time."
    with pytest.raises(ModelError) as caught:
        check_dense((1, 3_000_000))
    assert "TruncatedSVD" in caught.value.hint


# -- several tensors ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"input_ids": [1, 2]}], "Row 0: input 'attention_mask' is missing"),
        ([{"input_ids": [1], "attention_mask": [1], "more": 1}], "'more' is unknown"),
        ([[1, 2]], "Row 0: this is a list, not an object"),
        ([{"input_ids": [1], "attention_mask": [1]}, {"input_ids": [1, 2], "attention_mask": [1]}], "input_ids: \"inputs\" is ragged"),
        ([{"input_ids": [1.5], "attention_mask": [1]}], "input_ids: The tensor needs int64, got fractions"),
        ([], "empty"),
    ],
)  # fmt: skip
def test_a_wrong_tensor_is_named(rows, words, host, tmp_path):
    filed = kind_models.onnx_tokens(tmp_path)
    _, status, answer = asked(host, model_spec(filed.path, filed.format), rows)
    assert status == 422
    assert words in answer["detail"]


# -- pictures -----------------------------------------------------------------------------------------------------------
NCHW = validate_schema({"tensor": {"dtype": "float32", "shape": [-1, 3, 4, 6]}})
NHWC = validate_schema({"tensor": {"dtype": "uint8", "shape": [-1, -1, -1, 3]}})


def encoded(pixels, kind="PNG", **options):
    """[height, width, 3] of 8 bits as base64 of a picture."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def pixels():
    """Two pictures, 4 high and 6 wide."""
    return np.random.default_rng(3).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)


def test_a_tensor_of_pictures_is_known_by_its_shape():
    assert NCHW["tensor"] == {
        "dtype": "float32",
        "shape": [-1, 3, 4, 6],
        "encoding": "image",
        "layout": "NCHW",
        "scale": "0..1",
    }
    assert (NHWC["tensor"]["layout"], NHWC["tensor"]["scale"]) == ("NHWC", "0..255")
    plain = validate_schema({"tensor": {"dtype": "float32", "shape": [-1, 3, 4, 6], "encoding": "array"}})
    assert "layout" not in plain["tensor"]
    assert "encoding" not in validate_schema({"tensor": {"dtype": "float32", "shape": [-1, 7, 4, 6]}})["tensor"]


@pytest.mark.parametrize(
    "given",
    [
        {"shape": [-1, 7, 4, 6], "encoding": "image"}, {"shape": [-1, 3, 4, 6], "layout": "NHWC"}, {"shape": [-1, 3, 4, 6], "scale": "-1..1"},
        {"shape": [-1, 3, -1, -1], "resize": True}, {"shape": [-1, 3, 4, 6], "resize": "yes"}, {"shape": [-1, 3, 4, 6], "encoding": "jpeg"},
        {"shape": [-1, 3, 4, 6], "dtype": "uint8", "scale": "0..1"},
    ],
)  # fmt: skip
def test_a_schema_of_pictures_that_cannot_be_is_refused(given):
    with pytest.raises(SchemaError):
        validate_schema({"tensor": given})


@pytest.mark.parametrize(
    "sent",
    [
        lambda text: text, lambda text: f"data:image/png;base64,{text}", lambda text: {"b64": text}, lambda text: {"image": {"b64": text}},
        lambda text: [text], lambda text: "\n".join([text[:20], text[20:]]),
    ],
)  # fmt: skip
def test_a_picture_is_the_array_of_its_pixels(sent, pixels):
    wanted = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    found = check_rows(NCHW, [sent(encoded(picture)) for picture in pixels])
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted)


def test_arrays_and_pictures_come_together(pixels):
    wanted = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    assert np.array_equal(check_rows(NCHW, [wanted[0].tolist(), encoded(pixels[1])]), wanted)
    assert np.array_equal(check_rows(NCHW, wanted.tolist()), wanted)
    assert np.array_equal(check_rows(NHWC, encoded(pixels[0])), pixels[:1])


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_colours_become_the_model_s_own(mode, channels, pixels):
    from PIL import Image

    schema = validate_schema({"tensor": {"dtype": "uint8", "shape": [-1, 4, 6, channels], "layout": "NHWC"}})
    wanted = np.asarray(Image.fromarray(pixels[0]).convert(mode)).reshape(1, 4, 6, channels)
    assert np.array_equal(check_rows(schema, [encoded(pixels[0])]), wanted)


def test_sixteen_bits_of_grey_keep_their_light():
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.array([[0, 32_768], [65_535, 256]], np.uint16)).save(file, "PNG")
    schema = validate_schema({"tensor": {"dtype": "uint8", "shape": [-1, 2, 2, 1]}})
    assert check_rows(schema, base64.b64encode(file.getvalue()).decode()).reshape(-1).tolist() == [0, 128, 255, 1]


def test_a_picture_is_resized_where_the_schema_says_so(pixels):
    wide = np.kron(pixels[0], np.ones((2, 2, 1), np.uint8))
    schema = validate_schema(
        {"tensor": {"dtype": "float32", "shape": [-1, 3, 4, 6], "resize": True, "scale": "0..255"}}
    )
    found = check_rows(schema, [encoded(wide), encoded(pixels[0])])
    assert found.shape == (2, 3, 4, 6)
    assert found[1].max() > 1
    assert np.array_equal(found[1], pixels[0].transpose(2, 0, 1))


def bomb():
    """A picture of 20,000 x 20,000 pixels in a few hundred bytes: its head says so, and nothing more is there."""
    import struct
    import zlib

    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = part(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")
    ).decode()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda good: good[: len(good) // 2], "Row 1: "),
        (lambda good: "hello", "Row 1: the text is not base64"),
        (lambda good: base64.b64encode(b"GIF89a" + bytes(40)).decode(), "Row 1: the picture is no PNG or JPEG"),
        (lambda good: base64.b64encode(base64.b64decode(good)[:-30]).decode(), "Row 1: the picture is broken"),
        (lambda good: "data:image/png,abc", "the data: URL is not base64"),
        (lambda good: encoded(np.zeros((5, 6, 3))), "6 x 5 pixels (width x height), the model takes 6 x 4"),
        (lambda good: {"a": good, "b": good}, "an object with 2 keys is no picture"),
        (lambda good: bomb(), "20000 x 20000"),
    ],
)  # fmt: skip
def test_a_picture_that_does_not_do_names_its_row(make, words, pixels):
    good = encoded(pixels[0])
    with pytest.raises(SchemaError) as caught:
        check_rows(NCHW, [good, make(good)])
    assert caught.value.errors[0]["row"] == 1
    assert words in caught.value.message
    assert caught.value.hint


def test_a_picture_of_too_many_pixels_is_refused_before_one_is_unpacked():
    with pytest.raises(SchemaError, match="20000 x 20000 pixels are more than one request may hold"):
        check_rows(NHWC, [bomb()])


def test_many_large_pictures_are_refused_before_the_memory_for_them_is_taken():
    large = grey_picture(4_000, 4_000)
    with pytest.raises(SchemaError, match="3 pictures of shape") as caught:
        check_rows(NHWC, [large] * 3)
    assert caught.value.code == "too_many_rows"
    with pytest.raises(SchemaError, match="Row 2: 4000 x 4000 pixels are more"):
        check_rows(validate_schema({"tensor": {"dtype": "uint8", "shape": [-1, -1, -1, 1]}}), [large] * 3)


def test_pictures_of_one_request_are_of_one_size(pixels):
    with pytest.raises(SchemaError, match="Row 1 has shape"):
        check_rows(NHWC, [encoded(pixels[0]), encoded(pixels[0][:3])])


@pytest.mark.parametrize("name", ["onnx_image", "torch_image_pt2", "torch_image_script"])
def test_a_runner_opens_pictures_in_its_sandbox(name, host, tmp_path):
    filed = kind_models.FILES[name](tmp_path)
    schema = validate_schema({"tensor": {"dtype": "float32", "shape": [-1, 3, 4, 6]}})
    pictures = [encoded(np.round(np.array(row).transpose(1, 2, 0) * 255)) for row in filed.rows]
    spec = model_spec(filed.path, filed.format, schema=schema)
    assert near(asked(host, spec, pictures)[2]["predictions"], filed.expected)
    _, status, answer = asked(host, spec, [pictures[0], "AAAA"])
    assert (status, answer["code"], answer["errors"][0]["row"]) == (422, "picture_unfit", 1)


# -- any JSON -----------------------------------------------------------------------------------------------------------
ANY = validate_schema({"kind": "json"})


def test_rows_of_any_json_pass_as_they_are():
    rows = [{"deep": {"list": [1, "two", None]}}, "text", 3]
    assert check_rows(ANY, rows) == rows
    assert check_rows(ANY, rows[0]) == [rows[0]]
    assert valid(to_json_schema(ANY), {"inputs": rows})


@pytest.mark.parametrize(
    ("rows", "code"), [("text", "schema_mismatch"), ([], "schema_mismatch"), ([1] * 11, "too_many_rows")]
)
def test_what_is_no_rows_or_too_many_is_refused(rows, code):
    with pytest.raises(SchemaError) as caught:
        check_rows(ANY, rows, max_rows=10)
    assert caught.value.code == code


# -- refusals -----------------------------------------------------------------------------------------------------------
def refused(path, form):
    with pytest.raises(ModelError) as caught:
        formats.load(str(path), form)
    assert caught.value.hint
    return caught.value


def _unfit():
    import pandas
    from sklearn.cluster import DBSCAN, AgglomerativeClustering
    from sklearn.linear_model import LogisticRegression
    from sklearn.manifold import TSNE
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.preprocessing import StandardScaler

    x, y, _ = kind_models.iris()
    good = LogisticRegression(max_iter=300).fit(x, y)
    return {
        "dbscan": (DBSCAN().fit(x), "no predict() for new ones", "KNeighborsClassifier"),
        "agglomerative": (AgglomerativeClustering().fit(x), "no predict() for new ones", "KMeans"),
        "tsne": (TSNE(), "no transform() for new ones", "PCA"),
        "outliers": (LocalOutlierFactor().fit(x), "no predict()", "novelty=True"),
        "two": ((good, StandardScaler().fit(x)), "a tuple of 2 (LogisticRegression, StandardScaler)", "Pipeline"),
        "names": ([good, good], "a list of 2 (LogisticRegression, LogisticRegression)", "Pipeline"),
        "results": ({"auc": 0.9, "labels": ["a", "b"]}, "'auc': float, 'labels': list of 2", "joblib.dump"),
        "class": (LogisticRegression, "the class LogisticRegression itself", "fit(X, y)"),
        "frame": (pandas.DataFrame({"a": [1]}), "data (a pandas", "joblib.dump"),
        "array": (x, "data (a numpy.ndarray)", "joblib.dump"),
        "function": (np.mean, "the function 'mean'", "predict.py"),
        "unfitted": (LogisticRegression(), "never fitted", "fit()"),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(_unfit()))
def test_a_pickle_of_something_else_says_what_it_holds(name, tmp_path):
    found, message, hint = _unfit()[name]
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(found))
    error = refused(path, "sklearn")
    assert message in error.message
    assert hint in error.hint


def test_one_model_in_a_tuple_is_taken(host, tmp_path):
    found = fitted("classifier")
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps((found.model, {"auc": 0.9})))
    assert asked(host, model_spec(path), found.rows)[2]["predictions"] == found.expected


@pytest.mark.parametrize(
    ("module", "hint"),
    [("catboost", "save_model('model.onnx'"), ("imblearn.pipeline", "requirements.txt that names imblearn")],
)
def test_a_missing_library_is_named_with_the_way_out(module, hint, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x04c" + f"{module}\nModel\n".encode() + b")\x81.")
    error = refused(path, "sklearn")
    assert module.partition(".")[0] in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    "name",
    [
        "xgb_regressor_ubj",
        "lightgbm_regressor_text",
        "onnx_two_outputs",
        "torch_heads_pt2",
        "torch_heads_script",
        "pickled_booster",
    ],
)
def test_half_a_file_says_to_save_it_again(name, tmp_path):
    filed = kind_models.FILES[name](tmp_path)
    whole = filed.path.read_bytes()
    filed.path.write_bytes(whole[: len(whole) // 2])
    error = refused(filed.path, filed.format)
    assert error.code == "truncated"
    assert "again" in error.hint
    assert "/src/" not in error.message


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("xgboost", "onnx_two_outputs"),
        ("lightgbm", "xgb_regressor_ubj"),
        ("onnx", "lightgbm_regressor_text"),
        ("torchscript", "onnx_two_outputs"),
        ("torch_export", "xgb_regressor_ubj"),
        ("skops", "torch_heads_script"),
    ],
)
def test_a_file_of_another_library_is_refused_in_words(form, name, tmp_path):
    error = refused(kind_models.FILES[name](tmp_path).path, form)
    assert error.code == ("weights_only" if form == "torchscript" else "other_format")
    assert "Traceback" not in error.message
