"""Many rows: read chunk by chunk from anywhere in the file, predicted so that a bad row stands alone, packed as Parquet."""

from __future__ import annotations

import csv
import io
import json
import random

import pyarrow
import pyarrow.parquet
import pytest

from mlops.runtime.bulk import reading
from mlops.runtime.bulk.reading import Bad, open_source
from mlops.runtime.bulk.wanted import Wanted
from mlops.runtime.tables import TableError
from tests.runner_host import model_spec

COLUMNS = [
    {"name": "x", "type": "double", "nullable": True},
    {"name": "n", "type": "long", "nullable": False},
    {"name": "s", "type": "string", "nullable": True, "levels": ["NA", "b"]},
    {"name": "b", "type": "boolean", "nullable": True},
]
SCHEMA = {"kind": "table", "inputs": COLUMNS, "tensor": None, "output": {"task": "regressor"}, "source": "given"}
TENSOR = {"kind": "tensor", "inputs": [], "tensor": {"dtype": "float32", "shape": [-1, 2]}, "output": {}}


def rows_of(content, fmt, schema=SCHEMA, *, most=1_000):
    source = open_source(content if isinstance(content, bytes) else content.encode(), fmt, Wanted.of(schema))
    rows = []
    while more := source.take(most, 1 << 20):
        rows += more
    return rows


def refused(content, fmt, schema=SCHEMA):
    with pytest.raises(TableError) as caught:
        rows_of(content, fmt, schema)
    return caught.value


def parquet(columns):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, row_group_size=7)
    return file.getvalue()


# -- reading ------------------------------------------------------------------------------------------------------------


def test_cells_become_the_schemas_types_and_what_cannot_be_stays_text():
    text = 'id,n,x,s,b\n7,1,0.5,NA,true\n8,2.0,,b,0\n9,3_0,nan,,\n10,x,1e3,"a, b",maybe\n'
    assert rows_of(text, "csv") == [
        [0.5, 1, "NA", True],
        [None, 2.0, "b", False],
        [None, "3_0", None, None],
        [1000.0, "x", "a, b", "maybe"],
    ]


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("most", [1, 3, 7, 50])
def test_the_same_rows_in_every_format_from_every_cursor(tmp_path, fmt, most):
    names = [column["name"] for column in COLUMNS]
    wanted = [[float(i), i, f"text {i}\nnext line", i % 2 == 0] for i in range(20)]
    records = [dict(zip(names, row, strict=True)) | {"id": 1} for row in wanted]
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0])
    writer.writeheader()
    writer.writerows(records)
    content = {
        "csv": text.getvalue().encode(),
        "jsonl": "\n\n".join(map(json.dumps, records)).encode(),
        "json": json.dumps({"first": {"a": [1]}, "inputs": records}, indent=1).encode(),
        "parquet": parquet({name: [record[name] for record in records] for name in records[0]}),
    }[fmt]
    path = tmp_path / "data"
    path.write_bytes(content)
    found, cursor, passed_over = [], None, set()
    while True:  # a new reader for every chunk, as after a crash
        source = open_source(str(path), fmt, Wanted.of(SCHEMA), cursor)
        rows = source.take(most, 1 << 20)
        if not rows:
            break
        found += rows
        passed_over |= set(source.wanted.passed_over)
        cursor = json.loads(json.dumps(source.cursor()))
    assert found == wanted
    assert passed_over == {"id"}
    assert source.share() == pytest.approx(1, abs=0.01)


