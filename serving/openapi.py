"""What a deployment takes and answers, as JSON Schema and as an OpenAPI 3.1 document with the real column names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accounts import access
from accounts.caller import Caller
from mlops.core import errors
from mlops.runtime.schema import answer_json_schema, example_row, to_json_schema
from registry.models import ModelVersion
from serving import guests, protocol_openapi
from serving.errors import NotDeployed
from serving.models import Deployment

EXAMPLE_ROWS = 1


@dataclass(frozen=True)
class Described:
    """A deployment, the version that answers, and what may be said to it."""

    deployment: Deployment
    version: ModelVersion
    example: dict[str, Any]
    request_schema: dict[str, Any]
    answer_schema: dict[str, Any]


def described(caller: Caller, org: str, name: str) -> Described:
    """For everyone who may look at the deployment or call it. Raises NotFound, Forbidden, NotDeployed."""
    rows = Deployment.objects.with_routes().filter(organization__slug=org, name=name)
    found = rows.visible_to(caller).first()
    if found is None and (shared := guests.deployment(caller, org, name)) is not None:
        return _described(shared.deployment, shared.version)
    allowed = found is not None and caller.can("deployment.predict", found.organization_id)
    if found is None or not allowed:
        found = access.get(caller, rows, "deployment.view")
    return describe(found)


def describe(deployment: Deployment) -> Described:
    """Raises NotDeployed before the first version is live."""
    return _described(deployment, deployment.live_version)


def _described(deployment: Deployment, version: ModelVersion | None) -> Described:
    if version is None or version.schema is None:
        raise NotDeployed(f"{deployment.name} has no live version.", hint="Deploy a version first.", retry_after_s=30)
    version.model = deployment.model
    example = example_request(version)
    request = {**to_json_schema(version.schema), "example": example}
    return Described(deployment, version, example, request, answer_json_schema(version.schema))


def example_request(version: ModelVersion) -> dict[str, Any]:
    """A request that works: the version's own example row, else one made from the schema. Raises Conflict without a schema."""
    if isinstance(version.example, list) and version.example:
        return {"inputs": version.example[:EXAMPLE_ROWS]}
    if version.schema is None:
        raise errors.Conflict("This version has no schema yet.", hint="Wait until its validation has ended.")
    return {"inputs": [example_row(version.schema)]}


def document(described: Described, server_url: str) -> dict[str, Any]:
    """OpenAPI 3.1 of the deployment's own endpoints."""
    deployment = described.deployment
    path = deployment.predict_path
    title = f"{deployment.organization.slug}/{deployment.name}"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": str(described.version.number),
            "description": f"Predictions of {deployment.model.name}, version {described.version.number}. Served by Slipway.",
        },
        "servers": [{"url": server_url}],
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (sk_live_...) with the scope predict.",
                }
            },
            "schemas": {"Request": described.request_schema, "Answer": described.answer_schema, "Problem": _PROBLEM},
        },
        "paths": {
            path: {"post": _predict_operation(title, described)},
            f"{path}/batch": {"post": _batch_operation()},
            **protocol_openapi.paths(
                path, deployment.organization.slug, deployment.name, described.version.schema or {}, described.example
            ),
            f"{path}/schema": {
                "get": {
                    "operationId": "schema",
                    "summary": "Columns, types, ranges and the example",
                    "responses": {
                        "200": {
                            "description": "The schema",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    },
                }
            },
        },
    }


def _predict_operation(title: str, described: Described) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": f"Predict with {title}",
        "parameters": [
            {
                "name": "version",
                "in": "query",
                "required": False,
                "schema": {"type": "integer", "minimum": 1},
                "description": "Ask this version of the model instead of the live one.",
            },
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "Sent again within 24 hours with the same body, it brings the same answer again: same bytes, same prediction ids.",
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Request"}, "example": described.example}
            },
        },
        "responses": {
            "200": {
                "description": "One prediction per row",
                "headers": _RATE_LIMIT,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
            },
            **{
                code: {
                    "description": text,
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
                for code, text in _REFUSALS.items()
            },
        },
    }


_FILES = ("application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.parquet")


def _batch_operation() -> dict[str, Any]:
    binary: dict[str, Any] = {"type": "string", "format": "binary"}
    files = {kind: {"schema": binary} for kind in _FILES}
    formats = {"type": "string", "enum": ["json", "jsonl", "csv", "parquet"]}
    form = {"type": "object", "required": ["file"], "properties": {"file": binary}}
    return {
        "operationId": "batch",
        "summary": "Predict a file of rows",
        "parameters": [
            {"name": "format", "in": "query", "required": False, "schema": formats, "description": "Of the results."},
            {"name": "version", "in": "query", "required": False, "schema": {"type": "integer", "minimum": 1}},
        ],
        "requestBody": {"required": True, "content": {**files, "multipart/form-data": {"schema": form}}},
        "responses": {
            "200": {"description": "A small file: one result per row", "headers": _RATE_LIMIT, "content": files},
            "202": {
                "description": "A large one: a run to watch at its url",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **{
                code: {
                    "description": _REFUSALS[code],
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
                for code in ("401", "403", "404", "413", "422", "429", "503")
            },
        },
    }


_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["status", "code", "detail", "request_id"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "request_id": {"type": "string"},
        "schema_url": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"column": {"type": "string"}, "row": {"type": "integer"}, "message": {"type": "string"}},
            },
        },
    },
}
_RATE_LIMIT = {
    f"RateLimit-{name}": {"schema": {"type": "integer"}, "description": text}
    for name, text in (
        ("Limit", "Calls a minute of the tightest limit"),
        ("Remaining", "Calls left of it"),
        ("Reset", "Seconds until it is whole again"),
    )
}
_REFUSALS = {
    "400": "The body is not the JSON that is expected",
    "401": "No key, or an unknown, revoked or expired one",
    "403": "The key may not call this deployment",
    "404": "No such deployment or version",
    "409": "The first request with this Idempotency-Key still runs: wait for Retry-After",
    "413": "Too many bytes or rows",
    "415": "Another content type than application/json",
    "422": "A column is missing, unknown or of the wrong type: errors names it; or the Idempotency-Key was used for another request",
    "429": "More calls a minute than the key, the organisation or the deployment may take: wait for Retry-After",
    "502": "The model failed on this request",
    "503": "Not live, or the model is being started: wait for Retry-After",
    "504": "The model did not answer in time",
}
