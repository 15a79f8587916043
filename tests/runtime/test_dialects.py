"""V2, MLflow and KServe on the wire: what a runner makes of a body, with real models. Nothing a client sends is the model's fault."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.runtime import formats
from mlops.runtime.handlers import Session
from mlops.runtime.limits import Limits
from tests.runner_host import model_spec

COLUMN_TYPES = {"double": "FP64", "string": "BYTES", "long": "INT64", "boolean": "BOOL"}


@pytest.fixture(scope="module")
def session(tiny):
    """``session("iris_joblib")``: the loaded model, made once."""
    made: dict[str, Session] = {}

    def get(name: str) -> Session:
        if name not in made:
            model = tiny[name]
            spec = model_spec(
                model.path, model.format, schema=model.schema, name=name, version=3, limits=Limits(rows=500)
            )
            made[name] = Session(formats.load(str(model.path), model.format), spec)
        return made[name]

    return get


class Reply:
    """An answer apart: what the client gets, and what the log keeps."""

    def __init__(self, status: int, header: dict[str, Any], body: bytes) -> None:
        self.status, self.header = status, header
        asked, answered = header.get("log") or [0, 0]
        end = len(body) - asked - answered
        self.body = body[:end]
        self.logged = (body[end : end + asked], body[end + asked :])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def output(self, name: str) -> Any:
        return next(output for output in self.json["outputs"] if output["name"] == name)


def ask(session: Session, dialect: str, body: Any, **header: Any) -> Reply:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(*session.handle({"op": "predict", "dialect": dialect, **header}, body))


def refused(reply: Reply, status: int = 400) -> str:
    assert reply.status == status, (reply.status, reply.body)
    return reply.json["detail"] + " " + reply.json["hint"]


def tensor(
    name: str, values: Any, datatype: str = "FP64", shape: list[int] | None = None, **more: Any
) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or list(np.shape(values)), "data": values, **more}


def columns_of(model: Any) -> list[dict[str, Any]]:
    """One tensor per column of a tiny table model's rows."""
    kinds = {column["name"]: COLUMN_TYPES[column["type"]] for column in model.schema["inputs"]}
    return [tensor(name, [row[name] for row in model.rows], kinds[name], [len(model.rows)]) for name in model.rows[0]]


def matrix(model: Any) -> list[list[float]]:
    return [list(row.values()) for row in model.rows]


# -- V2: what real clients send -----------------------------------------------------------------------------------------


def test_one_tensor_in_the_schemas_order_is_answered_like_the_library(tiny, session) -> None:
    iris = tiny["iris_joblib"]
    reply = ask(
        session("iris_joblib"), "v2", {"id": "a-7", "inputs": [tensor("anything", matrix(iris))]}, model_name="flowers"
    )
    assert reply.status == 200, reply.body
    said = reply.json
    assert {"model_name": "flowers", "model_version": "3", "id": "a-7", "parameters": {}}.items() <= said.items()
    assert reply.output("predict") | {"parameters": None} == {
        "name": "predict", "shape": [3], "datatype": "INT64", "data": iris.expected, "parameters": None,
    }  # fmt: skip
    chances = reply.output("predict_proba")
    assert (chances["shape"], chances["datatype"]) == ([3, 3], "FP64")
    assert chances["data"] == pytest.approx(sum(iris.probabilities, []))


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_a_tensor_per_column_in_any_order(tiny, session, shape: list[int]) -> None:
    iris = tiny["iris_joblib"]
    inputs = [each | {"shape": shape} for each in reversed(columns_of(iris))]
    assert ask(session("iris_joblib"), "v2", {"inputs": inputs}).output("predict")["data"] == iris.expected


def test_flat_and_nested_data_are_the_same(tiny, session) -> None:
    iris = tiny["iris_joblib"]
    flat = tensor("x", sum(matrix(iris), []), shape=[3, 4])
    assert ask(session("iris_joblib"), "v2", {"inputs": [flat]}).output("predict")["data"] == iris.expected


def test_text_columns_and_missing_values(tiny, session) -> None:
    churn = tiny["churn_pipeline"]
    reply = ask(session("churn_pipeline"), "v2", {"inputs": columns_of(churn)})
    assert (reply.output("predict")["datatype"], reply.output("predict")["data"]) == ("BYTES", churn.expected)
    assert json.loads(reply.logged[0])["inputs"][0] == list(churn.rows[0].values())