def test_a_line_that_cannot_be_read_is_a_bad_row_and_its_neighbours_are_read():
    good = "1,1,a,true\n"
    text = "x,n,s,b\n" + good + "1,2\n" + good + '1,1,"a"b,true\n' + good + '2,1,"never closed,true\n' + 3 * good
    found = rows_of(text, "csv")
    assert [type(row) is list for row in found] == [True, False, True, False, True, False, True, True, True]
    assert [row.line for row in found if isinstance(row, Bad)] == [3, 5, 7]
    assert [row.code for row in found if isinstance(row, Bad)] == ["ragged_row", "broken_csv", "broken_csv"]
    assert found[5].text == '2,1,"never closed,true'
    lines = b'{"x":1,"n":1,"s":"a","b":true}\n{"x":1\n[1,2]\n7\nnull\n\xff\n{"n":2}\n{"x":NaN,"n":1,"s":"a","b":null}\n'
    found = rows_of(lines, "jsonl")
    assert found[0] == [1, 1, "a", True]
    assert found[2] == [1, 2]  # read; the row check refuses its length
    assert found[6:] == [{"n": 2}, [None, 1, "a", None]]
    assert [row.code for row in found if isinstance(row, Bad)] == [
        "broken_json",
        "not_a_row",
        "not_a_row",
        "broken_json",
    ]
    wrong = b"x,n,s,b\n1,1,\xff,true\n1,1,ok,true\n"
    assert [type(row) for row in rows_of(wrong, "csv")] == [Bad, list]


