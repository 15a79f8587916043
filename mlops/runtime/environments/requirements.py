"""Reading a requirements file that somebody uploaded: names, versions, markers, and nothing else.

No installer ever sees the file itself (one line ``--no-binary NAME`` would beat our ``--only-binary :all:``): what is understood is
written down again, sorted and normalised, and that text is what a dependency set is known by.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mlops.runtime.errors import Explained

MAX_LINES, MAX_BYTES = 200, 64_000
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_VCS = re.compile(r"(^|@\s*)(git|hg|svn|bzr)\+", re.IGNORECASE)
_PIN = "Name the package and its version, for example scikit-learn==1.4.2."
_OPTIONS = {
    ("-r", "--requirement"): ("another file of requirements", "Write its lines into this file."),
    ("-c", "--constraint"): ("a file of constraints", "Write the versions into this file."),
    ("-e", "--editable"): ("a folder to install from", "Put your own code beside predict.py, it is importable from there; only published packages go into requirements.txt."),
    ("-i", "--index-url", "--extra-index-url", "--no-index", "--trusted-host"): ("another package index", "Packages come from the index that your administrator chose: remove the line."),
    ("-f", "--find-links"): ("another place for packages", "Packages come from the index that your administrator chose: remove the line."),
    ("--no-binary", "--only-binary", "--prefer-binary"): ("how packages are built", "Only ready-made wheels are installed here, nothing is built: remove the line, or pin a version that has a wheel."),
    ("--pre",): ("pre-releases", "Pin the pre-release itself, for example name==2.0rc1."),
    ("--require-hashes",): ("hashes", "Remove the line: what is installed is locked with its hashes by Slipway."),
}  # fmt: skip


class RequirementsError(Explained):
    """A line that is not taken; ``line`` is its number, from 1 (0: the file as a whole)."""

    def __init__(self, line: int, message: str, hint: str) -> None:
        where = f"Line {line}: " if line else ""
        super().__init__("requirements_invalid", f"{where}{message}", hint)
        self.line = line


@dataclass(frozen=True)
class Requirements:
    """What was understood. ``left_out``: lines whose marker says that they are for another machine."""

    wanted: tuple[Requirement, ...]
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Our own file: one line a package, sorted by name; the same wishes give the same text."""
        return "".join(f"{written(requirement)}\n" for requirement in self.wanted)

    def without(self, names: Iterable[str]) -> Requirements:
        dropped = {canonicalize_name(name) for name in names}
        return Requirements(tuple(one for one in self.wanted if one.name not in dropped), self.left_out)


def written(requirement: Requirement) -> str:
    """``name[extra]<2,>=1``: normalised, sorted, without a marker (it held here)."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def parse(text: str) -> Requirements:
    """The packages of a requirements file. Raises RequirementsError with the line's number and what to write instead."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise RequirementsError(
            0, f"The file is larger than {MAX_BYTES // 1000} kB.", "Name only what the model needs."
        )
    lines = text.removeprefix("\ufeff").splitlines()
    if len(lines) > MAX_LINES:
        raise RequirementsError(0, f"The file has {len(lines)} lines; at most {MAX_LINES} are read.", "Name only what the model needs: what those need is found by itself.")  # fmt: skip
    found: dict[str, Requirement] = {}
    left_out = []
    for number, line in _joined(lines):
        requirement = _read(number, line)
        if requirement.marker is not None and not _holds(number, requirement.marker):
            left_out.append(line)
            continue
        requirement.marker = None
        found[requirement.name] = _both(found.get(requirement.name), requirement)
    return Requirements(tuple(found[name] for name in sorted(found)), tuple(left_out))


def _joined(lines: list[str]) -> Iterable[tuple[int, str]]:
    """Lines without comments; a backslash takes the next one along, and hashes (which we make ourselves) are dropped."""
    start, held = 0, ""
    for number, raw in enumerate([*lines, ""], 1):
        if any(ord(letter) < 32 and letter != "\t" for letter in raw):
            raise RequirementsError(number, "there is a control character in it.", "Save the file as plain text.")
        start = start if held else number
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        if line.endswith("\\") and number <= len(lines):
            held += line[:-1] + " "
            continue
        whole = re.sub(r"\s--hash[=\s]\s*\S+", "", f" {held}{line}").strip()
        held = ""
        if whole:
            yield start, whole


