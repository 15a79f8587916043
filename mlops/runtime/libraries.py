"""A dependency set's libraries before ours: what comes from its folder, what from our environment, and what may not meet.

A set is a plain folder of unpacked wheels. It stands on ``sys.path`` behind the standard library and before our libraries: never a site
folder, so its ``.pth`` files are dead text. What the set does not bring comes from ours, unless ours was not made for what the set
brings: our pandas says which NumPy it can live with, and where the set's is another one it is as if our pandas were not installed.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from mlops.runtime.formats import LIBRARIES, SLOW

_NAMES = 2000  # distributions of a set that are looked at
_DIST_INFO = re.compile(r"^(?P<name>[A-Za-z0-9._-]+?)-(?P<version>[^-]+)\.dist-info$")
_MODULE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_SETTLED = frozenset({"mlops", *sys.stdlib_module_names})


@dataclass(frozen=True)
class Distribution:
    """One of our own installed distributions: what it needs (name, specifier) and the top-level modules it is."""

    needs: tuple[Requirement, ...]
    modules: tuple[str, ...]


def ours() -> dict[str, Distribution]:
    """Our own distributions by normalised name. Reads only our own environment; a third of a second, so once per template."""
    modules: dict[str, list[str]] = {}
    for module, names in importlib.metadata.packages_distributions().items():
        for name in names:
            modules.setdefault(_normal(name), []).append(module)
    found = {}
    for each in importlib.metadata.distributions():
        name = _normal(each.metadata["Name"] or "")
        needs = tuple(_requirements(each.requires or ()))
        found[name] = Distribution(needs, tuple(modules.get(name, ())))
    return found


def _requirements(lines: Iterable[str]) -> Iterable[Requirement]:
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def brought(path: str) -> dict[str, str]:
    """Normalised name -> version of the distributions in a set's folder, from the names of its ``.dist-info`` folders."""
    found: dict[str, str] = {}
    for entry in sorted(os.listdir(path))[: 10 * _NAMES]:
        match = _DIST_INFO.match(entry)
        if match and len(found) < _NAMES:
            found[_normal(match["name"])] = match["version"]
    return found


def hidden(path: str, known: dict[str, Distribution]) -> frozenset[str]:
    """Our top-level modules that must not be imported beside the set in ``path``: it brings a version of something they need, and not one they can live with."""
    versions = brought(path)
    barred: set[str] = set()
    while True:
        more = {
            name
            for name, each in known.items()
            if name not in versions and name not in barred and _is_at_odds(each, versions, barred)
        }
        if not more:
            break
        barred |= more
    there = _modules_in(path)
    # A name that several of ours share (a namespace) stays while one of them may be used.
    kept = {module for name, each in known.items() if name not in barred for module in each.modules}
    names = {module for name in barred for module in known[name].modules}
    return frozenset(names - kept - there - _SETTLED - {"orjson", "packaging"})


def _is_at_odds(each: Distribution, versions: dict[str, str], barred: set[str]) -> bool:
    for requirement in each.needs:
        name = _normal(requirement.name)
        if name in barred:
            return True
        if name in versions and not _allows(requirement, versions[name]):
            return True
    return False


def _allows(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _modules_in(path: str) -> set[str]:
    """The names that ``import`` finds directly in a folder."""
    found = set()
    for entry in os.listdir(path):
        name = entry.partition(".")[0]
        plain = os.path.isdir(os.path.join(path, entry)) or entry.endswith((".py", ".so"))
        if plain and _MODULE.match(name) and not entry.endswith((".dist-info", ".data", ".libs")):
            found.add(name)
    return found


class _Hide(importlib.abc.MetaPathFinder):
    """Makes modules of ours look as if they were not installed."""

    def __init__(self, names: frozenset[str], path: str) -> None:
        self._names = names
        self._path = path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if path is None and fullname in self._names:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: this server's own was made for other versions than the set has; "
                "add it to the requirements.",
                name=fullname,
            )
        return None


def put_first(path: str, known: dict[str, Distribution]) -> None:
    """From here on imports look into the set before they look at ours. Call it in a locked-in process only."""
    there = _modules_in(path)
    sys.meta_path.insert(0, _Hide(hidden(path, known), path))
    own = os.path.realpath(sysconfig.get_path("purelib"))
    place = next((at for at, each in enumerate(sys.path) if os.path.realpath(each) == own), len(sys.path))
    sys.path.insert(place, path)
    # What our own code uses of others and the set brings too: whoever imports it from here on gets the set's.
    for name in [each for each in sys.modules if (top := each.partition(".")[0]) in there and top not in _SETTLED]:
        del sys.modules[name]
    importlib.invalidate_caches()


def wanted(path: str, modules: Iterable[str] = ()) -> list[str]:
    """What a set's zygote imports once for all runners: the ML libraries that it brings, then its top-level ``modules``, or those that were asked for by name when it was built."""
    there = _modules_in(path)
    ml = [name for name in (*LIBRARIES, *SLOW) if name.partition(".")[0] in there]
    named = [name for name in modules if _MODULE.match(name) and name in there] or _requested(path, there)
    return list(dict.fromkeys((*ml, *named)))


def _requested(path: str, there: set[str]) -> list[str]:
    """The modules of the distributions that were asked for themselves; an installer leaves a file REQUESTED with those."""
    found = []
    for entry in sorted(os.listdir(path)):
        folder = os.path.join(path, entry)
        if not entry.endswith(".dist-info") or not os.path.exists(os.path.join(folder, "REQUESTED")):
            continue
        try:
            with open(os.path.join(folder, "RECORD"), encoding="utf-8", errors="replace") as file:
                tops = {line.partition("/")[0].partition(".")[0] for line in file.read(4 << 20).splitlines()}
        except OSError:
            continue
        found += sorted(name for name in tops & there if not name.startswith("_"))
    return found


def versions(path: str, failed: dict[str, str]) -> dict[str, str]:
    """Versions of the ML libraries that a runner of the set gets, without importing any: for the status."""
    own = brought(path)
    names = {"sklearn": "scikit-learn", "skops": "skops", "torch": "torch"}
    tops = dict.fromkeys(name.partition(".")[0] for name in (*LIBRARIES, *SLOW))
    return {top: own[names.get(top, top)] for top in tops if names.get(top, top) in own and top not in failed}
