"""From bodies to named rows: every shape a client may send, and everything a hostile runner may say."""

from __future__ import annotations

import json
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
    (row,) = records.named_rows(records.columns_of(SCHEMA), inputs)
    assert list(row.items()) == [("age", 3), ("plan", "pro")]


def test_a_tensors_numbers_get_names_and_deeper_ones_are_left_out() -> None:
    assert records.named_rows(records.columns_of(TENSOR), [[1.0, 2.0]]) == [{"f0": 1.0, "f1": 2.0}]
    assert records.named_rows(records.columns_of(TENSOR), [[[1.0], [2.0]]]) == [None]


def _record(status: int = 200, request: bytes = b"", response: bytes = b"", **changes) -> Record:
    head = {
        "id": ids.prediction_base().hex, "organization": 1, "deployment": 2, "version": 3, "at": 1_700_000_000.5, "latency_ms": 1.5,
        "status": status, "code": "" if status < 400 else "schema_mismatch", "detail": "", "key": "abcd2345", "request_id": "r-1", "via": "api",
    }  # fmt: skip
    return Record({**head, **changes}, request, response)


def _parse(record: Record) -> records.Call:
    return records.parse(record, lambda _: records.columns_of(SCHEMA))


def test_one_row_of_the_log_per_predicted_row_with_the_ids_of_the_answer() -> None:
    request = orjson.dumps({"inputs": [[1, "a"], [2, "b"]]})
    response = orjson.dumps(
        {"predictions": ["x", "y"], "probabilities": [[0.1, 0.9], [0.6, 0.4]], "timings_ms": {"total": 1.0}}
    )
    record = _record(request=request, response=response)
    call = _parse(record)
    base = uuid.UUID(record.header["id"])
    assert [row.id for row in call.rows] == [base.hex, uuid.UUID(int=base.int + 1).hex]
    assert [(row.row, *_values(row)) for row in call.rows] == [
        (0, {"age": 1, "plan": "a"}, "x", [0.1, 0.9]),
        (1, {"age": 2, "plan": "b"}, "y", [0.6, 0.4]),
    ]
    assert orjson.loads(call.timings_ms) == {"total": 1.0}


def _values(row: records.Row) -> list:
    return [None if text is None else orjson.loads(text) for text in row[2:]]


def test_rows_that_were_answered_in_part_have_nothing_in_the_rest() -> None:
    request = orjson.dumps({"inputs": [[1, "a"], [2, None]]})
    call = _parse(_record(request=request, response=b'{"predictions": [null], "probabilities": [[1], [2], [3]]}'))
    assert [_values(row) for row in call.rows] == [
        [{"age": 1, "plan": "a"}, None, [1]],
        [{"age": 2, "plan": None}, None, [2]],
    ]
    (row,) = _parse(_record(request=b"", response=b'{"predictions": [5], "probabilities": [[1], [2]]}')).rows
    assert _values(row) == [None, 5, [1]]


def test_what_the_quick_writer_of_json_refuses_is_written_all_the_same() -> None:
    request = b'{"inputs": [[NaN, "b"], [123456789012345678901234567890, "b"]]}'
    first, second = _parse(_record(request=request)).rows
    assert json.loads(first.features) == {"age": None, "plan": "b"}
    assert json.loads(second.features) == {"age": 123456789012345678901234567890, "plan": "b"}


def test_a_failed_request_is_one_row_with_its_reason_and_the_start_of_its_body() -> None:
    call = _parse(_record(422, request=b'{"inputs": [1' + b"x" * 5_000, detail="Column 'age' is missing."))
    assert [row.row for row in call.rows] == [0]
    assert (call.error_code, call.error_detail) == ("schema_mismatch", "Column 'age' is missing.")
    assert call.request_excerpt.startswith('{"inputs"')
    assert len(call.request_excerpt) == 2_000


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
    assert orjson.loads(call.rows[0].features) == {"age": 1, "plan": "a"}


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ('"a\\ud800b"', "a\ufffdb"),
        ('{"\\uDFFF": ["\\ud83d\\ude00", true]}', {"\ufffd": ["\U0001f600", True]}),
        ("[-1e999, 123456789012345678901234567890]", [None, 123456789012345678901234567890]),
        ("1" + "0" * 400, None),
    ],
    ids=["half a character", "half a character in a name", "infinity", "more than any float"],
)
def test_what_python_reads_beside_a_nan_and_no_database_takes_is_replaced(said: str, logged) -> None:
    response = b'{"predictions": [%b, NaN], "timings_ms": {"total": 1e999}}' % said.encode()
    call = _parse(_record(request=b'{"inputs": [[1, "a"]]}', response=response))
    text = call.rows[0].prediction or "null"
    assert json.loads(text) == logged
    orjson.loads(text)  # as who counts it reads it
    assert call.timings_ms == '{"total":null}'


def test_characters_that_postgresql_refuses_are_replaced() -> None:
    request = b'{"inputs": [[1, "a\\u0000b"]]}'
    (row,) = _parse(_record(request=request, response=b'{"predictions": ["\\u0000"]}')).rows
    assert _values(row)[:2] == [{"age": 1, "plan": "a\ufffdb"}, "\ufffd"]
    failed = _parse(_record(400, request=b"\x00\xff", detail="a\x00b"))
    assert "\x00" not in failed.request_excerpt + failed.error_detail


def test_a_header_that_is_not_ours_is_refused() -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        records.parse(Record({"n": 1}, b"", b""), lambda _: None)