def test_a_model_of_one_text_column_takes_any_name(tiny, session) -> None:
    review = tiny["text_pipeline"]
    texts = [row["text"] for row in review.rows]
    reply = ask(session("text_pipeline"), "v2", {"inputs": [tensor("input-0", texts, "BYTES", [2, 1])]})
    assert reply.output("predict")["data"] == review.expected


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_binary_tensors_both_ways(tiny, session, datatype: str) -> None:
    iris = tiny["iris_joblib"]
    raw = np.array(matrix(iris), {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}[datatype]).tobytes()
    head = {
        "parameters": {"binary_data_output": True},
        "inputs": [{"name": "x", "shape": [3, 4], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}],
    }
    text = json.dumps(head).encode()
    reply = ask(session("iris_joblib"), "v2", text + raw, json_bytes=str(len(text)))
    assert reply.status == 200, reply.body
    assert reply.header["content_type"] == "application/octet-stream"
    size = int(reply.header["headers"]["Inference-Header-Content-Length"])
    outputs = json.loads(reply.body[:size])["outputs"]
    assert all("data" not in output for output in outputs)
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    assert sum(sizes) == len(reply.body) - size
    assert np.frombuffer(reply.body[size : size + sizes[0]], "<i8").tolist() == iris.expected
    assert np.frombuffer(reply.body[size + sizes[0] :], "<f8") == pytest.approx(sum(iris.probabilities, []), abs=1e-2)
    named = json.loads(reply.logged[0])["inputs"]
    assert len(named) == 3
    assert json.loads(reply.logged[1])["predictions"] == iris.expected


def test_binary_text_both_ways(tiny, session) -> None:
    churn = tiny["churn_pipeline"]
    plans = [row["plan"].encode() for row in churn.rows]
    parts = [
        b"".join(struct.pack("<I", len(plan)) + plan for plan in plans),
        np.array([row["months"] for row in churn.rows], "<f4").tobytes(),
        np.array([np.nan if row["spend"] is None else row["spend"] for row in churn.rows], "<f8").tobytes(),
    ]
    head = json.dumps(
        {
            "inputs": [
                {"name": name, "shape": [4, 1], "datatype": kind, "parameters": {"binary_data_size": len(part)}}
                for (name, kind), part in zip(
                    [("plan", "BYTES"), ("months", "FP32"), ("spend", "FP64")], parts, strict=True
                )
            ],
            "outputs": [{"name": "predict", "parameters": {"binary_data": True}}],
        }
    ).encode()
    reply = ask(session("churn_pipeline"), "v2", head + b"".join(parts), json_bytes=str(len(head)))
    size = int(reply.header["headers"]["Inference-Header-Content-Length"])
    raw, labels = reply.body[size:], []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        labels.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    assert labels == churn.expected
    assert json.loads(reply.logged[0])["inputs"][0][2] is None  # NaN is a missing value


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", _raw_deflate)]
)
def test_compressed_bodies_and_the_cap_of_what_they_unpack_to(tiny, session, encoding: str, pack: Any) -> None:
    iris = tiny["iris_joblib"]
    body = json.dumps({"inputs": [tensor("x", matrix(iris))]}).encode()
    assert ask(session("iris_joblib"), "v2", pack(body), encoding=encoding).output("predict")["data"] == iris.expected
    bomb = pack(b" " * (50 << 20))
    refused(ask(session("iris_joblib"), "v2", bomb, encoding=encoding, body_limit=1 << 20), 413)
    for broken in (pack(body)[:-9], pack(body) + b"more", b"no such thing", b""):
        refused(ask(session("iris_joblib"), "v2", broken, encoding=encoding), 400)
    refused(ask(session("iris_joblib"), "v2", body, encoding="br"), 415)


def test_content_types_of_mlservers_clients(tiny, session) -> None:
    review = tiny["text_pipeline"]
    coded = [base64.b64encode(row["text"].encode()).decode() for row in review.rows]
    inputs = [tensor("text", coded, "BYTES", [2], parameters={"content_type": "base64"})]
    assert ask(session("text_pipeline"), "v2", {"inputs": inputs}).output("predict")["data"] == review.expected
    churn = tiny["churn_pipeline"]
    rows = [json.dumps(row) for row in churn.rows]
    inputs = [tensor("rows", rows, "BYTES", [4], parameters={"content_type": "pd_json"})]
    assert ask(session("churn_pipeline"), "v2", {"inputs": inputs}).output("predict")["data"] == churn.expected
    plans = tensor(
        "plan", [json.dumps(row["plan"]) for row in churn.rows], "BYTES", [4], parameters={"content_type": "pd_json"}
    )
    assert ask(session("churn_pipeline"), "v2", {"inputs": [plans, *columns_of(churn)[1:]]}).status == 200
    for content_type, data in (("base64", ["!!"]), ("pd_json", ["{"]), ("base64", ["/w=="]), ("other", ["x"])):
        bad = tensor("text", data, "BYTES", [1], parameters={"content_type": content_type})
        refused(ask(session("text_pipeline"), "v2", {"inputs": [bad]}))


