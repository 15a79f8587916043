"""Models of every kind on the road a user takes: pushed, validated, deployed, asked over HTTP, and told about on their pages."""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.models import ModelVersion
from tests import kind_models

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nothing_left", "runner_host")]

fitted = functools.cache(lambda name: kind_models.ESTIMATORS[name]())


@pytest.fixture
def live(push: Callable[..., Any], world: Any, tmp_path: Path) -> Callable[..., Any]:
    """``live("pca")``: the model pushed and deployed; what it is and a call of it."""

    def make(name: str, **fields: Any) -> tuple[ModelVersion, Callable[..., Any]]:
        estimator = name in kind_models.ESTIMATORS
        filed = kind_models.filed(fitted(name), "joblib", tmp_path) if estimator else kind_models.FILES[name](tmp_path)
        done = push(filed.path, "kinds", deploy="kinds", **fields)
        wrong = [found for found in done.shown["findings"] if found["level"] == "error"]
        assert (done.shown["status"], wrong) == ("ready", [])

        def ask(inputs: Any, path: str = "/api/v1/predict/acme/kinds", key: str = "inputs") -> tuple[int, Any]:
            answer = world.api("dan").post(path, {key: inputs}, format="json")
            return answer.status_code, answer.json()

        return ModelVersion.objects.get(), ask

    return make


def near(got: Any, wanted: Any) -> bool:
    return bool(np.allclose(np.array(got, dtype=float), np.array(wanted, dtype=float), atol=1e-5))


def grey(value: int, size: tuple[int, int] = (6, 4)) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_texts(live) -> None:
    version, ask = live(
        "text_pipeline", sample={"inputs": kind_models.TEXTS, "expected": fitted("text_pipeline").expected}
    )
    assert [column["type"] for column in version.schema["inputs"]] == ["string"]
    for rows in (kind_models.TEXTS, [{"text": text} for text in kind_models.TEXTS]):
        status, answer = ask(rows)
        assert (status, answer["predictions"]) == (200, fitted("text_pipeline").expected)
    assert (
        ask(kind_models.TEXTS, "/acme/v1/models/kinds:predict", "instances")[1]["predictions"]
        == fitted("text_pipeline").expected
    )
    status, answer = ask(["good", 5])
    assert (status, answer["errors"][0]["row"]) == (422, 1)


def test_pictures_in_every_dialect(live) -> None:
    version, ask = live("onnx_image")
    assert version.schema["tensor"]["encoding"] == "image"
    wanted = [[51 / 255, 0.0, 0.0]]
    for row in (grey(51), {"b64": grey(51)}, f"data:image/png;base64,{grey(51)}"):
        status, answer = ask([row])
        assert status == 200, answer
        assert near(answer["predictions"], wanted)
    assert near(ask([{"b64": grey(51)}], "/acme/v1/models/kinds:predict", "instances")[1]["predictions"], wanted)
    assert near(ask([grey(51)], "/api/v1/predict/acme/kinds/invocations")[1]["predictions"], wanted)
    tensor = {
        "name": "input",
        "shape": [1],
        "datatype": "BYTES",
        "data": [grey(51)],
        "parameters": {"content_type": "base64"},
    }
    status, answer = ask([tensor], "/acme/v2/models/kinds/infer")
    assert status == 200, answer
    assert near(answer["outputs"][0]["data"], wanted[0])


def test_a_picture_that_does_not_do(live) -> None:
    _, ask = live("onnx_image")
    for row, words in ((grey(1, (5, 4)), "5 x 4 pixels"), ("AAAA", "no PNG or JPEG"), ("?", "not base64")):
        status, answer = ask([grey(51), row])
        assert (status, answer["code"], answer["errors"][0]["row"]) == (422, "picture_unfit", 1)
        assert words in answer["detail"]


def test_pictures_are_resized_where_their_schema_says_so(live) -> None:
    schema = {"tensor": {"dtype": "float32", "shape": [-1, 3, 4, 6], "resize": True}}
    _, ask = live("onnx_image", metadata={"schema": schema})
    assert near(ask([grey(51, (60, 40))])[1]["predictions"], [[51 / 255, 0.0, 0.0]])


def test_rows_of_text_ids(live, tmp_path) -> None:
    version, ask = live("torch_tokens_pt2")
    assert version.schema["tensor"]["dtype"] == "int64"
    filed = kind_models.torch_tokens_script(tmp_path)  # the same network
    assert near(ask(filed.rows)[1]["predictions"], filed.expected)
    assert ask([[1.5, 2, 3, 4, 5]])[0] == 422


