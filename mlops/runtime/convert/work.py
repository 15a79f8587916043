"""The operation: try each way to convert, prove it, measure it, keep the first that is equal and faster."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import orjson

from mlops.runtime.convert import candidates, parity, rows, timing
from mlops.runtime.convert.plan import Unsuitable, pruned, stamped
from mlops.runtime.formats.accelerated import AcceleratedModel
from mlops.runtime.formats.base import said
from mlops.runtime.formats.bound import open_session
from mlops.runtime.formats.fence import on_the_fence

FASTER = 1.2  # a form that gains less is not worth a second file
_MANY_SLOWER = 0.5  # most requests have one row: a hundred at a time may be slower by this much, where one row gains more than that
_MANY = 100
Answer = tuple[int, dict[str, Any], bytes]


def convert(session: Any, header: dict[str, Any], body: bytes) -> Answer:
    """{"columns" or "tensor": rows that came with the model} in; the record as header, the ONNX file as body (empty: none was kept)."""
    begun = time.perf_counter()
    budget_s = float((header.get("args") or {}).get("budget_s", 15.0))
    given = orjson.loads(body) if body else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record, file = _converted(session, given, begun + budget_s)
    record["seconds"] = round(time.perf_counter() - begun, 2)
    return 200, {"record": record}, file


def _converted(session: Any, given: dict[str, Any], until: float) -> tuple[dict[str, Any], bytes]:
    model, schema = session.model, session.schema
    if model is None or schema is None:
        return _native("it is not a model with a schema"), b""
    reasons: list[str] = []
    try:
        ways = candidates.of(model, schema)
        first = next(ways, None)
        if first is None:
            raise Unsuitable("nothing converts it")
        natives = parity.known(model, schema, rows.of(model, schema, given))
        way: candidates.Candidate | None = first
        while way is not None:
            if time.perf_counter() > until:
                reasons.append("there was no time to try another way")
                break
            try:
                return _tried(way, session, natives)
            except Unsuitable as problem:
                reasons.append(f"{problem} [{way.precision}]")
            except Exception as error:  # noqa: BLE001  converters raise anything
                reasons.append(f"the converter says {_short(error)} [{way.precision}]")
            way = next(ways, None)
    except Unsuitable as problem:
        reasons.append(str(problem))
    except Exception as error:  # noqa: BLE001  a model's own classes may raise anything
        reasons.append(f"the conversion failed with {_short(error)}")
    return _native("; ".join(dict.fromkeys(reasons))[:1000]), b""


def _native(reason: str) -> dict[str, Any]:
    return {"status": "native", "reason": reason}


def _short(error: Exception) -> str:
    return said(error)[:200]


def _tried(way: candidates.Candidate, session: Any, natives: list[parity.Known]) -> tuple[dict[str, Any], bytes]:
    """The record and the file of one way. Raises Unsuitable."""
    model, schema = session.model, session.schema
    proto, plan = way.build()
    if plan.pick and plan.chances is not None:
        proto = pruned(proto, plan.chances)
    plan.native = model.describe()
    plan.flat = _is_flat(natives)
    form = AcceleratedModel(open_session(proto.SerializeToString()), plan, lambda: model)
    proof = parity.prove(form, model, schema, natives)
    file = stamped(proto, plan)
    form = AcceleratedModel(open_session(file), plan, lambda: model)  # closed levels and gaps are known now
    one, many = _portions(natives)
    native_us = {
        "1": timing.microseconds(lambda: model.predict(one, schema)),
        "100": timing.microseconds(lambda: model.predict(many, schema)),
    }
    form_us = {
        "1": timing.microseconds(lambda: form.predict(one, schema)),
        "100": timing.microseconds(lambda: form.predict(many, schema)),
    }
    speedup, of_many = (native_us[rows] / max(form_us[rows], 0.1) for rows in ("1", "100"))
    if speedup < FASTER or of_many < _MANY_SLOWER or speedup * of_many < FASTER**2:
        raise Unsuitable(
            f"ONNX Runtime is not faster: one row {form_us['1']:g} us instead of {native_us['1']:g}, 100 rows {form_us['100']:g} instead of {native_us['100']:g}"
        )
    return {
        "status": "accelerated",
        "precision": plan.precision,
        "speedup": round(speedup, 1),
        "max_difference": proof.largest,
        "tolerance": parity.TOLERANCE,
        "rows": proof.rows,
        "native_us": native_us,
        "accelerated_us": form_us,
        "missing_values": "onnx" if plan.nulls else "native",
        "native_texts": sorted({*plan.closed, *plan.ascii}),
        "size_bytes": len(file),
    }, file


def _is_flat(natives: list[parity.Known]) -> bool:
    values = next(each.outcome.values for each in natives if each.outcome is not None)
    return not (values and isinstance(values[0], list))


def _portions(natives: list[parity.Known]) -> tuple[Any, Any]:
    """One row and a hundred, of those the faster form answers by itself."""
    known = next(
        each
        for each in natives
        if each.outcome is not None and each.batch.kind in ("given", "random") and each.batch.count
    )
    chances = known.outcome.probabilities if known.outcome is not None else None
    places = list(range(known.batch.count))
    if chances is not None and len(chances[0]) > 1:
        places = np.flatnonzero(~on_the_fence(np.asarray(chances))).tolist() or places
    return parity.rows_of(known.batch.inputs, places[:1]), parity.rows_of(
        known.batch.inputs, [places[place % len(places)] for place in range(_MANY)]
    )