def test_outputs_are_chosen_and_an_unknown_one_is_named(tiny, session) -> None:
    inputs = [tensor("x", matrix(tiny["iris_joblib"]))]
    only = ask(session("iris_joblib"), "v2", {"inputs": inputs, "outputs": [{"name": "predict_proba"}]})
    assert [output["name"] for output in only.json["outputs"]] == ["predict_proba"]
    text = refused(ask(session("iris_joblib"), "v2", {"inputs": inputs, "outputs": [{"name": "chances"}]}))
    assert "chances" in text
    assert "predict_proba" in text
    price = tiny["regressor_pickle"]
    refused(
        ask(
            session("regressor_pickle"),
            "v2",
            {"inputs": [tensor("x", matrix(price))], "outputs": [{"name": "predict_proba"}]},
        )
    )


def test_a_tensor_model_takes_its_tensor(tiny, session) -> None:
    mlp = tiny["torchscript"]
    reply = ask(session("torchscript"), "v2", {"inputs": [tensor("x", mlp.rows, "FP32")]})
    assert reply.output("predict")["data"] == mlp.expected
    refused(ask(session("torchscript"), "v2", {"inputs": [tensor("x", [[1.0, 2.0]], "FP32")]}), 422)
    refused(ask(session("torchscript"), "v2", {"inputs": [tensor("x", ["a"] * 4, "BYTES", [1, 4])]}))
    refused(ask(session("torchscript"), "v2", {"inputs": [tensor("x", [1.0], shape=[1])] * 2}))


def test_a_tensor_model_takes_its_tensor_by_name_from_mlflow_and_checks_it(tiny, session) -> None:
    mlp = tiny["torchscript"]
    reply = ask(session("torchscript"), "mlflow", {"inputs": {"x": mlp.rows}})
    assert reply.json["predictions"] == mlp.expected
    refused(ask(session("torchscript"), "mlflow", {"inputs": {"x": [[1.0, 2.0]]}}), 422)
    refused(ask(session("torchscript"), "mlflow", {"inputs": {"x": [1.0, 2.0]}}), 422)
    refused(ask(session("torchscript"), "mlflow", {"inputs": {"x": mlp.rows, "y": mlp.rows}}))
    refused(ask(session("torchscript"), "mlflow", {"inputs": {}}))


def test_an_id_is_made_when_none_came(tiny, session) -> None:
    inputs = [tensor("x", matrix(tiny["iris_joblib"]))]
    base = "0" * 12 + "7" + "0" * 19
    assert ask(session("iris_joblib"), "v2", {"inputs": inputs}, base_id=base).json["id"].replace("-", "") == base
    assert ask(session("iris_joblib"), "v2", {"inputs": inputs}).json["id"]


X = [[5.1, 3.5, 1.4, 0.2]]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([tensor("x", X, shape=[2, 4])], "asks for 8 values"),
        ([tensor("x", X, shape=[2**62, 4])], "rows"),
        ([tensor("x", X, shape=[1, 2**62])], "asks for"),
        ([tensor("x", X, shape=[2**70, 2**70])], "shape"),
        ([tensor("x", [], shape=[0, 4])], "1 or more"),
        ([tensor("x", X, shape=[1, -4])], "1 or more"),
        ([tensor("x", X, shape=[True, 4])], "shape"),
        ([tensor("x", X, shape=[1] * 9)], "shape"),
        ([tensor("x", X, "FP8")], "datatype"),
        ([tensor("x", [["a"] * 4])], "not a value"),
        ([tensor("x", [[1, 2, 3, 300]], "UINT8")], "does not fit"),
        ([tensor("x", [[1, [2], 3, 4]], shape=[1, 4])], "mixes"),
        ([tensor("x", [[[[[[1, 2, 3, 4]]]]]], shape=[1, 4])], "x"),
        ([{"name": "x", "shape": [1, 4], "datatype": "FP64"}], "no data"),
        ([{"name": "x", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}], "bytes are left"),
        ([tensor("x", X, parameters={"shared_memory_region": "r"})], "shared memory"),
        ([tensor("x", [[1.0, 2.0]])], "4 columns"),
        ([tensor("sepal_length", [1.0], shape=[1])], "missing"),
        ([tensor("a", [1.0]), tensor("b", [1.0, 2.0])], "different numbers of rows"),
        ([tensor("a", [1.0]), tensor("a", [1.0])], "one name"),
        ([tensor("a", [1.0]), tensor("b", [[1.0, 2.0]])], "no column"),
        ([tensor("x", [X])], "shape"),
        (["x"], "object"),
        ([], "inputs"),
        ("x", "inputs"),
    ],
)  # fmt: skip
def test_bad_tensors_are_named_before_anything_is_allocated(session, inputs: Any, said: str) -> None:
    reply = ask(session("iris_joblib"), "v2", {"inputs": inputs})
    assert reply.status in (400, 413, 422), reply.body
    assert said in reply.json["detail"] + reply.json["hint"]


