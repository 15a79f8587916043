"""The two installers we know how to hold: uv, and pip where there is no uv. Words, environment, and how their answers are read.

Both work in two steps: a lock (every package with its exact version and hashes), then exactly that lock and nothing beside it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mlops.runtime.environments import confine
from mlops.runtime.environments.index import Index
from mlops.runtime.errors import Explained

WANTED, LOCK, KEPT_OUT, SITE = "wanted.txt", "lock.txt", "kept-out.txt", "site"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)


def pins(lock: str) -> list[tuple[str, str]]:
    """(name, version) of every package of a lock."""
    return [(name, version) for name, version in _PIN.findall(lock)]


@dataclass(frozen=True)
class Installer:
    name: str
    binary: str  # "" for pip: a module of our interpreter

    @property
    def python(self) -> str:
        return sys.executable

    @property
    def readable(self) -> tuple[str, ...]:
        places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        own = [os.path.join(sys.prefix, "pyvenv.cfg"), os.path.join(sys.base_prefix, "lib"), self.python]
        own.append(os.path.dirname(self.python))  # the links that lead to the interpreter
        return tuple(dict.fromkeys(path for path in (*places, *own, self.binary) if path and os.path.exists(path)))

    @property
    def executable(self) -> tuple[str, ...]:
        found = (self.binary, os.path.realpath(self.python), *confine.loaders())
        return tuple(os.path.realpath(path) for path in found if path)

    def environment(self, index: Index, port: int, scratch: str) -> dict[str, str]:
        """Nothing of ours: only where to go and through which door."""
        door = f"http://127.0.0.1:{port}"
        words = {"HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", "HTTP_PROXY": door, "HTTPS_PROXY": door, "http_proxy": door, "https_proxy": door}  # fmt: skip
        if index.authorities:
            words |= {"SSL_CERT_FILE": index.authorities, "PIP_CERT": index.authorities}
        return words | (self._uv(index, scratch) if self.binary else self._pip(index))

    def _uv(self, index: Index, scratch: str) -> dict[str, str]:
        words = {
            "UV_CACHE_DIR": os.path.join(scratch, "cache"), "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1",
            "UV_NO_ENV_FILE": "1", "UV_CONCURRENT_DOWNLOADS": "8", "UV_CONCURRENT_INSTALLS": "2", "RAYON_NUM_THREADS": "2", "NO_COLOR": "1",
            "UV_HTTP_RETRIES": "2", "RUST_LOG": "uv_extract=warn", "UV_DEFAULT_INDEX": index.url, "UV_INDEX": " ".join(index.extra), "UV_FIND_LINKS": ",".join(index.found_in),
        }  # fmt: skip
        if index.extra:
            words["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # several indexes are one to pip, whose settings these are
        if not index.url:
            words["UV_NO_INDEX"] = "1"
        return {name: value for name, value in words.items() if value}

    def _pip(self, index: Index) -> dict[str, str]:
        plain = [urlsplit(address) for address in index.addresses if address.startswith("http://")]
        words = {
            "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.url, "PIP_EXTRA_INDEX_URL": " ".join(index.extra), "NO_COLOR": "1",
            "PIP_FIND_LINKS": " ".join(index.found_in), "PIP_TRUSTED_HOST": " ".join(part.netloc.rpartition("@")[2] for part in plain),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_NO_CACHE_DIR": "1", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        if not index.url:
            words["PIP_NO_INDEX"] = "1"
        return {name: value for name, value in words.items() if value}

    def lock_words(self, folder: Path) -> tuple[str, ...]:
        if self.binary:
            kept_out = ("--override", str(folder / KEPT_OUT)) if (folder / KEPT_OUT).stat().st_size else ()
            return (
                self.binary, "pip", "compile", "--no-config", "--only-binary", ":all:", "--generate-hashes", "--no-header", "--no-annotate",
                "--python", self.python, *kept_out, "--output-file", str(folder / LOCK), str(folder / WANTED),
            )  # fmt: skip
        return (
            self.python, "-I", "-m", "pip", "install", "--only-binary", ":all:", "--dry-run", "--ignore-installed", "--progress-bar", "off",
            "--report", str(folder / "report.json"), "-r", str(folder / WANTED),
        )  # fmt: skip

    def install_words(self, folder: Path) -> tuple[str, ...]:
        rest = ("--only-binary", ":all:", "--require-hashes", "--no-deps", "--target", str(folder / SITE), "-r", str(folder / LOCK))  # fmt: skip
        if self.binary:
            return (self.binary, "pip", "install", "--no-config", "--python", self.python, *rest)
        return (self.python, "-I", "-m", "pip", "install", "--progress-bar", "off", "--no-compile", *rest)

    def read_lock(self, folder: Path) -> str:
        """The lock that the first step made."""
        if self.binary:
            return (folder / LOCK).read_text(encoding="utf-8")
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        lines = []
        for item in report["install"]:
            digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{item['metadata']['name']}=={item['metadata']['version']} \\\n    --hash=sha256:{digest}\n")
        return "".join(sorted(lines))


def installer() -> Installer:
    """uv beside our interpreter or on the path, else pip. Raises Explained when there is neither."""
    beside = os.path.join(sysconfig.get_path("scripts"), "uv")
    binary = beside if os.access(beside, os.X_OK) else shutil.which("uv")
    if binary:
        return Installer("uv", os.path.realpath(binary))
    if importlib.util.find_spec("pip") is not None:
        return Installer("pip", "")
    raise Explained("no_installer", "Neither uv nor pip is installed here.", "Install uv beside Slipway: pip install uv.")  # fmt: skip
