"""Where packages come from: the index of the settings, else what this machine's own pip is set to, else the installer's default.

No host is written down here: the default's are taken from the installer's own constants.
"""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from mlops.runtime.errors import Explained


@dataclass(frozen=True)
class Index:
    """``url`` first, then ``extra``; ``found_in`` are folders or pages of files. Addresses may carry credentials: never show them as they are."""

    url: str
    extra: tuple[str, ...] = ()
    found_in: tuple[str, ...] = ()
    hosts: frozenset[str] = (
        frozenset()
    )  # beside those of the addresses, e.g. where an index keeps its files; HOST or HOST:PORT
    unwritten: frozenset[str] = frozenset()  # those of the hosts that nobody wrote down: they may not be private ones
    authorities: str = ""  # a file of certificates
    proxy: str = ""  # the machine's own, through which all of it goes

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(address for address in (self.url, *self.extra, *self.found_in) if address)

    @property
    def allowed(self) -> frozenset[str]:
        """Every host that an installer may reach, in small letters."""
        return frozenset(host for host, _ in self._places)

    def reaches(self, host: str, port: int) -> bool:
        """Whether an installer may go there: what else listens on an index's machine is none of its business."""
        return any(host == name and port in ((own,) if own else (80, 443)) for name, own in self._places)

    @property
    def _places(self) -> frozenset[tuple[str, int]]:
        """(host, port), 0 where none is written."""
        written = [address for address in self.addresses if "://" in address]
        parts = [urlsplit(each) for each in (*written, *(f"//{host}" for host in self.hosts))]
        return frozenset((part.hostname.lower(), part.port or 0) for part in parts if part.hostname)

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders on this machine that are a part of it."""
        found = [path for path in map(_folder, self.addresses) if path]
        # By custom ROOT/simple, whose pages name files beside it.
        return tuple(os.path.dirname(path) if os.path.basename(path) == "simple" else path for path in found)

    @property
    def name(self) -> str:
        """For content addresses and for people: without credentials."""
        return " ".join(shown(address) for address in self.addresses)

    @property
    def shown(self) -> str:
        """For the log that uploaders see: hosts, and that there are folders of this machine, not where."""
        hosts = dict.fromkeys(urlsplit(a).hostname or "" for a in self.addresses if a.startswith("http"))
        return " and ".join([*hosts, *(["this machine"] if self.folders else [])]) or "nowhere"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not appear in a log: passwords, and names that stand alone (a token), as they are written and as they are meant."""
        parts = [urlsplit(address) for address in (*self.addresses, self.proxy)]
        written = [part.password or part.username or "" for part in parts]
        both = (word for each in written if each for word in (each, unquote(each)))
        return tuple(sorted(dict.fromkeys(both), key=len, reverse=True))


def shown(address: str) -> str:
    parts = urlsplit(address)
    if not parts.username and not parts.password:
        return address
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _folder(address: str) -> str:
    if address.startswith("file:"):
        return url2pathname(urlsplit(address).path).rstrip("/")
    return "" if "://" in address else os.path.abspath(address)


@functools.lru_cache(maxsize=8)  # asking pip takes half a second, and its settings do not change while we run
def chosen(url: str = "", *, hosts: tuple[str, ...] = (), authorities: str = "") -> Index:
    """The index to use. ``url`` is the setting; empty asks this machine's pip. Raises Explained when there is none."""
    told = {} if url else _pip_settings()
    upstream = told.get("proxy", "") or _from(os.environ, "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    trusted = authorities or told.get("cert", "") or _from(os.environ, "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")  # fmt: skip
    if url:
        return Index(url, hosts=frozenset(hosts), authorities=trusted, proxy=upstream)
    extra, found_in = _several(told, "extra-index-url"), _several(told, "find-links")
    own, unwritten = told.get("index-url", ""), frozenset[str]()
    if told.get("no-index"):
        own, extra = "", ()
    elif not own:
        own, unwritten = _default()
    return Index(
        own,
        extra,
        found_in,
        unwritten | frozenset(hosts),
        unwritten - frozenset(hosts),
        authorities=trusted,
        proxy=upstream,
    )


def _from(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _several(told: dict[str, str], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in told.get(name, "").split() if word))


def _pip_settings() -> dict[str, str]:
    """``pip config list``, the later and nearer one winning as pip has it: files first, its environment last."""
    words = [sys.executable, "-I", "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  our own words
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, sign, value = line.partition("=")
        section, _, name = key.strip().rpartition(".")
        if sign and section in ("global", "install", "download", ":env:"):
            found[f"{section}.{name}"] = str(ast.literal_eval(value))
    merged: dict[str, str] = {}
    for section in ("global", "download", "install", ":env:"):
        merged.update({key.rpartition(".")[2]: value for key, value in found.items() if key.startswith(section + ".")})
    return {name: value for name, value in merged.items() if value and value.lower() not in ("false", "0", "no")}


def _default() -> tuple[str, frozenset[str]]:
    """The installer's own index and where that keeps its files."""
    try:
        from pip._internal.models.index import PyPI
    except ImportError as error:
        raise Explained(
            "no_package_index",
            "No package index is known here.",
            "Set SLIPWAY_PACKAGE_INDEX to the address of a simple index.",
        ) from error
    return str(PyPI.simple_url), frozenset({str(PyPI.netloc), str(PyPI.file_storage_domain)})
