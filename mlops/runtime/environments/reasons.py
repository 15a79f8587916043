"""What an installer says when it gives up, in plain words and with the next step."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable

Reason = tuple[str, str, str]  # code, sentence, hint

_HERE = f"Python {platform.python_version().rpartition('.')[0]} on {platform.system()} {platform.machine()}"
_PIN_ANOTHER = "Pin a version that the index has, or leave the version open."
_ADMIN = "Try again; if it stays so, tell your administrator."


def explain(said: str, refused: Iterable[str]) -> Reason:
    """The reason in ``said``, the installer's whole output; ``refused`` are the hosts its gate did not let through."""
    text = " ".join(said.split())
    for pattern, words in _KNOWN:
        if found := re.search(pattern, text):
            return words(found, text)
    if hosts := sorted({place.rpartition(":")[0] for place in refused}):
        return "package_elsewhere", f"A package lies on {hosts[0]}, which is not a host of the package index.", "Use a package that the index holds itself; an administrator can allow the host with SLIPWAY_PACKAGE_HOSTS."  # fmt: skip
    for pattern, words in _TROUBLE:
        if found := re.search(pattern, text):
            return words(found, text)
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    return (
        "build_failed",
        f"The packages could not be installed: {last[:300]}",
        "The log has all that the installer said.",
    )


def _missing(found: re.Match[str], text: str) -> Reason:
    name = found[1]
    return "package_missing", f"The package index has no package called {name}.", f"Check the spelling of {name}; its name on the index may differ from the one you import (sklearn is scikit-learn)."  # fmt: skip


def _no_version(found: re.Match[str], text: str) -> Reason:
    return "package_version_missing", f"The package index has no version {found[2]} of {found[1]}.", _PIN_ANOTHER


def _only(found: re.Match[str], text: str) -> Reason:
    return "package_version_missing", f"The package index has no {found[2].strip(' ,')}: only {found[1]} is there.", _PIN_ANOTHER  # fmt: skip


def _no_wheel(found: re.Match[str], text: str) -> Reason:
    name, _, version = found[1].partition("==")
    shown = f"{name} {version}".strip()
    for_others = re.search(
        r"hint: (?:Wheels are available|.*?we only found wheels) for .*?: ([^.]*?)(?: hint:|$)", text
    )
    beside = f" There are wheels for {for_others[1].strip()[:120].replace('`', '')}." if for_others else ""
    return "no_wheel", f"{shown} has no wheel for {_HERE}; nothing is built from source here.{beside}", f"Pin a version of {name} that has one: often a newer one does."  # fmt: skip


def _conflict(found: re.Match[str], text: str) -> Reason:
    chain = re.search(r"(Because .*?)(?: hint:| warning:|$)", text)
    told = chain[1] if chain else text[-400:]
    told = re.sub(r",? we can conclude that your requirements are unsatisfiable\.?", ", they do not go together.", told)
    return (
        "packages_conflict",
        f"The packages do not go together: {told[:600]}",
        "Loosen one of the versions that are named.",
    )


def _pip_conflict(found: re.Match[str], text: str) -> Reason:
    chain = re.search(r"The conflict is caused by: (.*?)(?: To fix this|$)", text)
    return "packages_conflict", f"The packages do not go together: {chain[1][:600] if chain else 'the installer does not say why'}", "Loosen one of the versions that are named."  # fmt: skip


def _pip_version(found: re.Match[str], text: str) -> Reason:
    name = re.split(r"[<>=!~\[ ]", found[1], maxsplit=1)[0]
    if found[2] == "none":
        return "package_missing", f"The package index has no {name} with a wheel for {_HERE}.", f"Check the spelling of {name}, or pin a version that has a wheel: nothing is built from source here."  # fmt: skip
    return "package_version_missing", f"The package index has no {found[1]} with a wheel for {_HERE}: there are {found[2][-200:]}.", _PIN_ANOTHER  # fmt: skip


def _fixed(code: str, sentence: str, hint: str) -> Callable[[re.Match[str], str], Reason]:
    return lambda found, text: (code, sentence, hint)


_WHEEL = r"(?:has no usable wheels|has no wheels with a matching|has no (?:source distribution|wheels))"
_KNOWN: tuple[tuple[str, Callable[[re.Match[str], str], Reason]], ...] = (
    (r"could not be locked in: (.*)", lambda found, text: ("installer_not_held", f"The installer could not be locked in, so it was not started ({found[1][:200]}).", "Tell your administrator: packages are installed on kernels with Landlock only.")),
    (r"(\S+) was not found in the (?:package registry|provided package locations|cache)", _missing),
    (rf"(?:Because |and )(\S+) {_WHEEL}", _no_wheel),
    (r"Because there (?:is|are) no versions? of (\S+?)==(\S+) and you require", _no_version),
    (r"Because there (?:is|are) no versions? of (\S+?)([<>!~]\S+) and you require", _no_version),
    (r"Because only (\S+) (?:is|are) available and you require (\S+)", _only),
    (r"No solution found when resolving|requirements are unsatisfiable", _conflict),
    (r"Could not find a version that satisfies the requirement (\S+)[^(]*\(from versions: ([^)]*)\)", _pip_version),
    (r"ResolutionImpossible|conflicting dependencies", _pip_conflict),
    (r"(?i)hash mismatch|do not match the hashes", _fixed("package_changed", "A package on the index is not the one that was locked: its hash differs.", "Tell your administrator: a file of the index was replaced, or something on the way changes it.")),
    (r"trying to install outside", _fixed("package_refused", "A package wants to write outside its folder.", "Do without that package; the log names it.")),
    (r"No space left on device|File too large|Quota exceeded", _fixed("storage_full", "The server's disk is full, or one file is larger than a set may be.", "Tell your administrator to make room, or name smaller packages.")),
)  # fmt: skip
_TROUBLE: tuple[tuple[str, Callable[[re.Match[str], str], Reason]], ...] = (
    (r"(?i)failed to extract|invalid zip|not a zip file|BadZipFile|is invalid|metadata", _fixed("package_broken", "A package of the index is damaged and cannot be unpacked.", "Pin another version of it; the log names it.")),
    (r"(?i)failed to fetch|error sending request|timed out|Connection refused|502 Bad Gateway|ConnectionError|ProxyError|NewConnectionError|Max retries", _fixed("package_index_unreachable", "The package index does not answer.", _ADMIN)),
    (r"(?i)certificate|CERTIFICATE_VERIFY_FAILED", _fixed("package_index_unreachable", "The package index shows a certificate that is not trusted here.", "Tell your administrator: SLIPWAY_PACKAGE_CA names the authorities.")),
)  # fmt: skip
