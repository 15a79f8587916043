"""What a person reads after pushing data that does not fit: found by acceptance testing, each names the column and the fix."""

from __future__ import annotations

import csv
import io

import pytest

from mlops.core import ids
from mlops.runtime import inspect
from mlops.runtime.inspect import FormatError
from mlops.runtime.schema import SchemaError, infer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runner_host")]


def table(rows) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def test_a_reference_without_one_of_the_columns_names_it(push, tiny) -> None:
    rows = [{name: value for name, value in row.items() if name != "months"} for row in tiny["churn_pipeline"].rows]
    pushed = push(tiny["churn_pipeline"].path, "churn", reference=table([{**row, "churned": 1} for row in rows]))
    assert pushed.shown["status"] == "failed"
    assert "lacks the column 'months'" in pushed.error["message"]
    assert "'churned'" in pushed.error["message"]
    assert pushed.error["hint"]


def test_one_word_in_a_number_column_is_found_and_named(push, tiny) -> None:
    rows = [dict(row) for _ in range(4) for row in tiny["churn_pipeline"].rows]
    rows[5]["months"] = "forty"
    pushed = push(tiny["churn_pipeline"].path, "churn", reference=table(rows))
    assert pushed.shown["status"] == "failed"
    assert "Column 'months' holds text ('forty' in row 5 of the reference)" in pushed.error["message"]
    assert "comma" in pushed.error["hint"]


def test_a_sample_of_another_width_is_refused(push, tiny) -> None:
    pushed = push(tiny["cluster"].path, "cluster", sample={"inputs": [[1.0] * 9]})
    assert pushed.shown["status"] == "failed"
    assert "9 values" in pushed.error["message"]


def test_the_data_that_lacks_a_column_says_which() -> None:
    describe = {"inputs": [{"name": name, "type": "double"} for name in ("age", "plan", "spend")]}
    with pytest.raises(SchemaError) as refused:
        infer({"age": [1], "spend": [2], "y": [0]}, describe=describe)
    assert "lacks the column 'plan'" in refused.value.message
    with pytest.raises(SchemaError) as refused:
        infer({"q": [1], "z": [2]}, describe=describe)
    assert "(q, z)" in refused.value.message


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_that_is_not_utf8_is_called_so(encoding: str) -> None:
    with pytest.raises(FormatError) as refused:
        inspect.detect_table("ref.csv", "city,x\nKöln,1\n".encode(encoding))
    assert refused.value.code == "not_utf8"
    assert "UTF-8" in refused.value.hint
    with pytest.raises(FormatError) as refused:
        inspect.detect_table("ref.csv", bytes(range(256)))
    assert refused.value.code == "unknown_table_format"


@pytest.mark.parametrize("name", ["a_b", "Fraud Model", "ünï_codé", "_x_", "a" * 80])
def test_the_name_that_is_proposed_would_be_taken(name: str) -> None:
    assert ids.SLUG.match(ids.to_slug(name, ""))


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_body_that_breaks_off_inside_the_file_is_told_so_and_leaves_nothing(world, cut: int) -> None:
    head = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="m.joblib"\r\n\r\n'
    whole = head + b"x" * 1000 + b"\r\n--xx--\r\n"
    answer = world.api("dan").post(
        "/api/v1/acme/models/cut/versions", whole[: -10 - cut], content_type="multipart/form-data; boundary=xx"
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "upload_incomplete")
    assert "again" in answer.json()["hint"]
    assert world.api("dan").get("/api/v1/acme/models/cut").status_code == 404