def test_several_tensors_by_name(live) -> None:
    version, ask = live(
        "onnx_tokens", sample={"inputs": {"input_ids": [[1, 2]], "attention_mask": [[1, 0]]}, "expected": [1.0]}
    )
    assert (version.schema["kind"], [each["name"] for each in version.schema["tensors"]]) == (
        "json",
        ["input_ids", "attention_mask"],
    )
    assert ask([{"input_ids": [1, 2, 3], "attention_mask": [1, 1, 0]}])[1]["predictions"] == [3.0]
    tensors = [
        {"name": name, "shape": [1, 2], "datatype": "INT64", "data": data}
        for name, data in (("input_ids", [4, 5]), ("attention_mask", [1, 1]))
    ]
    assert ask(tensors, "/acme/v2/models/kinds/infer")[1]["outputs"][0]["data"] == [9.0]
    status, answer = ask([{"input_ids": [1, 2, 3]}])
    assert (status, answer["errors"][0]["column"]) == (422, "attention_mask")


@pytest.mark.parametrize(
    "name",
    [
        "pca",
        "column_transformer",
        "tfidf",
        "clusterer",
        "outliers",
        "multi_output_regressor",
        "multi_output_classifier",
        "multilabel",
        "xgb_multilabel",
    ],
)
def test_kinds_of_answers(name, live) -> None:
    found = fitted(name)
    words = name == "column_transformer"  # which a row made up from the schema would not have
    version, ask = live(name, **({"sample": found.rows} if words else {}))
    assert version.schema["output"]["task"] == found.task
    status, answer = ask(found.rows)
    assert status == 200, answer
    assert near(answer["predictions"], found.expected)
    if found.probabilities is not None:
        assert json.dumps(np.shape(answer["probabilities"][0][0])) == json.dumps(np.shape(found.probabilities[0][0]))


@pytest.mark.parametrize("name", ["multi_output_classifier", "onnx_image", "onnx_tokens", "onnx_two_outputs"])
def test_what_cannot_be_explained_column_by_column_says_so(name, live) -> None:
    version, ask = live(name)
    status, answer = ask(version.example, "/api/v1/predict/acme/kinds/explain")
    assert (status, answer["code"]) == (422, "not_explainable")


def test_batches_of_pictures_and_of_json(live) -> None:
    _, ask = live("onnx_image")
    rows = [grey(51), {"b64": grey(51)}, "AAAA"]
    status, answer = ask(rows, "/api/v1/predict/acme/kinds/batch")
    assert status == 200, answer
    assert near([answer["results"][0]["prediction"]], [[51 / 255, 0.0, 0.0]])
    assert answer["results"][2]["error"]["code"] == "picture_unfit"


def test_a_single_logit_is_no_probability_also_when_it_looks_like_one(live, tmp_path, monkeypatch) -> None:
    import torch

    class Logit(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1, bias=False)
            self.layer.weight.data[:] = torch.tensor([[1.0, 0.0]])

        def forward(self, x):
            return self.layer(x)

    def filed(folder: Path) -> kind_models.Filed:
        torch.jit.script(Logit()).save(str(folder / "logit.pt"))
        return kind_models.Filed(folder / "logit.pt", "torchscript", [[0.3, 0.0]], ["yes"], "classifier")

    monkeypatch.setitem(kind_models.FILES, "logit", filed)
    version, ask = live("logit", metadata={"output": {"task": "classifier", "classes": ["no", "yes"]}})
    assert version.schema["output"]["activation"] == "sigmoid"
    status, said = ask([[0.3, 0.0]])
    assert (status, said["predictions"]) == (200, ["yes"])
    assert near(said["probabilities"], [[1 - 1 / (1 + np.exp(-0.3)), 1 / (1 + np.exp(-0.3))]])


def test_several_heads_of_a_network(live, tmp_path) -> None:
    _, ask = live("torch_heads_pt2")
    filed = kind_models.torch_heads_script(tmp_path)
    status, answer = ask(filed.rows)
    assert (status, set(answer["predictions"][0])) == (200, {"output_0", "output_1"})
    assert near(answer["predictions"][0]["output_1"], filed.expected[0]["output_1"])


@pytest.mark.parametrize("name", ["onnx_image", "onnx_tokens", "text_pipeline", "multi_output_classifier", "pca"])
def test_its_pages_and_documents_tell_how_to_ask_it(name, live, world, client) -> None:
    version, ask = live(name)
    client.force_login(world.dan)
    page = client.get("/acme/deployments/kinds/").content.decode()
    assert {
        "onnx_image": 'type="file"',
        "onnx_tokens": "input_ids: int64",
        "text_pipeline": "<textarea",
        "pca": 'data-type="double"',
    }.get(name, "data-tryit") in page
    document = world.api("dan").get("/api/v1/predict/acme/kinds/openapi.json").json()
    example = document["paths"]["/api/v1/predict/acme/kinds"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    assert ask(example["inputs"])[0] == 200
    assert client.get(f"/acme/models/kinds/versions/{version.number}/").status_code == 200
    assert client.get("/acme/models/kinds/").status_code == 200


def test_a_clusterer_without_predict_is_refused_with_the_way_out(push, tmp_path) -> None:
    import joblib
    from sklearn.cluster import DBSCAN

    path = tmp_path / "model.joblib"
    joblib.dump(DBSCAN().fit(kind_models.iris()[0]), path)
    error = push(path, "kinds").error
    assert "no predict() for new ones" in error["message"]
    assert "KMeans" in error["hint"]
