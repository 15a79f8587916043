"""Data files into canonical columns, with refusals that name the line and the column."""

from __future__ import annotations

import datetime
import json

import pytest

from mlops.runtime import tables
from mlops.runtime.tables import TableError


def write(folder, content, name="data"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refused(path, form):
    with pytest.raises(TableError) as caught:
        tables.read(path, form)
    return caught.value


def test_csv_columns_get_their_types(tmp_path):
    text = 'n,x,s,b,code\n1,0.5,hello,true,007\n2,,"a, b",false,008\n'
    found = tables.read(write(tmp_path, text), "csv")
    assert found == {
        "columns": {"n": [1, 2], "x": [0.5, None], "s": ["hello", "a, b"], "b": [True, False], "code": ["007", "008"]},
        "rows_total": 2,
        "types": {"n": "long", "x": "double", "s": "string", "b": "boolean", "code": "string"},
    }


@pytest.mark.parametrize(
    "content", ["a;b\n1;2\n", "a\tb\n1\t2\n", "\ufeffa,b\r\n1,2\r\n", "a|b\n1|2\n\n", "a,b\n1,2\n".encode("utf-16")]
)
def test_other_separators_byte_order_marks_and_line_ends_are_read(tmp_path, content):
    assert tables.read(write(tmp_path, content), "csv")["columns"] == {"a": [1], "b": [2]}


def test_only_the_first_rows_are_kept_but_all_are_counted(tmp_path):
    path = write(tmp_path, "a\n" + "\n".join(map(str, range(1000))))
    found = tables.read(path, "csv", max_rows=10)
    assert (found["columns"]["a"], found["rows_total"]) == (list(range(10)), 1000)


@pytest.mark.parametrize(
    ("content", "form", "code", "words"),
    [
        ("", "csv", "empty_file", "empty"),
        ("\n\n", "csv", "no_header", "header"),
        ("a,b\n", "csv", "no_rows", "no rows"),
        ("a,b,a\n1,2,3\n", "csv", "duplicate_columns", "a"),
        ("a,b\n1,2\n3\n", "csv", "ragged_rows", "Line 3"),
        ("a,b\n1,2,3\n", "csv", "ragged_rows", "Line 2"),
        ('a,b\n1,"cut', "csv", "broken_csv", "Line 2"),
        ("a,b\n1,é\n".encode("latin-1"), "csv", "wrong_encoding", "Line 2"),
        (b"\x00\x01\x02", "csv", "not_text", "binary"),
        ("a,,c\n1,2,3\n", "csv", "bad_column_name", "Column 2"),
        ('{"a": [1', "json", "broken_json", "JSON"),
        ("[]", "json", "no_rows", "no rows"),
        ('[{"a": 1}, 2]', "json", "not_rows", "mixes"),
        ('[{"a": {"b": 1}}]', "json", "nested_value", "'a'"),
        ('[{"a": 1}, {"a": "x"}]', "json", "mixed_column", "'a'"),
        ("[[1, 2], [3]]", "json", "ragged_rows", "Row 1"),
        ('{"a": [1], "b": [1, 2]}', "json", "ragged_rows", "different"),
        ('{"a": 1}\n{"a": ', "jsonl", "broken_json", "Line 2"),
        (b"PAR1 and then nothing", "parquet", "broken_parquet", "Parquet"),
        ("a\n1\n", "xls", "unknown_table_format", "xls"),
    ],
)
def test_a_bad_file_says_what_and_where(tmp_path, content, form, code, words):
    error = refused(write(tmp_path, content), form)
    assert error.code == code
    assert words in error.message
    assert error.hint


@pytest.mark.parametrize(
    "content",
    [
        [{"a": 1, "b": "x"}, {"a": None, "b": "y"}],
        {"inputs": [{"a": 1, "b": "x"}, {"b": "y"}]},
        {"columns": ["a", "b"], "data": [[1, "x"], [None, "y"]]},
        {"a": [1, None], "b": ["x", "y"]},
    ],
)
def test_json_in_its_usual_shapes(tmp_path, content):
    found = tables.read(write(tmp_path, json.dumps(content)), "json")
    assert (found["columns"], found["rows_total"]) == ({"a": [1, None], "b": ["x", "y"]}, 2)


def test_json_lists_get_numbered_columns_and_jsonl_is_read_by_line(tmp_path):
    assert tables.read(write(tmp_path, "[[1, 2.5]]"), "json")["columns"] == {"f0": [1], "f1": [2.5]}
    assert tables.read(write(tmp_path, '{"a": 1}\n\n{"a": 2}\n'), "jsonl")["columns"] == {"a": [1, 2]}


def test_parquet_keeps_types_and_missing_values(tmp_path):
    import pandas as pd

    day = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    frame = pd.DataFrame(
        {"n": [1, 2], "x": [0.5, float("nan")], "s": pd.Categorical(["a", "b"]), "b": [True, False], "t": [day, None]}
    )
    frame.to_parquet(tmp_path / "data.parquet")
    found = tables.read(str(tmp_path / "data.parquet"), "parquet")
    assert found["types"] == {"n": "long", "x": "double", "s": "string", "b": "boolean", "t": "datetime"}
    assert found["columns"] == {
        "n": [1, 2],
        "x": [0.5, None],
        "s": ["a", "b"],
        "b": [True, False],
        "t": [day.isoformat(), None],
    }
    json.dumps(found)


def test_a_large_parquet_file_is_read_in_part(tmp_path):
    import pandas as pd

    pd.DataFrame({"n": range(5000)}).to_parquet(tmp_path / "data.parquet")
    found = tables.read(str(tmp_path / "data.parquet"), "parquet", max_rows=100)
    assert (len(found["columns"]["n"]), found["rows_total"]) == (100, 5000)


def test_a_nested_parquet_column_is_refused(tmp_path):
    import pandas as pd

    pd.DataFrame({"n": [[1, 2], [3]]}).to_parquet(tmp_path / "data.parquet")
    assert refused(str(tmp_path / "data.parquet"), "parquet").code == "unsupported_column"
