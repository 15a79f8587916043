"""From bodies to named rows: every shape a client may send, and everything a hostile runner may say."""

from __future__ import annotations

import uuid

import orjson
import pytest

from mlops.core import ids
from serving import records
from serving.spool import Record

SCHEMA = {
    "kind": "table",
    "inputs": [{"name": "age", "type": "double"}, {"name": "plan", "type": "string"}],
    "tensor": None,
}
TENSOR = {"kind": "tensor", "inputs": [], "tensor": {"dtype": "float32", "shape": [-1, 2]}}


@pytest.mark.parametrize(
    "inputs",
    [[{"plan": "pro", "age": 3}], {"age": 3, "plan": "pro"}, [[3, "pro"]]],
    ids=["objects", "one object", "lists"],
)
def test_rows_are_named_in_the_schemas_order(inputs) -> None:
    (row,) = records.named_rows(SCHEMA, inputs)
    assert list(row.items()) == [("age", 3), ("plan", "pro")]


def test_a_tensors_numbers_get_names_and_deeper_ones_are_left_out() -> None:
    assert records.named_rows(TENSOR, [[1.0, 2.0]]) == [{"f0": 1.0, "f1": 2.0}]
    assert records.named_rows(TENSOR, [[[1.0], [2.0]]]) == [None]


def _record(status: int = 200, request: bytes = b"", response: bytes = b"", **changes) -> Record:
    head = {
        "id": ids.prediction_base().hex, "organization": 1, "deployment": 2, "version": 3, "at": 1_700_000_000.5, "latency_ms": 1.5,
        "status": status, "code": "" if status < 400 else "schema_mismatch", "detail": "", "key": "abcd2345", "request_id": "r-1", "via": "api",
    }  # fmt: skip
    return Record({**head, **changes}, request, response)


def _parse(record: Record) -> records.Call:
    return records.parse(record, lambda _: SCHEMA)


def test_one_row_of_the_log_per_predicted_row_with_the_ids_of_the_answer() -> None:
    request = orjson.dumps({"inputs": [[1, "a"], [2, "b"]]})
    response = orjson.dumps(
        {"predictions": ["x", "y"], "probabilities": [[0.1, 0.9], [0.6, 0.4]], "timings_ms": {"total": 1.0}}
    )
    record = _record(request=request, response=response)
    call = _parse(record)
    base = uuid.UUID(record.header["id"])
    assert [row.id for row in call.rows] == [base, uuid.UUID(int=base.int + 1)]
    assert [(row.row, row.features, row.prediction, row.probabilities) for row in call.rows] == [
        (0, {"age": 1, "plan": "a"}, "x", [0.1, 0.9]),
        (1, {"age": 2, "plan": "b"}, "y", [0.6, 0.4]),
    ]
    assert call.rows[0].timings_ms == {"total": 1.0}


def test_a_failed_request_is_one_row_with_its_reason_and_the_start_of_its_body() -> None:
    call = _parse(_record(422, request=b'{"inputs": [1' + b"x" * 5_000, detail="Column 'age' is missing."))
    (row,) = call.rows
    assert (row.row, row.error_code, row.error_detail) == (0, "schema_mismatch", "Column 'age' is missing.")
    assert row.request_excerpt.startswith('{"inputs"')
    assert len(row.request_excerpt) == 2_000


def test_a_throttled_call_is_counted_without_a_row() -> None:
    call = _parse(_record(429))
    assert (call.status, call.rows) == (429, [])


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"not json",
        b"[]",
        b'{"predictions": 7}',
        b'{"predictions": [1, 2, 3], "probabilities": "no", "timings_ms": [1]}',
    ],
)
def test_nothing_a_runner_says_breaks_the_log(response: bytes) -> None:
    call = _parse(_record(request=b'{"inputs": [[1, "a"]]}', response=response))
    assert len(call.rows) == 1
    assert call.rows[0].features == {"age": 1, "plan": "a"}


def test_characters_that_postgresql_refuses_are_replaced() -> None:
    request = b'{"inputs": [[1, "a\\u0000b"]]}'
    (row,) = _parse(_record(request=request, response=b'{"predictions": ["\\u0000"]}')).rows
    assert (row.features["plan"], row.prediction) == ("a\ufffdb", "\ufffd")
    (failed,) = _parse(_record(400, request=b"\x00\xff", detail="a\x00b")).rows
    assert "\x00" not in failed.request_excerpt + failed.error_detail


def test_a_header_that_is_not_ours_is_refused() -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        records.parse(Record({"n": 1}, b"", b""), lambda _: None)