@pytest.mark.parametrize(("size", "raw"), [("9999", b""), ("-1", b""), ("x", b""), ("", b"tail"), ("3", b"tail")])
def test_a_header_length_that_lies_is_the_clients_mistake(session, size: str, raw: bytes) -> None:
    body = json.dumps({"inputs": [tensor("x", X)]}).encode() + raw
    assert ask(session("iris_joblib"), "v2", body, json_bytes=size).status == 400


# -- MLflow -------------------------------------------------------------------------------------------------------------


def test_every_json_form_of_mlflow(tiny, session) -> None:
    churn = tiny["churn_pipeline"]
    names, data = list(churn.rows[0]), [list(row.values()) for row in churn.rows]
    extra = [row | {"surplus": 1} for row in churn.rows]
    forms = [
        {"dataframe_split": {"columns": names, "data": data}},
        {"dataframe_split": {"columns": names[::-1], "index": [0, 1, 2, 3], "data": [row[::-1] for row in data]}},
        {"dataframe_split": {"data": data}},
        {"dataframe_split": {"columns": [*names, "surplus"], "data": [[*row, 1] for row in data]}},
        {"dataframe_records": churn.rows, "params": {"any": 1}},
        {"dataframe_records": extra},
        {"instances": churn.rows},
        {"instances": data},
        {"inputs": data},
        {"inputs": {name: [row[name] for row in churn.rows] for name in names}},
        {"inputs": {name: [[row[name]] for row in churn.rows] for name in names} | {"surplus": [1, 1, 1, 1]}},
    ]
    for form in forms:
        reply = ask(session("churn_pipeline"), "mlflow", form)
        assert (reply.status, reply.body) == (200, reply.body), form
        assert reply.json == {"predictions": churn.expected}, form
        assert len(json.loads(reply.logged[0])["inputs"]) == 4
    assert ask(session("churn_pipeline"), "mlflow", {"inputs": churn.rows[0]}).json == {
        "predictions": churn.expected[:1]
    }
    review = tiny["text_pipeline"]
    texts = [row["text"] for row in review.rows]
    assert ask(session("text_pipeline"), "mlflow", {"inputs": texts}).json == {"predictions": review.expected}
    mlp = tiny["torchscript"]
    assert ask(session("torchscript"), "mlflow", {"inputs": mlp.rows}).json == {"predictions": mlp.expected}


def test_csv_and_parquet_are_read_with_the_schemas_types(tiny, session) -> None:
    import pandas

    churn = tiny["churn_pipeline"]
    frame = pandas.DataFrame(churn.rows)
    csv = frame.to_csv(index=False).encode()
    parquet = io.BytesIO()
    frame.to_parquet(parquet)
    for body, content_type in (
        (csv, "text/csv; charset=utf-8"),
        (parquet.getvalue(), "application/vnd.apache.parquet"),
    ):
        reply = ask(session("churn_pipeline"), "mlflow", body, content_type=content_type)
        assert reply.json == {"predictions": churn.expected}, content_type
        for broken in (b"", body[: len(body) // 2], b"PAR1" + bytes(64) + b"PAR1", b'a,b\n"', b"\xff\xfe"):
            assert ask(session("churn_pipeline"), "mlflow", broken, content_type=content_type).status in (200, 400, 422)
    many = pandas.DataFrame(churn.rows * 200)
    parquet = io.BytesIO()
    many.to_parquet(parquet)
    refused(ask(session("churn_pipeline"), "mlflow", many.to_csv(index=False).encode(), content_type="text/csv"), 413)
    refused(
        ask(session("churn_pipeline"), "mlflow", parquet.getvalue(), content_type="application/vnd.apache.parquet"), 413
    )
    assert "plan" in refused(ask(session("churn_pipeline"), "mlflow", b"months,spend\n1,2\n", content_type="text/csv"))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"[1]", "The input must be a JSON dictionary with exactly one of the input fields"),
        ({"instances": [], "inputs": []}, "The input must be a JSON dictionary with exactly one of the input fields"),
        ({}, "The input must be a JSON dictionary with exactly one of the input fields"),
        ({"dataframe_split": []}, "Dataframe split format must be a dictionary. Got list"),
        ({"dataframe_records": {}}, "Dataframe records format must be a list of records. Got dictionary"),
        (b"{oh", "Ensure that input is a valid JSON formatted string"),
    ],
)
def test_the_messages_mlflow_clients_match(session, body: Any, text: str) -> None:
    assert text in refused(ask(session("iris_joblib"), "mlflow", body))


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json; charset=latin-1", "text/csv; header=present"]
)
def test_other_content_types_are_415(session, content_type: str) -> None:
    refused(ask(session("iris_joblib"), "mlflow", b"x", content_type=content_type), 415)