@pytest.mark.parametrize(
    ("content", "fmt", "code"),
    [
        (b"", "csv", "empty_file"),
        (b"x,n\n1,2\n", "csv", "columns_missing"),
        (b"\xff\xfex\x00", "csv", "wrong_encoding"),
        (b"x," + b"y" * 200_000 + b"\n1,2\n", "csv", "broken_csv"),
        (b"PAR1\x00\x00", "jsonl", "not_text"),
        (b"PAR1 nothing", "parquet", "broken_parquet"),
        (parquet({"x": [1.0]}), "parquet", "columns_missing"),
        (b'{"rows": []}', "json", "not_rows"),
        (b'"text"', "json", "not_rows"),
        (b'[{"x":1}', "json", "broken_json"),
        (b'[{"x":1} {"x":1}]', "json", "broken_json"),
        (b"[" * 5_000_000, "json", "broken_json"),
        (b"x", "excel", "unknown_table_format"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_refused(content, fmt, code):
    assert refused(content, fmt).code == code


def test_a_missing_column_is_named_with_what_is_there_instead():
    error = refused(b"x,N,s,b\n1,2,3,4\n", "csv")
    assert "'n'" in error.message
    assert "'N' instead" in error.message


def test_tensor_rows_come_from_columns_or_nested_lists():
    assert rows_of("a,b\n1,2\n3,\n", "csv", TENSOR) == [[1.0, 2.0], [3.0, None]]
    assert rows_of("[1,2]\n[3,4]\n", "jsonl", TENSOR) == [[1, 2], [3, 4]]
    assert rows_of(parquet({"v": [[1.0, 2.0], None]}), "parquet", TENSOR)[0] == [1.0, 2.0]
    assert refused(b"a,b,c\n1,2,3\n", "csv", TENSOR).code == "columns_missing"


def test_a_wide_json_row_over_many_blocks_is_one_row():
    wide = {"kind": "tensor", "inputs": [], "tensor": {"dtype": "float32", "shape": [-1, 200_000]}}
    row = [random.random() for _ in range(100_000)]
    assert rows_of(json.dumps([row, row]), "json", wide) == [row, row]
    assert refused(json.dumps([row * 5]).encode(), "json", wide).code == "line_too_long"


def test_reading_a_long_file_holds_one_chunk(tmp_path):
    import tracemalloc

    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("x,n,s,b\n")
        file.writelines(f"{i}.5,{i},text,true\n" for i in range(200_000))
    source = open_source(str(path), "csv", Wanted.of(SCHEMA))
    tracemalloc.start()
    count = 0
    while rows := source.take(1_000, 1 << 20):
        count += len(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 4 << 20


# -- predicting, in a real runner -----------------------------------------------------------------------------------------


def ask(host, spec, rows, **args):
    chunk = reading.chunk_of(rows)
    reply = host.call(spec, "predict_rows", {"start": 0, "format": "jsonl", **args}, chunk)
    assert reply.status == 200, reply.body
    size = reply.header["sizes"][0]
    return reply.header, reply.body[:size], [json.loads(line) for line in reply.body[size:].splitlines()]


def test_one_bad_row_never_spoils_its_neighbours(host, tiny):
    iris = tiny["iris_joblib"]
    spec = model_spec(iris.path, iris.format, schema=iris.schema, name="iris", version=3)
    good = list(iris.rows[0].values())
    rows = (
        [good] * 50
        + [[*good[:3], "wide"]]
        + [good] * 20
        + [Bad("broken_csv", "A quote.", "1,2", 72)]
        + [{"x": 1}]
        + [good] * 9
    )
    header, results, failed = ask(host, spec, rows, start=1_000)
    lines = [json.loads(line) for line in results.splitlines()]
    assert [line["row"] for line in lines] == list(range(1_000, 1_082))
    assert [line["row"] for line in lines if "error" in line] == [1_050, 1_071, 1_072]
    assert header["answered"], header["failed"] == (82, 3)
    assert {line["prediction"] for line in lines if "error" not in line} == {iris.expected[0]}
    assert failed[0]["code"] == "schema_mismatch"
    assert failed[0]["column"] == list(iris.rows[0])[3]
    assert failed[0]["message"].startswith("Column 'petal")
    assert failed[0]["input"][failed[0]["column"]] == "wide"
    assert failed[1] == {"row": 1_071, "code": "broken_csv", "message": "A quote.", "line": 72, "text": "1,2"}
    assert header["kinds"] == ["long"]
    assert header["columns"] == ["row", "prediction", "probability_0", "probability_1", "probability_2", "error"]


def test_a_row_on_which_the_model_raises_is_found_by_halving(host, predicting):
    schema = {
        "kind": "table",
        "inputs": [{"name": "x", "type": "double", "nullable": False}],
        "tensor": None,
        "output": {"task": "regressor"},
    }
    spec = predicting(
        "v = list(X['x']) if hasattr(X, 'columns') else [r[0] for r in X]\nassert 13.0 not in v, 'thirteen'\nreturn v",
        schema=schema,
    )
    rows = [[float(i)] for i in range(100)]
    header, results, failed = ask(host, spec, rows, format="csv", head=True)
    assert (header["answered"], header["failed"]) == (100, 1)
    assert [each["row"] for each in failed] == [13]
    assert "thirteen" in failed[0]["message"]
    table = list(csv.DictReader(io.StringIO(results.decode())))
    assert [row["prediction"] for row in table] == [str(float(i)) if i != 13 else "" for i in range(100)]
    assert table[13]["error"].startswith("model_error: ")
    # Out of time: a prefix is answered, the caller goes on behind it.
    header, _, _ = ask(host, spec, rows, seconds=0)
    assert 1 <= header["answered"] <= 100
    # One row condemned without asking, in the middle.
    header, results, failed = ask(
        host, spec, rows, skip=5, take=1, condemn={"code": "model_crashed", "message": "It died."}
    )
    assert failed == [{"row": 5, "code": "model_crashed", "message": "It died.", "input": {"x": 5.0}}]
    assert json.loads(results)["row"] == 5


def test_text_in_a_csv_is_never_a_formula_and_numbers_stay_numbers(host, predicting):
    schema = {
        "kind": "table",
        "inputs": [{"name": "x", "type": "double", "nullable": False}],
        "tensor": None,
        "output": {"task": "other"},
    }
    formulas = ['=HYPERLINK("x")', "+1+1", "-2+3", "@SUM(1)", "\tgo", "\rgo", " =1+1"]
    harmless = ["-1", "+3.5", "plain", "a=b", "a\rb", -1.5, -2, True]
    labels = [*formulas, *harmless]
    spec = predicting(f"return {labels!r}", schema=schema)
    rows = [[1.0]] * len(labels)
    _, results, _ = ask(host, spec, rows, format="csv", head=True)
    table = csv.DictReader(io.StringIO(results.decode(), newline=""))
    found = [row["prediction"] for row in table]
    assert found[: len(formulas)] == [f"'{text}" for text in formulas]
    assert found[len(formulas) :] == ["-1", "+3.5", "plain", "a=b", "a\rb", "-1.5", "-2", "true"]
    _, results, _ = ask(host, spec, rows)
    assert [json.loads(line)["prediction"] for line in results.splitlines()] == labels


def test_a_small_file_is_answered_in_every_output_format(host, tiny):
    iris = tiny["iris_joblib"]
    spec = model_spec(iris.path, iris.format, schema=iris.schema, name="iris", version=3)
    body = json.dumps([*iris.rows, {"x": 1}]).encode()

    def sent(output, **args):
        return host.call(spec, "predict_file", {"format": "json", "output": output, **args}, body)

    told = json.loads(sent("json").body)
    assert [line["prediction"] for line in told["results"][:3]] == iris.expected
    assert told["failed"][0]["row"] == 3
    assert told["model"] == {"name": "iris", "version": 3}
    table = pyarrow.parquet.read_table(io.BytesIO(sent("parquet").body)).to_pylist()
    assert [row["prediction"] for row in table] == [*iris.expected, None]
    assert table[0]["probability_0"] == pytest.approx(iris.probabilities[0][0])
    assert table[3]["error"].startswith("schema_mismatch")
    assert sent("csv").body.splitlines()[0] == b"row,prediction,probability_0,probability_1,probability_2,error"
    assert len(sent("jsonl").body.splitlines()) == 4
    assert json.loads(sent("csv", rows=3).body)["code"] == "too_many_for_now"
    assert (
        json.loads(host.call(spec, "predict_file", {"format": "csv"}, b"a,b\n1,2\n").body)["code"] == "columns_missing"
    )


@pytest.mark.parametrize(
    ("name", "fmt"),
    [("torchscript", "jsonl"), ("churn_pipeline", "jsonl"), ("regressor_pickle", "csv"), ("text_pipeline", "csv")],
)
def test_other_kinds_of_models_answer_too(host, tiny, name, fmt):
    model = tiny[name]
    spec = model_spec(model.path, model.format, schema=model.schema)
    reply = host.call(
        spec, "predict_file", {"format": "json", "output": fmt}, json.dumps({"inputs": model.rows}).encode()
    )
    assert reply.status == 200, reply.body
    assert reply.header["failed"] == 0
    if fmt == "jsonl":
        assert [json.loads(line)["prediction"] for line in reply.body.splitlines()] == model.expected


def test_rows_are_read_in_a_runner_and_packed_as_parquet(host, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x,n,s,b\n" + "".join(f"{i},{i},a,true\n" for i in range(25)))
    spec = model_spec(path, "table")
    args, seen = {"format": "csv", "rows": 10}, []
    while True:
        reply = host.call(spec, "read_rows", args, json.dumps(SCHEMA).encode())
        assert reply.status == 200, reply.body
        if reply.header["end"]:
            break
        seen.append(reply.header["rows"])
        args["cursor"] = reply.header["cursor"]
    assert seen == [10, 10, 5]
    lines = b"".join(json.dumps({"row": i, "prediction": i / 2}).encode() + b"\n" for i in range(100_001))
    columns = {"columns": ["row", "prediction", "error"], "kinds": ["double", "long"]}
    half = lines.index(b"\n", len(lines) // 2) + 1
    packed = host.call(spec, "pack_rows", {**columns, "first": True}, lines[:half]).body
    packed += host.call(spec, "pack_rows", {"end": True}, lines[half:]).body
    table = pyarrow.parquet.read_table(io.BytesIO(packed))
    assert table.num_rows == 100_001
    assert table.column("prediction").to_pylist()[-1] == 50_000.0
    assert host.call(spec, "pack_rows", {"end": True}, b"").status == 409
