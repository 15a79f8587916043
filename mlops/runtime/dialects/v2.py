"""The Open Inference Protocol, version 2 over REST: tensors as JSON or in Triton's binary form, in and out.

A table takes one [rows, columns] tensor in the schema's order, or one tensor per column, [rows] or [rows, 1]. The web says in the header:
``model_name`` (what the client calls the deployment), ``json_bytes``, ``encoding`` and ``body_limit``.
"""

from __future__ import annotations

import uuid
import zlib
from typing import TYPE_CHECKING, Any

from mlops.runtime import bodies
from mlops.runtime.dialects import Question, tensors
from mlops.runtime.dialects.native import dumps, parsed_object
from mlops.runtime.dialects.record import appended, native_pair
from mlops.runtime.dialects.tensors import Tensor, bad
from mlops.runtime.formats.base import Outcome
from mlops.runtime.refusals import Refusal

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

JSON, BINARY = "application/json", "application/octet-stream"
PREDICT, PROBABILITIES = "predict", "predict_proba"
_BODY_BYTES = 5 << 20
_MAX_ID = 200
_MAX_TENSORS = 10_000  # as many as a table may have columns
_WBITS = {"gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15  # what some clients call deflate


def decode(session: Session, header: dict[str, Any], body: bytes) -> Question:
    body = inflated(body, str(header.get("encoding") or ""), int(header.get("body_limit") or _BODY_BYTES))
    text, raw = _split(body, str(header.get("json_bytes") or ""))
    request = parsed_object(text)
    wants = {"id": _id(request.get("id"), header), "outputs": _outputs(session, request)}
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise bad('"inputs" is a list of tensors.', 'Send {"inputs": [{"name", "shape", "datatype", "data"}]}.')
    if len(inputs) > _MAX_TENSORS:
        raise bad(f"{len(inputs):,} tensors are more than {_MAX_TENSORS:,}.")
    limit, at, found = session.spec.limits.rows, 0, []
    for given in inputs:
        tensor, at = tensors.read(given, raw, at, limit, pictures=_takes_pictures(session.schema))
        found.append(tensor)
    if at != len(raw):
        raise bad(f"{len(raw) - at} bytes after the JSON belong to no tensor.")
    question = _question(session, found)
    question.wants = wants
    return question


def encode(
    session: Session, header: dict[str, Any], question: Question, outcome: Outcome, timings: dict[str, float]
) -> tuple[dict[str, Any], bytes]:
    entries, raw = [], []
    for name, binary in question.wants["outputs"]:
        tensor = _output(name, outcome)
        entry: dict[str, Any] = {"name": name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        content_type = "str" if tensor.datatype == "BYTES" else "np"
        if binary:
            raw.append(tensors.to_binary(tensor))
            entry["parameters"] = {"content_type": content_type, "binary_data_size": len(raw[-1])}
        else:
            entry |= {"parameters": {"content_type": content_type}, "data": tensor.flat}
        entries.append(entry)
    text = dumps(
        {
            "model_name": header.get("model_name") or session.spec.name,
            "model_version": str(session.spec.version),
            "id": question.wants["id"],
            "parameters": {},
            "outputs": entries,
        }
    )
    log, body = appended(b"".join((text, *raw)), native_pair(session, header, question, outcome, timings))
    reply: dict[str, Any] = {"rows": question.count, "timings_ms": timings, "log": log, "content_type": JSON}
    if raw:
        reply |= {"content_type": BINARY, "headers": {"Inference-Header-Content-Length": str(len(text))}}
    return reply, body


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its Content-Encoding, never more than ``limit`` bytes of it. Raises Refusal."""
    if encoding in ("", "identity"):
        return body
    if encoding not in _WBITS:
        raise Refusal(415, "unsupported_media_type", f"Content-Encoding {encoding[:40]!r} is not known here.", "gzip.")
    zlib_head = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0
    unpacker = zlib.decompressobj(_WBITS[encoding] if zlib_head or encoding == "gzip" else _RAW_DEFLATE)
    try:
        found = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise Refusal(400, "bad_encoding", f"The body is not {encoding}: {error}.") from error
    if len(found) > limit:
        raise Refusal(413, "too_large", f"The unpacked body is larger than {limit >> 20} MB.", "Send fewer rows.")
    if not unpacker.eof or unpacker.unused_data:
        raise Refusal(400, "bad_encoding", f"The {encoding} body is cut short, or more follows after its end.")
    return found


def _split(body: bytes, json_bytes: str) -> tuple[bytes, bytes]:
    if not json_bytes:
        return body, b""
    if not (json_bytes.isascii() and json_bytes.isdigit() and len(json_bytes) < 11) or int(json_bytes) > len(body):
        raise bad(f"Inference-Header-Content-Length is {json_bytes[:40]!r}, the body has {len(body)} bytes.")
    return body[: int(json_bytes)], body[int(json_bytes) :]


def _id(given: Any, header: dict[str, Any]) -> str:
    if given is None or given == "":
        return str(uuid.UUID(header["base_id"])) if header.get("base_id") else str(uuid.uuid4())
    if not isinstance(given, str) or len(given) > _MAX_ID:
        raise bad(f"The id is a text of at most {_MAX_ID} characters.")
    return given


def _outputs(session: Session, request: dict[str, Any]) -> list[tuple[str, bool]]:
    """(name, whether binary) of what is to be answered."""
    offered = [PREDICT, PROBABILITIES] if session.model is not None and session.model.probabilities else [PREDICT]
    parameters = request.get("parameters") or {}
    wanted = request.get("outputs")
    if not isinstance(parameters, dict) or not (wanted is None or isinstance(wanted, list)):
        raise bad("parameters is an object and outputs a list.")
    every = parameters.get("binary_data_output") is True
    if not wanted:
        return [(name, every) for name in offered]
    found: dict[str, bool] = {}
    for output in wanted[: len(offered) + 1]:
        name = output.get("name") if isinstance(output, dict) else None
        asked = (output.get("parameters") or {}) if isinstance(output, dict) else {}
        if name not in offered or name in found or not isinstance(asked, dict):
            raise Refusal(
                400, "unknown_output", f"There is no output {str(name)[:80]!r} (or it is asked for twice).",
                f"Outputs: {', '.join(offered)}.",
            )  # fmt: skip
        if asked.get("classification"):
            raise bad("The classification extension is not offered here.", f"Ask for {PROBABILITIES}.")
        found[name] = bool(asked.get("binary_data", every))
    return list(found.items())


def _output(name: str, outcome: Outcome) -> Tensor:
    if name == PREDICT:
        return tensors.of_values(name, outcome.values)
    if outcome.probabilities is None:
        raise Refusal(400, "unknown_output", f"This model gave no {PROBABILITIES}.", f"Ask for {PREDICT} only.")
    return tensors.of_values(name, outcome.probabilities)


def _question(session: Session, found: list[Tensor]) -> Question:
    schema = session.schema
    if schema is not None and schema["kind"] == "tensor":
        if len(found) != 1:
            raise bad(f"The model takes one tensor, the request has {len(found)}.", "See the model's metadata.")
        pictures = found[0].datatype == "BYTES" and _takes_pictures(schema)
        return session.question(found[0].values() if pictures else found[0].array())
    if schema is not None and schema["kind"] == "json":
        return _json_question(session, schema, found)
    columns = len(schema["inputs"]) if schema is not None else None
    if len(found) == 1:
        return _from_one(session, found[0], columns)
    wide = next((tensor for tensor in found if tensor.width != 1), None)
    if wide is not None:
        raise bad(f"Tensor {wide.name!r} of shape {list(wide.shape)} is no column.", "Columns are [rows] or [rows, 1].")
    if len({tensor.rows for tensor in found}) > 1:
        raise bad("The tensors have different numbers of rows.")
    if len({tensor.name for tensor in found}) < len(found):
        raise bad("Two tensors have one name.")
    return session.columns_question({tensor.name: tensor.values() for tensor in found})


def _takes_pictures(schema: dict[str, Any] | None) -> bool:
    return ((schema or {}).get("tensor") or {}).get("encoding") == "image"


def _json_question(session: Session, schema: dict[str, Any], found: list[Tensor]) -> Question:
    """Tensors by name; a model of any JSON takes a row per element of one tensor (of text: each a JSON text, or the text itself)."""
    if len({tensor.rows for tensor in found}) > 1:
        raise bad("The tensors have different numbers of rows.")
    if schema.get("tensors"):
        return session.columns_question({tensor.name: tensor.array() for tensor in found})
    rows = [_json_rows(tensor) for tensor in found]
    if len(found) == 1:
        return session.question(rows[0])
    names = [tensor.name for tensor in found]
    return session.question([dict(zip(names, row, strict=True)) for row in zip(*rows, strict=True)])


def _json_rows(tensor: Tensor) -> list[Any]:
    if tensor.datatype != "BYTES":
        return tensor.array().tolist()
    if tensor.width != 1:
        raise bad(f"Tensor {tensor.name!r} of shape {list(tensor.shape)} is no list of texts.", "Send shape [rows].")
    return [_json_of(value) for value in tensor.values()]


def _json_of(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return bodies.parse(value.encode())
    except ValueError:
        return value


def _from_one(session: Session, tensor: Tensor, columns: int | None) -> Question:
    """One tensor is the whole table in the schema's order, or the only column, or rows as JSON."""
    if tensor.width == 1 and all(isinstance(value, (dict, list)) for value in tensor.values()):
        return session.question(tensor.values())
    if tensor.width is not None and (columns is None or tensor.width == columns):
        return session.question(tensor.as_rows())
    if tensor.width == 1:
        return session.columns_question({tensor.name: tensor.values()})  # names the columns that are missing
    raise bad(
        f"Tensor {tensor.name!r} has shape {list(tensor.shape)}, the model takes {columns} columns.",
        f"Send one tensor [rows, {columns}], or one tensor per column.",
    )