# -- KServe V1 ----------------------------------------------------------------------------------------------------------


def test_kserve_instances_as_lists_objects_and_bare_values(tiny, session) -> None:
    iris, review = tiny["iris_joblib"], tiny["text_pipeline"]
    for rows in (matrix(iris), iris.rows):
        assert ask(session("iris_joblib"), "kserve", {"instances": rows}).json == {"predictions": iris.expected}
    texts = [row["text"] for row in review.rows]
    assert ask(session("text_pipeline"), "kserve", {"instances": texts}).json == {"predictions": review.expected}
    for body in ({}, {"instances": {}}, [], {"instances": 7}):
        refused(ask(session("iris_joblib"), "kserve", body))
    refused(ask(session("iris_joblib"), "kserve", {"instances": [[1, 2]]}), 422)


# -- anything at all ----------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["sepal_length", "sepal_width", "petal_length", "petal_width", "x", ""])
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5))
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
_TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": _NAMES | _SCALARS,
        "shape": st.lists(st.integers(-1, 5) | st.integers(0, 2**65), max_size=4) | _JSON,
        "datatype": st.sampled_from(["FP32", "FP64", "BYTES", "BOOL", "INT8", "UINT64", "X"]) | _SCALARS,
        "data": _JSON | st.lists(_SCALARS, min_size=4, max_size=4),
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-2, 40) | _SCALARS, "content_type": st.sampled_from(["np", "pd_json", "base64"])}) | _JSON,
    },
)  # fmt: skip
_V2 = st.fixed_dictionaries(
    {"inputs": st.lists(_TENSOR, max_size=4)}, optional={"id": _SCALARS, "outputs": _JSON, "parameters": _JSON}
)
_QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_QUICK
@given(body=_V2, raw=st.binary(max_size=60), lie=st.integers(-3, 3), sized=st.booleans())
def test_no_v2_request_is_our_mistake(session, body: Any, raw: bytes, lie: int, sized: bool) -> None:
    text = json.dumps(body).encode()
    extra = {"json_bytes": str(len(text) + lie)} if sized else {}
    for name in ("iris_joblib", "churn_pipeline", "torchscript"):
        assert ask(session(name), "v2", text + raw if sized else text, **extra).status in (200, 400, 413, 415, 422)


@_QUICK
@given(
    body=st.dictionaries(st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params"]), _JSON | st.fixed_dictionaries({"columns": _JSON, "data": _JSON}), max_size=2),
)  # fmt: skip
def test_no_mlflow_or_kserve_request_is_our_mistake(session, body: Any) -> None:
    for name in ("iris_joblib", "text_pipeline", "torchscript"):
        for dialect in ("mlflow", "kserve"):
            assert ask(session(name), dialect, body).status in (200, 400, 413, 415, 422), (name, dialect)


@_QUICK
@given(
    body=st.binary(max_size=200),
    content_type=st.sampled_from(["text/csv", "application/vnd.apache.parquet", "application/json"]),
)
def test_no_bytes_are_our_mistake(session, body: bytes, content_type: str) -> None:
    for start in (b"", b"PAR1", b"sepal_length,sepal_width,petal_length,petal_width\n", b'{"inputs":'):
        for dialect, more in (
            ("mlflow", {}),
            ("kserve", {}),
            ("v2", {"encoding": "gzip"}),
            ("v2", {"json_bytes": "10"}),
        ):
            reply = ask(session("iris_joblib"), dialect, start + body, content_type=content_type, **more)
            assert reply.status in (200, 400, 413, 415, 422), reply.body