def _read(number: int, line: str) -> Requirement:
    if line.startswith("-"):
        raise _option(number, line)
    if _VCS.search(line):
        raise RequirementsError(number, "it installs from a repository.", f"Only published packages are installed. {_PIN}")  # fmt: skip
    if _URL.match(line) or re.search(r"@\s*[A-Za-z]+:", line):
        raise RequirementsError(number, "it installs from an address.", f"Packages come from the index only. {_PIN}")
    if line.startswith((".", "/", "~")) or re.match(r"^[^\[;<>=!~\s]*[/\\]", line) or re.match(r"^\S+\.(whl|zip|tar\.gz)$", line):  # fmt: skip
        raise RequirementsError(number, "it names a file or folder.", f"Your own code goes beside predict.py, it is importable from there. {_PIN}")  # fmt: skip
    if re.search(r"\s--?[a-z]", line):
        raise RequirementsError(number, "it carries an option.", f"Options are not taken. {_PIN}")
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        said = str(error).splitlines()[0][:200]
        raise RequirementsError(number, f"{line[:80]!r} is not understood ({said}).", _PIN) from error
    if requirement.url:
        raise RequirementsError(number, "it installs from an address.", f"Packages come from the index only. {_PIN}")
    requirement.name = canonicalize_name(requirement.name)
    requirement.extras = {canonicalize_name(extra) for extra in requirement.extras}
    return requirement


def _option(number: int, line: str) -> RequirementsError:
    word = re.split(r"[\s=]", line, maxsplit=1)[0]
    for names, (what, fix) in _OPTIONS.items():
        if word in names or (not word.startswith("--") and word[:2] in names):
            return RequirementsError(number, f"{word} names {what}, which is not taken from an upload.", fix)
    return RequirementsError(number, f"the option {word[:40]} is not taken.", f"Remove it. {_PIN}")


def _holds(number: int, marker: Marker) -> bool:
    try:
        return marker.evaluate()
    except Exception as error:  # a marker may compare anything with anything
        raise RequirementsError(number, f"its marker {str(marker)[:80]!r} cannot be evaluated.", _PIN) from error


def _both(before: Requirement | None, now: Requirement) -> Requirement:
    """A package that is named twice must suit both lines."""
    if before is not None:
        now.extras = before.extras | now.extras
        now.specifier = before.specifier & now.specifier
    now.specifier = SpecifierSet(",".join(sorted(str(one) for one in now.specifier)))
    return now


def python_tag() -> str:
    """``cp311``: the interpreter that a set is made for."""
    return (
        f"{'cp' if platform.python_implementation() == 'CPython' else 'py'}{sys.version_info[0]}{sys.version_info[1]}"
    )


def platform_tag() -> str:
    """``linux-x86_64``, with the C library's kind: wheels differ by both."""
    return f"{sysconfig.get_platform()}-{platform.libc_ver()[0] or 'libc'}"


def identity(text: str, *, python: str, platform: str, index: str) -> str:
    """The set's name: sha256 over what it holds. ``index`` without its credentials."""
    return hashlib.sha256("\0".join(("1", text, python, platform, index)).encode()).hexdigest()


# One library under two names: the smaller build of it answers for the other.
SAME = {"xgboost": ("xgboost-cpu",)}

Installed = Callable[[str], str | None]


def unsatisfied(wanted: Iterable[Requirement], installed: Installed, needs: Callable[[str, str], list[Requirement]]) -> list[Requirement]:  # fmt: skip
    """Those that the libraries here do not meet. ``installed(name)`` is a version or None, ``needs(name, extra)`` what an extra asks for."""
    return [one for one in wanted if not _met(one, installed, needs, depth=0)]


def _met(one: Requirement, installed: Installed, needs: Callable[[str, str], list[Requirement]], depth: int) -> bool:
    if not any(version_fits(one, installed(name)) for name in (one.name, *SAME.get(one.name, ()))):
        return False
    extra = [found for name in one.extras for found in needs(one.name, name)]
    return depth < 4 and all(_met(found, installed, needs, depth + 1) for found in extra)


def version_fits(requirement: Requirement, version: str | None) -> bool:
    if version is None:
        return False
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False
