"""Rows of a request against a schema: what is accepted, and what every refusal names."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.runtime.schema import (
    Checker,
    SchemaError,
    answer_json_schema,
    check_rows,
    example_row,
    from_model,
    infer,
    to_json_schema,
    validate_schema,
)

PEOPLE = validate_schema(
    {
        "inputs": [
            {"name": "age", "type": "long"},
            {"name": "income", "type": "double", "nullable": True},
            {"name": "plan", "type": "string"},
            {"name": "active", "type": "boolean"},
            {"name": "since", "type": "datetime", "nullable": True},
        ],
        "source": "sample",
    }
)
GOOD = {"age": 41, "income": 1200.5, "plan": "pro", "active": True, "since": "2026-01-02T03:04:05Z"}
TENSOR = validate_schema({"kind": "tensor", "tensor": {"dtype": "float32", "shape": [-1, 2, 3]}})


def refused(schema, rows, **limits):
    with pytest.raises(SchemaError) as caught:
        Checker(schema, **limits).rows(rows)
    return caught.value


@pytest.mark.parametrize("rows", [[GOOD], GOOD, [list(GOOD.values())], [dict(reversed(GOOD.items()))]])
def test_dicts_lists_and_a_single_dict_become_the_same_columns(rows):
    assert check_rows(PEOPLE, rows) == {name: [value] for name, value in GOOD.items()}


def test_many_rows_keep_their_order():
    rows = [{**GOOD, "age": age} for age in range(50)]
    assert check_rows(PEOPLE, rows)["age"] == list(range(50))


def test_null_and_nan_are_missing_where_the_column_allows_it():
    assert check_rows(PEOPLE, [{**GOOD, "income": None}, {**GOOD, "income": math.nan}])["income"] == [None, None]


def test_a_whole_number_is_fine_for_a_double_and_three_point_zero_for_a_long():
    columns = check_rows(PEOPLE, [{**GOOD, "income": 7, "age": 3.0}])
    assert (columns["income"], columns["age"], type(columns["age"][0])) == ([7], [3], int)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("age", "41", "text '41'"),
        ("age", 41.5, "whole number"),
        ("age", True, "true"),
        ("age", None, "missing"),
        ("age", 2**63, "64 bits"),
        ("income", "12", "a number"),
        ("income", False, "false"),
        ("income", math.inf, "infinity"),
        ("income", [1], "a list"),
        ("plan", 5, "text"),
        ("plan", None, "missing"),
        ("active", 1, "true or false"),
        ("since", "yesterday", "date"),
        ("since", 20260102, "date"),
    ],
)
def test_a_wrong_value_names_its_row_and_column(column, value, words):
    error = refused(PEOPLE, [GOOD, {**GOOD, column: value}])
    assert [(item["row"], item["column"]) for item in error.errors] == [(1, column)]
    assert words in error.errors[0]["message"]
    assert f"column {column!r}" in error.message


def test_missing_and_unknown_columns_are_both_named():
    row = {name: value for name, value in GOOD.items() if name != "age"} | {"agee": 41}
    error = refused(PEOPLE, [row])
    assert {(item["column"], item["row"]) for item in error.errors} == {("age", 0), ("agee", 0)}
    assert "age, income, plan" in error.hint


def test_at_most_twenty_errors_are_listed():
    assert len(refused(PEOPLE, [{**GOOD, "age": "x"}] * 100).errors) == 20


@pytest.mark.parametrize(
    ("rows", "words"), [([], "empty"), ("a,b", "text"), (None, "null"), ([1, 2], "not a row"), ([[1, 2]], "2 values")]
)
def test_things_that_are_not_rows_are_refused_with_an_example(rows, words):
    error = refused(PEOPLE, rows)
    assert words in error.message + error.hint


def test_too_many_rows_have_their_own_code():
    assert refused(PEOPLE, [GOOD] * 11, max_rows=10).code == "too_many_rows"


def test_bounds_and_levels_bind_only_when_the_user_gave_them():
    told = {
        "inputs": [
            {"name": "age", "type": "long", "min": 0, "max": 120},
            {"name": "plan", "type": "string", "levels": ["a", "b"]},
        ]
    }
    error = refused(validate_schema(told), [{"age": 130, "plan": "c"}])
    assert [item["column"] for item in error.errors] == ["age", "plan"]
    assert check_rows(validate_schema({**told, "source": "sample"}), [{"age": 130, "plan": "c"}]) == {
        "age": [130],
        "plan": ["c"],
    }


def test_columns_are_checked_like_rows():
    checker = Checker(PEOPLE)
    assert checker.columns({name: [value] for name, value in GOOD.items()}) == {
        name: [value] for name, value in GOOD.items()
    }
    with pytest.raises(SchemaError, match="different numbers"):
        checker.columns({name: [value] * (1 + (name == "age")) for name, value in GOOD.items()})
    with pytest.raises(SchemaError, match="'age' is missing"):
        checker.columns({"plan": ["a"]})


@given(
    st.lists(
        st.lists(
            st.one_of(st.floats(), st.integers(), st.none(), st.booleans(), st.text(max_size=3)), min_size=2, max_size=2
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_fast_path_and_the_slow_path_agree(rows):
    schema = validate_schema(
        {
            "inputs": [{"name": "a", "type": "double", "nullable": True}, {"name": "b", "type": "long"}],
            "source": "sample",
        }
    )
    checker = Checker(schema)
    outcomes = []
    for way in (checker.rows, checker._slow):
        try:
            outcomes.append(way([list(row) for row in rows]))
        except SchemaError as error:
            outcomes.append(error.errors)
    assert outcomes[0] == outcomes[1]


# -- tensors --------------------------------------------------------------------------------------------------------


def test_nested_lists_become_an_array_of_the_schema_s_type():
    array = check_rows(TENSOR, [[[1, 2, 3], [4, 5, 6]]])
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((1, 2, 3), np.dtype("float32"), True)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[[1, 2], [3, 4]]], "shape"),
        ([[1, 2, 3], [4, 5, 6]], "shape"),
        ([[[1, 2, 3], [4, 5]]], "ragged"),
        ([[["1", "2", "3"], ["4", "5", "6"]]], "text"),
        ([[[True, True, True], [True, True, True]]], "true/false"),
        ([[[1, 2, None], [4, 5, 6]]], "not numbers"),
        ([[[1, 2, math.nan], [4, 5, 6]]], "NaN"),
        ([[[1, 2, 1e39], [4, 5, 6]]], "too large"),
        ({"x": 1}, "not a list"),
    ],
)
def test_a_wrong_tensor_says_what_is_wrong(rows, words):
    assert words in refused(TENSOR, rows).message


def test_a_ragged_tensor_names_the_row():
    flat = validate_schema({"kind": "tensor", "tensor": {"dtype": "float32", "shape": [-1, 2]}})
    assert refused(flat, [[1, 2], [3, 4], [5]]).errors[0]["row"] == 2


def test_fractions_are_refused_for_whole_number_tensors():
    tokens = validate_schema({"kind": "tensor", "tensor": {"dtype": "int64", "shape": [-1, 2]}})
    assert "fractions" in refused(tokens, [[1.5, 2.0]]).message


# -- given schemas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ([], "object"),
        ({}, "at least one column"),
        ({"inputs": []}, "at least one column"),
        ({"inputs": [{"name": "a", "type": "double"}, {"name": "a", "type": "long"}]}, "twice"),
        ({"inputs": [{"name": "a", "type": "blob"}]}, "type is one of"),
        ({"inputs": [{"name": "", "type": "double"}]}, "needs a name"),
        ({"inputs": [{"name": "a", "type": "double", "min": 2, "max": 1}]}, "min is above max"),
        ({"inputs": [{"name": "a", "type": "string", "min": 2}]}, "numeric"),
        ({"inputs": [{"name": "a", "type": "string", "levels": [1]}]}, "levels"),
        ({"inputs": [{"name": "a", "type": "double"}], "extra": 1}, "Unknown keys"),
        ({"inputs": [{"name": "a", "type": "double"}], "output": {"task": "magic"}}, "task"),
        ({"inputs": [{"name": "a", "type": "double"}], "output": {"classes": ["a", "a"]}}, "different labels"),
        ({"kind": "tensor", "tensor": {"dtype": "complex64", "shape": [-1, 4]}}, "dtype"),
        ({"kind": "tensor", "tensor": {"dtype": "float32", "shape": [0]}}, "shape"),
        ({"kind": "cube"}, "kind"),
    ],
)
def test_a_bad_schema_is_refused_with_its_reason(schema, words):
    with pytest.raises(SchemaError) as caught:
        validate_schema(schema)
    assert caught.value.code == "invalid_schema"
    assert any(words in item["message"] for item in caught.value.errors)


def test_synonyms_of_types_are_understood_and_the_full_form_is_stable():
    schema = validate_schema(
        {"inputs": [{"name": "a", "type": "float"}, {"name": "b", "type": "int"}, {"name": "c", "type": "str"}]}
    )
    assert [column["type"] for column in schema["inputs"]] == ["double", "long", "string"]
    assert validate_schema(schema) == schema


# -- inferred schemas -----------------------------------------------------------------------------------------------


def test_types_ranges_levels_and_missing_values_come_from_the_data():
    schema = infer({"n": [1, 2] * 15, "x": [0.5, None] * 15, "s": ["b", "a"] * 15, "t": [True, False] * 15})
    n, x, s, t = schema["inputs"]
    assert (n["type"], n["min"], n["max"], n["nullable"]) == ("long", 1, 2, False)
    assert (x["type"], x["nullable"]) == ("double", True)
    assert (s["type"], s["levels"], s["example"]) == ("string", ["a", "b"], "b")
    assert t["type"] == "boolean"


def test_a_short_sample_of_whole_numbers_still_takes_fractions():
    schema = infer({"x": [1, 2, 3]})
    assert check_rows(schema, [{"x": 1.5}]) == {"x": [1.5]}


def test_the_model_s_names_order_the_columns_and_leave_the_target_out():
    describe = {
        "inputs": [{"name": "b", "type": "double", "nullable": True}, {"name": "a", "type": "double"}],
        "task": "classifier",
        "classes": ["n", "y"],
        "probabilities": True,
    }
    schema = infer({"a": [1.0], "b": [2.0], "target": ["y"]}, describe=describe, source="reference")
    assert [(column["name"], column["nullable"]) for column in schema["inputs"]] == [("b", True), ("a", False)]
    assert schema["output"] == {"task": "classifier", "classes": ["n", "y"], "probabilities": True}


def test_generic_model_names_take_the_names_of_the_data():
    describe = {"inputs": [{"name": "f0", "type": "double"}, {"name": "f1", "type": "double"}]}
    assert [column["name"] for column in infer({"x": [1.0], "y2": [2.0]}, describe=describe)["inputs"]] == ["x", "y2"]
    assert [
        column["name"] for column in infer({"x": [1.0], "z": [2.0], "label": [1]}, describe=describe)["inputs"]
    ] == ["x", "z"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "no rows"),
        ({"a": []}, "no rows"),
        ({"a": [1, "x"]}, "mixes"),
        ({"a": [1.0], "q": [1.0], "r": [2.0]}, "lacks the column 'b'"),
        ({"p": [1.0], "q": [1.0], "r": [2.0]}, "model takes 2"),
    ],
)
def test_data_that_gives_no_schema_says_why(columns, words):
    with pytest.raises(SchemaError, match=words):
        infer(
            columns,
            describe={"inputs": [{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]}
            if "q" in columns
            else None,
        )


def test_a_model_s_description_alone_gives_a_table_a_tensor_or_nothing():
    assert from_model({"inputs": [{"name": "a", "type": "double", "nullable": True}]})["inputs"][0]["nullable"] is True
    assert from_model({"tensor": {"dtype": "float32", "shape": [-1, 4]}})["tensor"]["shape"] == [-1, 4]
    assert from_model({"inputs": None, "tensor": None}) is None


# -- documents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [PEOPLE, TENSOR, infer({"a": [1.5, 2.5], "b": ["x", "y"]})])
def test_the_example_row_is_accepted_by_its_own_schema(schema):
    check_rows(schema, [example_row(schema)])


@pytest.mark.parametrize("rows", [[GOOD], GOOD, [list(GOOD.values())]])
def test_the_json_schema_accepts_what_the_checker_accepts(rows):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate({"inputs": rows}, to_json_schema(PEOPLE))


def test_the_json_schema_refuses_an_unknown_column():
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"inputs": [{**GOOD, "extra": 1}]}, to_json_schema(PEOPLE))


def test_the_answer_lists_the_classes():
    schema = validate_schema(
        {"inputs": [{"name": "a", "type": "double"}], "output": {"classes": ["n", "y"], "probabilities": True}}
    )
    properties = answer_json_schema(schema)["properties"]
    assert properties["predictions"]["items"] == {"enum": ["n", "y"]}
    assert "probabilities" in properties


def test_the_web_process_may_import_these_without_any_ml_library():
    code = (
        "import sys, mlops.runtime.schema, mlops.runtime.inspect, mlops.runtime.formats, mlops.runtime.tables, mlops.runtime.archives;"
        "heavy = {'sklearn', 'torch', 'pandas', 'xgboost', 'lightgbm', 'onnxruntime', 'joblib', 'pyarrow', 'scipy', 'onnx', 'skops'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


# -- many rows of numbers as one array ------------------------------------------------------------------------------

_NUMBERS = [
    {"name": "a", "type": "double"},
    {"name": "b", "type": "long"},
    {"name": "c", "type": "double", "nullable": True, "min": -5, "max": 5},
]
NUMBERS = validate_schema({"inputs": _NUMBERS, "source": "given"})
ROWS = [[row / 8, row, -row / 8] for row in range(20)]


@pytest.mark.parametrize("count", [1, 2, 20])
@pytest.mark.parametrize("order", ["", "abc", "cab"], ids=["lists", "objects in order", "objects in another order"])
def test_rows_of_numbers_are_one_array_of_the_same_numbers(count, order):
    named = [dict(zip("abc", row, strict=True)) for row in ROWS[:count]]
    rows = [{name: row[name] for name in order} for row in named] if order else ROWS[:count]
    checker = Checker(NUMBERS)
    assert checker.table(rows).T.tolist() == list(checker.rows(rows).values())


def test_objects_in_different_orders_are_one_array_by_name():
    rows = [{"a": 1.5, "b": 2, "c": 3.0}, {"c": 3.0, "b": 2, "a": 1.5}]
    assert Checker(NUMBERS).table(rows).tolist() == [[1.5, 2, 3]] * 2


def test_numbers_may_be_zero_and_one():
    assert Checker(NUMBERS).table([[0, 1, 1.0], [1.0, 0, 0]] * 5).tolist() == [[0, 1, 1], [1, 0, 0]] * 5


@pytest.mark.parametrize(
    "row",
    [
        [True, 1, 1.0], [1.5, True, 1.0], ["1", 1, 1.0], [None, 1, 1.0], [1.0, 1, None], [1.0, 1.5, 1.0], [1.0, 1, 5.5], [1.0, 1, -6],
        [math.nan, 1, 1.0], [math.inf, 1, 1.0], [2**53, 1, 1.0], [1.0, 2**53 + 1, 1.0], [10**400, 1, 1.0], [[1.0], 1, 1.0],
        [1.0, 1], [1.0, 1, 1.0, 1.0], {"a": 1, "b": 1, "d": 1}, "abc", 7,
    ],
)  # fmt: skip
@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 10), (10, 10), (10, 0)])
def test_any_doubt_is_left_to_the_check_that_names_it(row, before, after):
    assert Checker(NUMBERS).table([*ROWS[:before], row, *ROWS[:after]]) is None


def test_lists_and_objects_are_no_array_together():
    assert Checker(NUMBERS).table([*ROWS, {"a": 1, "b": 1, "c": 1}]) is None


@pytest.mark.parametrize("row", [{"a": 1, "b": 1}, {"a": 1, "b": 1, "d": 1}, {"a": 1, "b": 1, "c": False}])
def test_objects_of_other_columns_are_left_to_the_check_that_names_them(row):
    rows = [dict(zip("abc", each, strict=True)) for each in ROWS]
    assert Checker(NUMBERS).table([*rows, row]) is None


@pytest.mark.parametrize("rows", [None, [], {}, "abc", ROWS * 2, [ROWS] * 10])
def test_what_is_not_rows_or_too_many_is_no_array(rows):
    assert Checker(NUMBERS, max_rows=30).table(rows) is None


def test_texts_among_the_columns_are_no_array():
    assert Checker(PEOPLE).table([list(GOOD.values())] * 20) is None


_CELLS = st.sampled_from(
    [0, 1, -1, 1.5, 0.0, True, False, None, "1", 2**53, -(2**53), 2**63, 1e300, math.nan, math.inf, [], {}]
)
_SHAPES = st.sampled_from([list, lambda row: dict(zip("abc", row, strict=True)), lambda row: row[:2], tuple])


@settings(deadline=None)
@given(
    st.lists(st.tuples(_CELLS, _CELLS, _CELLS), min_size=1, max_size=3),
    _SHAPES,
    st.sampled_from([0, 20]),
    st.booleans(),
)
def test_an_array_holds_what_the_columns_would(odd, shape, usual, strict):
    checker = Checker(NUMBERS if strict else {**NUMBERS, "source": "sample"})
    rows = [shape(row) for row in [*ROWS[:usual], *odd]]
    if (table := checker.table(rows)) is not None:
        assert table.T.tolist() == list(checker.rows(rows).values())
