"""A small language for metrics: one formula over columns, ``mean(abs(prediction - actual)) / mean(actual)``.

Python's own parser reads it and nothing of Python runs: only the node kinds in ``_evaluate`` exist, names are columns, calls are
the functions of ``FUNCTIONS``. Everything is done on whole columns with numpy.

- Names: the columns, ``prediction``, ``actual``, ``probability`` (of the answered class). ``column("loan amount")`` for names
  that are no words, ``probability_of("fraud")`` for one class.
- Values: numbers, texts, True, False, None; ``+ - * / %``, comparisons, ``and or not``, ``in (..)``, ``a if condition else b``.
- Per row: ``abs log where(condition, a, b)``. Over rows: ``mean sum count min max quantile(x, 0.95) share(condition)``.
- What is missing stays missing and is left out of every mean, count and share (three-valued logic, as in SQL). Division by
  zero, the log of nothing and a mean of no rows are missing; a formula that ends so has no value.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monitoring.drift.quality.expression_values import (
    Array,
    Value,
    finite,
    over_known,
    same,
    text_of,
    typed,
    where_known,
)

MAX_CHARACTERS = 1_000
MAX_NODES = 200
MAX_DEPTH = 40
SPECIAL = ("prediction", "actual", "probability")
_LARGEST = 1e300


class ExpressionError(Exception):
    """What is wrong, where (1-based character), and what to write instead."""

    def __init__(self, message: str, position: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.position, self.hint = message, position, hint


@dataclass(frozen=True)
class Table:
    """columns: name -> values, all of one length. chances: class as text -> its probabilities. Values are as JSON has them."""

    columns: Mapping[str, Sequence[Any]]
    rows: int
    chances: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Expression:
    """A formula that has been read. names: columns it asks for; classes: those of probability_of."""

    text: str
    tree: ast.expr
    names: frozenset[str]
    classes: frozenset[str]

    def value(self, table: Table) -> float | None:
        """The one number; None where it is not defined. Raises ExpressionError (a text is added to a number, say)."""
        with np.errstate(all="ignore"):
            found = _Evaluation(table).of(self.tree)
        if found.data.shape != ():
            raise ExpressionError(
                "This gives one value per row, a metric is one number.", 1, f"Write mean({self.text[:60]}) or sum(...)."
            )
        if found.kind == "text":
            raise ExpressionError(
                "This gives a text, a metric is a number.", 1, "Write share(... == ...) or count(...)."
            )
        number = float(found.data)
        return number if np.isfinite(number) else None


def read(text: str, known: Sequence[str] | None = None, classes: Sequence[str] = ()) -> Expression:
    """Check a formula. known: the columns there are (None: not checked). Raises ExpressionError with the place."""
    if not text.strip():
        raise ExpressionError("The formula is empty.", 1, "For example mean(abs(prediction - actual)).")
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"The formula is longer than {MAX_CHARACTERS:,} characters.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = getattr(error, "offset", None) or 1
        raise ExpressionError(
            "The formula cannot be read here.", place, "Look for a missing bracket or operator."
        ) from error
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise ExpressionError(f"The formula has more than {MAX_NODES} parts.")
    reader = _Reader(known, classes)
    reader.visit(tree, 0)
    return Expression(text.strip(), tree, frozenset(reader.names), frozenset(reader.classes))


_ARITHMETIC: dict[type[ast.operator], Callable[[Array, Array], Array]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Mod: np.mod,
}
_ORDER: dict[type[ast.cmpop], Callable[[Array, Array], Array]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
_SAME = (ast.Eq, ast.NotEq)
_ONE_OF = (ast.In, ast.NotIn)
# name -> number of arguments
FUNCTIONS = {
    "mean": (1,), "sum": (1,), "count": (0, 1), "min": (1,), "max": (1,), "quantile": (2,), "share": (1,), "abs": (1,),
    "log": (1,), "where": (3,), "column": (1,), "probability_of": (1,),
}  # fmt: skip
_NAMING = ("column", "probability_of")


class _Reader:
    """Walks a tree once, before any data: every part must be one the language has."""

    def __init__(self, known: Sequence[str] | None, classes: Sequence[str]) -> None:
        self._known, self._classes = known, classes
        self.names: set[str] = set()
        self.classes: set[str] = set()

    def visit(self, node: ast.expr, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _wrong(node, f"The formula is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(node, ast.Name):
            self._name(node, node.id)
            return
        if isinstance(node, ast.Constant):
            _constant(node)
            return
        if isinstance(node, ast.Call):
            self._call(node, depth)
            return
        for part in _parts(node):
            self.visit(part, depth + 1)

    def _name(self, node: ast.expr, name: str) -> None:
        if self._known is not None and name not in self._known and name not in SPECIAL:
            near = difflib.get_close_matches(name, [*self._known, *SPECIAL], 3)
            meant = (
                f"Did you mean {' or '.join(near)}?"
                if near
                else f"Columns: {', '.join([*self._known, *SPECIAL][:20])}."
            )
            if name in FUNCTIONS:
                meant = f"{name} is a function: write {name}(...)."
            raise _wrong(node, f"There is no column {name!r}.", meant)
        self.names.add(name)

    def _call(self, node: ast.Call, depth: int) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            raise _wrong(
                node, f"There is no function {name or 'of this kind'!r}.", f"Functions: {', '.join(FUNCTIONS)}."
            )
        if node.keywords or len(node.args) not in FUNCTIONS[name]:
            wants = " or ".join(map(str, FUNCTIONS[name]))
            raise _wrong(node, f"{name}() takes {wants} argument{'s' if wants != '1' else ''}, not {len(node.args)}.")
        if name in _NAMING:
            given = node.args[0]
            if not isinstance(given, ast.Constant) or not isinstance(given.value, str):
                raise _wrong(given, f"{name}() takes a name in quotes.")
            self._column_or_class(name, given, given.value)
            return
        if name == "quantile":
            share = node.args[1]
            if (
                not isinstance(share, ast.Constant)
                or not isinstance(share.value, int | float)
                or not 0 <= share.value <= 1
            ):
                raise _wrong(share, "quantile(x, q) takes a q between 0 and 1, for example 0.95.")
        for each in node.args:
            self.visit(each, depth + 1)

    def _column_or_class(self, function: str, node: ast.expr, name: str) -> None:
        if function == "column":
            self._name(node, name)
            return
        if self._classes and name not in self._classes:
            raise _wrong(node, f"There is no class {name!r}.", f"Classes: {', '.join(self._classes[:20])}.")
        self.classes.add(name)


def _parts(node: ast.expr) -> list[ast.expr]:
    """The operands of a node. Raises ExpressionError for what the language does not have."""
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return [node.left, node.right]
    if isinstance(node, ast.BoolOp):
        return list(node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.UAdd):
        return [node.operand]
    if isinstance(node, ast.IfExp):
        return [node.test, node.body, node.orelse]
    if isinstance(node, ast.Compare):
        for operator, right in zip(node.ops, node.comparators, strict=True):
            listed = isinstance(right, ast.Tuple | ast.List)
            if listed is not isinstance(operator, _ONE_OF) or not isinstance(operator, (*_ORDER, *_SAME, *_ONE_OF)):
                raise _wrong(right, "This comparison is not known.", 'Use == != < <= > >=, or in ("a", "b").')
            if isinstance(right, ast.Tuple | ast.List) and not all(
                isinstance(each, ast.Constant) for each in right.elts
            ):
                raise _wrong(
                    right, "After in stand plain values in brackets.", 'For example colour in ("red", "blue").'
                )
        found = [node.left]
        for right in node.comparators:
            found += right.elts if isinstance(right, ast.Tuple | ast.List) else [right]
        return found
    what = {"Attribute": "a dot", "Subscript": "square brackets", "Lambda": "lambda", "Pow": "**"}.get(
        type(node).__name__
    )
    raise _wrong(
        node,
        f"A formula has no {what or 'such part'}.",
        "It has columns, numbers, texts, + - * / %, comparisons, and, or, not, if else, in, and functions.",
    )


def _wrong(node: ast.expr, message: str, hint: str = "") -> ExpressionError:
    return ExpressionError(message, getattr(node, "col_offset", 0) + 1, hint)


def _constant(node: ast.Constant) -> Value:
    value = node.value
    if value is None:
        return Value("number", np.array(np.nan))
    if isinstance(value, bool):
        return Value("truth", np.array(float(value)))
    if isinstance(value, int | float) and abs(value) <= _LARGEST:
        return Value("number", np.array(float(value)))
    if isinstance(value, str):
        return Value("text", text_of(value))
    raise _wrong(node, "This value is neither a number nor a text.")


class _Evaluation:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns: dict[str, Value] = {}

    def of(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant():
                return _constant(node)
            case ast.Name():
                return self._column(node.id, self._table.columns.get(node.id))
            case ast.Call():
                return self._call(node)
            case ast.BinOp():
                left, right = self._number(node.left), self._number(node.right)
                return Value("number", finite(_ARITHMETIC[type(node.op)](left, right)))
            case ast.UnaryOp():
                if isinstance(node.op, ast.Not):
                    return Value("truth", 1.0 - self._truth(node.operand))
                number = self._number(node.operand)
                return Value("number", -number if isinstance(node.op, ast.USub) else number)
            case ast.BoolOp():
                return self._joined(node)
            case ast.Compare():
                return self._compared(node)
            case ast.IfExp():
                return self._chosen(node.test, node.body, node.orelse)
        raise _wrong(node, "A formula has no such part.")

    def _column(self, name: str, values: Sequence[Any] | None) -> Value:
        if name not in self._columns:
            self._columns[name] = typed([None] * self._table.rows if values is None else values)
        return self._columns[name]

    def _number(self, node: ast.expr) -> Array:
        found = self.of(node)
        if found.kind == "text":
            raise _wrong(node, "This is a text, a number is needed here.", "Compare it: colour == 'red' is 1 or 0.")
        return found.data

    def _truth(self, node: ast.expr) -> Array:
        found = self.of(node)
        if found.kind == "text":
            raise _wrong(node, "This is a text, a condition is needed here.", 'Write a comparison: colour == "red".')
        return found.data if found.kind == "truth" else where_known(found.data, found.data != 0)

    def _joined(self, node: ast.BoolOp) -> Value:
        """Kleene's logic: one known side may decide, else what is not known stays so."""
        both = isinstance(node.op, ast.And)
        found = self._truth(node.values[0])
        for each in node.values[1:]:
            other = self._truth(each)
            if both:
                found = np.where((found == 0) | (other == 0), 0.0, found * other)
            else:
                found = np.where((found == 1) | (other == 1), 1.0, found + other)
        return Value("truth", np.asarray(found))

    def _compared(self, node: ast.Compare) -> Value:
        found: Array = np.array(1.0)
        left, left_node = self.of(node.left), node.left
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(right_node, ast.Tuple | ast.List):
                truth: Array = np.array(0.0)
                for each in right_node.elts:
                    alike = same(left, self.of(each))
                    truth = np.where((truth == 1) | (alike == 1), 1.0, truth + alike)
                truth = 1.0 - truth if isinstance(operator, ast.NotIn) else truth
            else:
                right = self.of(right_node)
                if isinstance(operator, _SAME):
                    truth = same(left, right)
                    truth = 1.0 - truth if isinstance(operator, ast.NotEq) else truth
                elif "text" in (left.kind, right.kind):
                    raise _wrong(
                        left_node if left.kind == "text" else right_node, "Texts have no < and >.", "Use == or in."
                    )
                else:
                    order = _ORDER[type(operator)](left.data, right.data)
                    truth = where_known(left.data + right.data, order)
                left, left_node = right, right_node
            found = np.where((found == 0) | (truth == 0), 0.0, found * truth)
        return Value("truth", np.asarray(found))

    def _chosen(self, test: ast.expr, body: ast.expr, other: ast.expr) -> Value:
        truth, yes, no = self._truth(test), self.of(body), self.of(other)
        if (yes.kind == "text") is not (no.kind == "text"):
            raise _wrong(other, "One way gives a text, the other a number.")
        picked = np.array(np.where(truth == 1, yes.data, no.data))
        if yes.kind == "text":
            picked[np.isnan(truth)] = None
            return Value("text", picked)
        return Value(yes.kind if yes.kind == no.kind else "number", np.where(np.isnan(truth), np.nan, picked))

    def _call(self, node: ast.Call) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _NAMING:
            given = node.args[0]
            wanted = str(given.value) if isinstance(given, ast.Constant) and isinstance(given.value, str) else ""
            if name == "column":
                return self._column(wanted, self._table.columns.get(wanted))
            return self._column(f"probability_of {wanted}", self._table.chances.get(wanted))
        if name == "where":
            return self._chosen(*node.args)
        if name == "count":
            return Value("number", np.array(self._count(node)))
        if name == "share":
            return Value("number", over_known(np.mean, self._truth(node.args[0])))
        number = self._number(node.args[0])
        if name == "abs":
            return Value("number", np.abs(number))
        if name == "log":
            return Value("number", finite(np.log(number)))
        if name == "quantile":
            share = float(self._number(node.args[1]))
            return Value("number", over_known(lambda known: np.quantile(known, share), number))
        over: dict[str, Callable[[Array], Any]] = {"mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max}
        return Value("number", over_known(over[name], number))

    def _count(self, node: ast.Call) -> float:
        """count(): rows; count(condition): where it holds; count(x): where x is known."""
        if not node.args:
            return float(self._table.rows)
        found = self.of(node.args[0])
        if found.kind == "truth":
            return float(np.sum(found.data == 1))
        if found.kind == "text":
            return float(sum(each is not None for each in found.data.ravel().tolist()))
        return float(np.sum(~np.isnan(found.data)))
