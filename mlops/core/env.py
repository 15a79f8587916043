"""Reading settings from the environment: one value at a time, with the mistake and its fix named.

``NAME_FILE`` may hold the path of a file with the value (Docker and Kubernetes secrets); it wins over ``NAME``.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def text(name: str, default: str = "") -> str:
    """The value of ``name``, or of the file that ``name``_FILE points to."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}_FILE={path} cannot be read: {error.strerror}. Fix the path or unset it."
            ) from error
    return os.environ.get(name, default)


def flag(name: str, *, default: bool) -> bool:
    """A switch: 1/0, true/false, yes/no, on/off."""
    raw = text(name, "1" if default else "0").strip().lower()
    if raw in _TRUE:
        return True
    if raw in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={raw!r} is not a switch. Use 1 or 0.")


def number(name: str, default: int, *, least: int = 0) -> int:
    """A whole number, at least ``least``."""
    raw = text(name, str(default))
    try:
        value = int(raw)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a whole number.") from error
    if value < least:
        raise ImproperlyConfigured(f"{name}={value} is too small: at least {least}.")
    return value


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list without empty entries."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def places(name: str) -> list[str]:
    """Servers: ``host:port`` or an address range (``10.0.0.0/8``), comma-separated."""
    for word in words(name):
        try:
            if "/" in word:
                ipaddress.ip_network(word, strict=False)
            elif not re.fullmatch(r"(?:[a-z0-9.-]+|\[[0-9a-f:.]+\]):[0-9]{1,5}", word):
                raise ValueError(word)
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name} holds {word!r}. Use host:port (small letters) or an address range such as 10.0.0.0/8."
            ) from error
    return words(name)


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name}={value!r} is unknown. Use one of: {', '.join(allowed)}.")
    return value


def kept_secret(path: Path) -> str:
    """A random secret made once on this machine and kept in ``path`` (mode 0600)."""
    if not path.exists():
        _make_secret(path)
    value = path.read_text(encoding="ascii").strip()
    if not value:
        raise ImproperlyConfigured(f"{path} is empty. Delete it and start again; a new secret is made.")
    return value


def _make_secret(path: Path) -> None:
    """Whole or absent, and the first of several processes wins: who reads an empty secret cannot start."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink(missing_ok=True)
