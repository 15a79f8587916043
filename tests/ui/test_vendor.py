"""Vendored files are what their lists say, and nothing is missing from the lists."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["static/vendor", "tests/vendor"])
def test_vendored_files_match_their_sums(folder):
    base = ROOT / folder
    listed = dict(reversed(line.split(maxsplit=1)) for line in (base / "SHA256SUMS").read_text().splitlines())
    there = {
        f"./{path.relative_to(base)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in base.rglob("*")
        if path.is_file()
    }
    there.pop("./SHA256SUMS")
    assert there == {name.strip(): digest for name, digest in listed.items()}


@pytest.mark.parametrize("folder", sorted((ROOT / "static" / "vendor").glob("*/")), ids=lambda path: path.name)
def test_every_vendored_package_has_its_licence(folder):
    assert (folder / "LICENSE").is_file()
