"""Rows into the prediction log's table as fast as the database takes them: COPY on PostgreSQL, one prepared INSERT on SQLite.

The rows are those that ``PredictionLog.objects.bulk_create`` would make (a test compares them), without an object for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from serving.models import PredictionLog
from serving.records import Call, Row

_COLUMNS = {field.attname: field.column for field in PredictionLog._meta.concrete_fields}
_OF_CALL = tuple(each.name for each in fields(Call) if each.name in _COLUMNS and each.name != "at")
_FILLED = (*Row._fields, *_OF_CALL, "at", "batch_id")
_of_call = attrgetter(*_OF_CALL)


def check(columns: Iterable[str]) -> None:
    """Raises ImproperlyConfigured when a migration has added or renamed a column, and nobody fills it."""
    if unknown := sorted(set(columns) ^ set(_FILLED)):
        raise ImproperlyConfigured(
            f"serving.records does not know how to fill the prediction log's {', '.join(unknown)}."
        )


check(_COLUMNS)


def insert(calls: Iterable[Call], batch_id: int) -> None:
    """Write the rows of these calls. In a transaction. Raises DataError, IntegrityError or ValueError when the database takes one not."""
    table = connection.ops.quote_name(PredictionLog._meta.db_table)
    columns = ", ".join(connection.ops.quote_name(_COLUMNS[name]) for name in _FILLED)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with connection.wrap_database_errors, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in _rows(calls, batch_id, str):
                    copy.write_row(row)
        else:
            places = ", ".join(["%s"] * len(_FILLED))
            cursor.executemany(
                f"INSERT INTO {table} ({columns}) VALUES ({places})",  # noqa: S608  names of our own model
                list(_rows(calls, batch_id, _without_zone)),
            )


def _rows(calls: Iterable[Call], batch_id: int, written: Any) -> Iterator[tuple[Any, ...]]:
    for call in calls:
        if call.rows:
            shared = (*_of_call(call), written(call.at), batch_id)
            for row in call.rows:
                yield row + shared


def _without_zone(moment: datetime) -> str:
    """As Django keeps times in SQLite: UTC, unsaid."""
    return str(moment).removesuffix("+00:00")
