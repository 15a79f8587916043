"""What is wrong with rows or with a schema, and how values are called when it is said."""

from __future__ import annotations

from typing import Any

MAX_ERRORS = 20
MAX_ROWS = 100_000


class SchemaError(Exception):
    """Data or a schema that does not fit. `errors`: [{"column"?, "row"?, "message"}], rows counted from 0, at most 20."""

    def __init__(
        self, message: str, errors: list[dict[str, Any]] | None = None, hint: str = "", code: str = "schema_mismatch"
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.errors = errors or []
        self.hint = hint

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "detail": self.message, "hint": self.hint, "errors": self.errors}


def say(value: Any) -> str:
    """A value in words a client reads: its JSON kind, and a short look at it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value[:40]!r}" + ("..." if len(value) > 40 else "")
    if isinstance(value, (int, float)):
        return f"the number {value if abs(value) < 1e30 else 'of great size'}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a {type(value).__name__}"


def too_many(count: int, most: int, hint: str = "Split the request, or use the batch endpoint.") -> SchemaError:
    return SchemaError(
        f"{count:,} rows are more than the {most:,} one request may hold.", hint=hint, code="too_many_rows"
    )


def name_errors(missing: list[str], unknown: list[Any], row: int | None) -> list[dict[str, Any]]:
    where = "" if row is None else f"Row {row}: "
    place = {} if row is None else {"row": row}
    errors = [{"column": name, **place, "message": f"{where}column {name!r} is missing."} for name in missing]
    return errors + [
        {"column": str(name)[:200], **place, "message": f"{where}column {str(name)[:200]!r} is unknown."}
        for name in unknown
    ]


def refusal(errors: list[dict[str, Any]], names: tuple[str, ...]) -> SchemaError:
    shown = errors[:MAX_ERRORS]
    more = "" if len(shown) == 1 else f" ({'at least ' if len(errors) >= MAX_ERRORS else ''}{len(shown)} problems)"
    listed = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    return SchemaError(shown[0]["message"] + more, shown, f"The model takes these columns: {listed}.")
