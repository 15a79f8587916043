"""A database in a file, for tests with real threads: SQLite in memory has other locks than the product's."""

from __future__ import annotations

import sqlite3

import pytest
from django.db import connection


@pytest.fixture
def file_db(transactional_db, tmp_path):
    """The test database, moved to a file for this test. PostgreSQL, and a test database that is a file already, stay as they are."""
    if connection.vendor != "sqlite" or not connection.is_in_memory_db():
        yield
        return
    connection.ensure_connection()
    memory, name = connection.connection, connection.settings_dict["NAME"]
    path = tmp_path / "db.sqlite3"
    with sqlite3.connect(path) as target:
        memory.backup(target)
        target.execute("PRAGMA journal_mode=WAL")
    target.close()
    connection.connection, connection.settings_dict["NAME"] = None, str(path)
    yield
    connection.close()
    connection.connection, connection.settings_dict["NAME"] = memory, name
