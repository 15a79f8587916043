"""JSON is bounded in depth and rows before it is parsed, whatever stands in its strings; what is within the bounds is untouched."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlops.runtime import bodies
from mlops.runtime.refusals import Refusal


def depth(value: Any) -> int:
    """The reference: how many lists and objects lie in each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def nested(levels: int, brackets: str = "[]", core: str = "1") -> bytes:
    kinds = [brackets[place % len(brackets)] for place in range(0, 2 * levels, 2)]
    opened = "".join("[" if kind == "[" else '{"a":' for kind in kinds)
    return (opened + core + "".join("]" if kind == "[" else "}" for kind in reversed(kinds))).encode()


# Texts that look like structure, or end strings too early for a careless reader.
NASTY = st.text(alphabet='[]{}"\\,: aé\u2028\n\u5b5b\u7d7b', max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | NASTY
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NASTY, inner, max_size=4), max_leaves=40
)


@st.composite
def documents(draw: Any) -> Any:
    """Deep ones around broad ones: the depth lies around the limit."""
    value = draw(VALUES)
    for kind in draw(st.lists(st.sampled_from("[{s"), min_size=0, max_size=90)):
        beside = draw(st.sampled_from([[], [[]], ["]"], [{"[": "\\"}], ["\\\\", '"']]))
        value = [*beside, value] if kind == "[" else [value, *beside] if kind == "s" else {draw(NASTY): value}
    return value


@settings(max_examples=400, deadline=None)
@given(value=documents(), spaced=st.booleans(), ascii_only=st.booleans())
def test_exactly_what_is_nested_too_deep_is_refused(value: Any, spaced: bool, ascii_only: bool) -> None:
    separators = (" , ", " : ") if spaced else (",", ":")
    body = json.dumps(value, ensure_ascii=ascii_only, separators=separators, indent=1 if spaced else None).encode()
    if depth(value) > bodies.MAX_DEPTH:
        with pytest.raises(bodies.Unfit) as refused:
            bodies.parse(body)
        assert (refused.value.status, refused.value.code) == (400, "json_too_deep")
    else:
        assert bodies.parse(body) == value


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet='[]{}"\\,:1 ', max_size=300).map(str.encode))
def test_bytes_that_are_no_json_are_refused_as_the_parser_does_or_as_too_deep(body: bytes) -> None:
    assume(b"NaN" not in body)  # Python's own word for a missing value is understood
    try:
        expected = orjson.loads(body)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  the parser's own words
            bodies.parse(body)
    else:
        assert bodies.parse(body) == expected


@pytest.mark.parametrize("brackets", ["[]", "{}", "[]{}", "{}{}[]"])
def test_sixty_four_levels_pass_and_sixty_five_do_not(brackets: str) -> None:
    assert depth(bodies.parse(nested(64, brackets))) == 64
    with pytest.raises(bodies.Unfit) as refused:
        bodies.parse(nested(65, brackets))
    problem = orjson.loads(refused.value.body)
    assert problem["code"] == "json_too_deep"
    assert "64" in problem["detail"]
    assert problem["hint"]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5_000_000,
        b'{"a":' * 1_000_000,
        b"[[]," * 1_200_000,
        b"[" * 200 + b"NaN" + b"]" * 200,
        nested(2000),
        b'{"inputs": [[1]], "other": ' + nested(64) + b"}",
    ],
)
def test_floods_of_brackets_are_too_deep_wherever_they_stand(body: bytes) -> None:
    with pytest.raises(bodies.Unfit):
        bodies.parse(body)


@pytest.mark.parametrize("text", ["[" * 500, '"' * 300 + "[" * 99, "\\" * 301 + "{" * 99, '\\"[' * 99, "a\\", "]" * 99])
def test_brackets_in_texts_do_not_count(text: str) -> None:
    value = {"inputs": [{"text": text, text: [text]} for _ in range(40)]}
    assert bodies.parse(json.dumps(value).encode()) == value
    assert bodies.parse(json.dumps(value | {"deep": orjson.loads(nested(63))}).encode())["inputs"] == value["inputs"]
    with pytest.raises(bodies.Unfit):
        bodies.parse(json.dumps(value | {"deep": orjson.loads(nested(64))}).encode())


# --- Rows --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", [b"[1]", b'{"a":"]"}', b"[[1,2],[3,4]]", b'{"a":[{}]}'])
def test_far_too_many_rows_are_refused_before_they_are_parsed(row: bytes) -> None:
    def body(rows: int, more: bytes = b"") -> bytes:
        return b'{"inputs":[' + b",".join([row] * rows) + b"]" + more + b"}"

    assert len(bodies.parse(body(1000), 1000)["inputs"]) == 1000
    assert len(bodies.parse(body(1000, b',"params":{"a":[]}'), 1000)["inputs"]) == 1000
    with pytest.raises(bodies.Unfit) as refused:
        bodies.parse(body(1200), 1000)
    assert (refused.value.status, refused.value.code) == (413, "too_many_rows")
    assert "1,000" in str(refused.value)
    assert len(bodies.parse(body(1200))["inputs"]) == 1200


def test_many_numbers_in_few_rows_are_no_rows() -> None:
    body = b'{"inputs":[[' + b",".join([b"[1]"] * 5000) + b"]]}"
    assert len(bodies.parse(body, 1000)["inputs"][0]) == 5000


def test_a_refusal_is_a_refusal_and_a_value_error() -> None:
    with pytest.raises(Refusal):
        bodies.parse(nested(70))
    with pytest.raises(ValueError, match="64 levels"):
        bodies.parse(nested(70))


def test_nan_in_another_encoding_is_no_json() -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the parser's own words
        bodies.parse("[\u614e\u4e00]".encode("utf-16") + b"NaN")
