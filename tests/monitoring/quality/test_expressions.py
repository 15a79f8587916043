"""The formula language: what it computes, what it refuses, and what is missing."""

from __future__ import annotations

import math
import random

import pytest

from monitoring.drift.quality import expressions
from monitoring.drift.quality.expressions import ExpressionError, Table

ROWS = {
    "amount": [100.0, 2000.0, None, 3000.0],
    "colour": ["red", "blue", "red", None],
    "member": [True, False, None, True],
    "prediction": ["fraud", "ok", "fraud", "fraud"],
    "actual": ["fraud", "ok", "ok", None],
    "zero": [0, 0, 0, 0],
    "two words": [1, 2, 3, 4],
}
TABLE = Table(ROWS, 4, {"fraud": [0.9, 0.2, 0.8, 0.7]})


def value(text: str, table: Table = TABLE) -> float | None:
    return expressions.read(text, list(table.columns), ["ok", "fraud"]).value(table)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mean(amount)", 1700.0),
        ("sum(amount) / count(amount)", 1700.0),
        ("count()", 4),
        ("count(colour)", 3),
        ("count(amount > 1000)", 2),
        ('share(amount > 1000 and prediction == "fraud")', 1 / 3),  # the row without an amount may be one or not
        ('share(prediction == "ok" or amount > 1000)', 2 / 3),
        ("share(prediction == actual)", 2 / 3),
        ('share(colour in ("red", "green"))', 2 / 3),
        ('share(colour not in ["red"])', 1 / 3),
        ("share(not member)", 1 / 3),
        ('mean(1 if colour == "red" else 0)', 2 / 3),
        ('sum(where(prediction == "fraud", amount, 0))', 3100.0),
        ("quantile(amount, 0.5)", 2000.0),
        ("max(amount) - min(amount)", 2900.0),
        ("mean(abs(amount - mean(amount))) % 1000", pytest.approx(66.6666667)),
        ("log(100)", math.log(100)),
        ('mean(column("two words"))', 2.5),
        ('mean(probability_of("fraud"))', 0.65),
        ("share(100 < amount <= 2000)", 1 / 3),
        ("mean(amount / zero)", None),
        ("1 / 0", None),
        ("mean(log(zero))", None),
        ("mean(probability)", None),
        ("-mean(zero) + 1", 1.0),
    ],
)
def test_a_formula_has_this_value(text, expected):
    found = value(text)
    assert found == (pytest.approx(expected) if expected is not None else None)


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("mean(amuont)", "no column 'amuont'", 6),
        ("mean(amount", "cannot be read", None),
        ("sin(amount)", "no function 'sin'", 1),
        ("mean(amount, 2)", "takes 1 argument", 1),
        ("mean(amount) ** 2", "no", 1),
        ("amount.__class__", "a dot", 1),
        ("().__class__.__bases__", "a dot", 1),
        ("(lambda: 1)()", "no function", 1),
        ("[x for x in amount]", "no", 1),
        ("mean(__import__('os'))", "no function '__import__'", 6),
        ("mean(amount[0])", "square brackets", 6),
        ("quantile(amount, 5)", "between 0 and 1", 18),
        ("mean(colour + 1)", "is a text", 6),
        ("share(colour > 1)", "no < and >", 7),
        ("amount", "one value per row", 1),
        ("colour if True else 1", "text, the other a number", None),
        ("mean(amount := 3)", "no", 6),
        ("mean(*amount)", "no", 6),
        ("sum(" * 50 + "1" + ")" * 50, "nested deeper", None),
        ("+".join(["1"] * 150), "more than 200 parts", 1),
        ("1" * 1200, "longer than", 1),
        ("mean(1e400)", "neither", 6),
        ("probability_of('maybe')", "no class 'maybe'", 16),
        ("", "empty", 1),
        ("mean(b'x')", "neither", 6),
    ],
)
def test_a_formula_is_refused_at_its_place(text, message, position):
    with pytest.raises(ExpressionError) as refused:
        value(text)
    assert message in refused.value.message
    assert position in (None, refused.value.position)


def test_a_near_name_is_offered():
    with pytest.raises(ExpressionError) as refused:
        value("mean(amuont)")
    assert "amount" in refused.value.hint


def test_nothing_but_an_expression_error_comes_out_of_any_text():
    draw = random.Random(3)
    words = [
        "mean(",
        "amount",
        ")",
        "+",
        "'a'",
        "1",
        " if ",
        " else ",
        "(",
        ",",
        "in",
        "colour",
        "==",
        "not ",
        "[",
        "]",
        ".",
        "\x00",
    ]
    for _ in range(3000):
        text = "".join(draw.choices(words, k=draw.randint(1, 12)))
        try:
            found = value(text)
        except ExpressionError:
            continue
        assert found is None or math.isfinite(found)
