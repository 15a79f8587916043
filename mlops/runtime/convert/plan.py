"""How a converted graph is fed and read: kept inside the file itself, so that one hash covers both."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

KEY = "slipway"
FORM = 1  # of what is written here; a file of another one is not used

MATRIX, COLUMNS, TEXT, SLOTS = "matrix", "columns", "text", "slots"


class Unsuitable(Exception):
    """This model, or this way of converting it, cannot be used; the message is for a person."""


@dataclass
class Plan:
    """What stands between a request's columns and the graph, and between the graph's outputs and the answer."""

    way: str  # matrix: one input; columns: one for numbers, one for texts; text: one column of text; slots: as the network's own inputs
    precision: str  # float64, float32, or mixed
    feeds: list[dict[str, Any]]  # [{"name", "dtype", "columns"?}]
    names: list[str] | None = None  # the model's own column names, in its order
    values: str | None = None  # the output with labels or values
    chances: str | None = None  # the output with probabilities
    labels: list[Any] | None = None  # the model's labels, in the order of the probabilities
    pick: bool = False  # the label is the likeliest class
    flat: bool = True  # one value a row
    nulls: bool = False  # rows with missing numbers were proven too
    closed: dict[str, list[str]] = field(default_factory=dict)  # column -> the only texts that were proven
    ascii: list[str] = field(default_factory=list)  # columns of free text: plain ASCII was proven
    native: dict[str, Any] = field(default_factory=dict)  # what the model says about itself
    slots: list[list[Any]] = field(default_factory=list)  # [name, dtype, shape] of a network's inputs
    form: int = FORM

    def dumps(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def loads(cls, text: str) -> Plan:
        """Raises Unsuitable for a plan of another form."""
        values = orjson.loads(text)
        if not isinstance(values, dict) or values.get("form") != FORM:
            raise Unsuitable("it was made for another version of Slipway")
        return cls(**values)


def pruned(proto: Any, output: str) -> Any:
    """The graph for this output alone: nodes that no longer lead anywhere would be worked out in each call."""
    graph = proto.graph
    if any(part.HasField("g") or part.graphs for node in graph.node for part in node.attribute):
        return proto  # a graph within a node may use any name of the outer one
    needed, kept = {output}, []
    for node in reversed(graph.node):  # they stand in the order in which they are worked out
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    small = type(proto)()
    small.CopyFrom(proto)
    del small.graph.node[:], small.graph.output[:], small.graph.initializer[:]
    small.graph.node.extend(reversed(kept))
    small.graph.output.extend(each for each in graph.output if each.name == output)
    small.graph.initializer.extend(each for each in graph.initializer if each.name in needed)
    return small


def stamped(proto: Any, plan: Plan) -> bytes:
    """The file: the graph with its plan inside."""
    kept = [item for item in proto.metadata_props if item.key != KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, plan.dumps()
    found: bytes = proto.SerializeToString()
    return found
