"""Other servers' protocols in a deployment's OpenAPI document: where they are, and a request of each that works."""

from __future__ import annotations

from typing import Any

from serving.protocol_snippets import example_tensors

_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_MLFLOW_ERROR = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
}
_PREDICTIONS = {
    "type": "object",
    "required": ["predictions"],
    "properties": {"predictions": {"type": "array", "items": {}}},
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "data": {"type": "array", "items": {}},
        "parameters": {"type": "object"},
    },
}


def paths(path: str, organization: str, name: str, schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """``path``: the deployment's address; ``example``: a native request."""
    tensors = {"type": "object", "required": ["inputs"], "properties": {"inputs": {"type": "array", "items": _TENSOR}}}
    answer = {"type": "object", "properties": {"outputs": {"type": "array", "items": _TENSOR}}}
    v2 = f"/{organization}/v2/models/{name}"
    rows = example.get("inputs")
    instances = rows if isinstance(rows, list) else [rows]
    return {
        f"{path}/explain": {
            "post": _operation(
                "explain", "Why this answer: SHAP values per row and column", {"$ref": "#/components/schemas/Request"}, example,
                {"type": "object"}, {"$ref": "#/components/schemas/Problem"}, "application/problem+json",
            )
        },
        f"{path}/invocations": {
            "post": _operation(
                "mlflow_invocations", "MLflow's scoring server", {"type": "object"}, _frame(schema, instances), _PREDICTIONS, _MLFLOW_ERROR
            )
        },
        f"{v2}/infer": {"post": _operation("v2_infer", "Open Inference Protocol V2", tensors, {"inputs": example_tensors(schema, example)}, answer, _ERROR)},
        v2: {"get": {"operationId": "v2_model", "summary": "Open Inference Protocol V2: tensors in and out", "responses": {"200": _content("The model", {"type": "object"})}}},
        f"/{organization}/v1/models/{name}:predict": {
            "post": _operation("v1_predict", "KServe V1", {"type": "object"}, {"instances": instances}, _PREDICTIONS, _ERROR)
        },
    }  # fmt: skip


def _frame(schema: dict[str, Any], rows: list[Any]) -> dict[str, Any]:
    return (
        {"inputs": rows}
        if schema.get("kind") == "tensor" or not isinstance(rows[0], dict)
        else {"dataframe_records": rows}
    )


def _operation(  # noqa: PLR0913  an operation has these parts
    name: str, summary: str, request: dict[str, Any], example: Any, answer: dict[str, Any], error: dict[str, Any], error_type: str = "application/json"
) -> dict[str, Any]:  # fmt: skip
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": request, "example": example}}},
        "responses": {
            "200": _content("The answer", answer),
            "default": _content("A refusal in this protocol's words", error, error_type),
        },
    }


def _content(description: str, schema: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}
