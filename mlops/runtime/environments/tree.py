"""A finished tree of packages: cleaned of what starts by itself, made read-only, listed file by file, and sealed.

``FOLDER/site`` goes on sys.path (it is no site folder, so ``.pth`` files would stay dead anyway); ``FOLDER/FILES`` lists every file with its
size and sha256; ``FOLDER/READY`` is written last and holds the sha256 of that list.
"""

from __future__ import annotations

import contextlib
import csv
import email
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlops.runtime.environments.installers import SITE
from mlops.runtime.errors import Explained

FILES, READY = "FILES", "READY"
_NOT_IMPORTED = ("bin", "include", "man", "__pycache__", ".lock")
_INSTALLERS_NOTES = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")  # who, not what
_STARTS_BY_ITSELF = ("sitecustomize.py", "usercustomize.py")
_OURS = frozenset({"mlops"})
_MAX_FILES = 100_000
_MAX_DEPTH = 64  # folders; shutil and os.walk, and we with them, call themselves once for each
_RECORD_BYTES, _METADATA_BYTES = 32 << 20, 4 << 20
_LEAST_BYTES = 4096  # what a name costs the disk, be there anything in it or not
_seen: dict[Path, tuple[int, str]] = {}  # folders this process has looked through: READY's time and digest


def clean(site: Path) -> list[str]:
    """Take out what nothing here uses, refuse what nobody should have. Returns what was left out, in words. Raises Explained."""
    left_out = []
    check_depth(site)
    for name in _NOT_IMPORTED:
        path = site / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path, entry in list(_walk(site)):
        mode = entry.stat(follow_symlinks=False).st_mode
        where = path.relative_to(site)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Explained("package_refused", f"A package holds {where}, which is a link or a device.", "Use another version of it, or do without.")  # fmt: skip
        if entry.name.splitlines() != [entry.name]:  # the list of files has one to a line
            raise Explained("package_refused", f"A package holds a name with a line's end in it ({str(where)[:80]!a}).", "Use another version of it, or do without.")  # fmt: skip
        if where.parent == Path() and where.name.partition(".")[0] in _OURS:
            raise Explained("package_refused", f"A package brings a module called {where.name}, which is Slipway's own.", "Do without that package.")  # fmt: skip
        if path.suffix == ".pyc":
            path.unlink()  # Python makes its own from the source; nobody would see what is in this one
        elif where.parent == Path() and (path.suffix == ".pth" or where.name in _STARTS_BY_ITSELF):
            path.unlink()
            left_out.append(f"{where} was left out: nothing runs by itself when Python starts.")
    for info in site.glob("*.dist-info"):
        for name in _INSTALLERS_NOTES:
            (info / name).unlink(missing_ok=True)
        if (info / "RECORD").is_file():
            check_record(info / "RECORD")
            _rewrite(info / "RECORD")
    return left_out


def check_kept_out(site: Path, ours: dict[str, str]) -> None:
    """What stays ours (name -> version) must suit those in the set that ask for it: their wish was taken out of the resolving. Raises Explained."""
    for told in sorted(site.glob("*.dist-info/METADATA")):
        with told.open("rb") as file:
            message = email.message_from_bytes(file.read(_METADATA_BYTES))
        for line in message.get_all("Requires-Dist") or ():
            try:
                needs = Requirement(str(line))
            except InvalidRequirement:
                continue
            version = ours.get(canonicalize_name(needs.name))
            here = needs.marker is None or needs.marker.evaluate({"extra": ""})
            if version and here and not needs.specifier.contains(version, prereleases=True):
                name = f"{message['Name']} {message['Version']}"
                raise Explained("packages_conflict", f"{name} needs {needs.name}{needs.specifier}, and Slipway has {version}.", f"Pin a {message['Name']} that suits {needs.name} {version}, or name {needs.name}{needs.specifier} in requirements.txt too.")  # fmt: skip


def _rewrite(record: Path) -> None:
    """Only what is there, sorted: the same packages give the same bytes, whoever installed them."""
    site = record.parent.parent
    with record.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        rows = [row for row in csv.reader(lines) if row and ".." not in row[0] and (site / row[0]).is_file()]
    with record.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(sorted(rows))


def check_record(record: Path) -> None:
    """What a wheel says it has put somewhere: never above the folder it was given."""
    package = record.parent.name.partition("-")[0]
    if record.stat().st_size > _RECORD_BYTES:
        raise Explained("package_refused", f"The package {package} has a list of files of more than {_RECORD_BYTES >> 20} MB.", "Use another version of it, or do without.")  # fmt: skip
    with record.open(encoding="utf-8", errors="replace", newline="") as lines:
        for row in _rows(lines, package):
            name = re.sub(r"^(\.\./)+bin/", "bin/", row[0] if row else "")  # where pip says that scripts go
            if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")[:-1]:
                raise Explained("package_refused", f"The package {package} wants to write outside its folder ({name[:80]}).", "Use another version of it, or do without.")  # fmt: skip


def _rows(lines: Iterator[str], package: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines)
    except csv.Error as error:
        raise Explained("package_refused", f"The package {package} has a list of files that cannot be read ({error}).", "Use another version of it, or do without.") from error  # fmt: skip


def check_depth(site: Path) -> None:
    """Raises Explained for folders in folders in folders, before anybody walks down there."""
    level, depth = [str(site)], 0
    while level:
        if depth > _MAX_DEPTH:
            raise Explained("package_refused", f"A package has more than {_MAX_DEPTH} folders in each other.", "Use another version of it, or do without.")  # fmt: skip
        below: list[str] = []
        for place in level:
            with os.scandir(place) as entries:
                below += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        level, depth = below, depth + 1


def _walk(folder: Path) -> Iterator[tuple[Path, os.DirEntry[str]]]:
    """Everything below, folders after what they hold; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            yield Path(entry.path), entry


def size_of(folder: Path, most: int) -> int:
    """Bytes on disk below ``folder``; stops counting beyond ``most``. Files with two names count once, empty ones and folders too."""
    total, left = 0, [str(folder)]
    seen: set[tuple[int, int]] = set()
    while left and total <= most:
        with contextlib.suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # an installer at work has just removed it
                    found = entry.stat(follow_symlinks=False)
                    if (found.st_dev, found.st_ino) not in seen:
                        seen.add((found.st_dev, found.st_ino))
                        total += max(found.st_blocks * 512, _LEAST_BYTES)
                    if stat.S_ISDIR(found.st_mode):
                        left.append(entry.path)
    return total


def seal(folder: Path) -> tuple[str, int]:
    """Read-only for everybody, listed, READY. Returns (sha256 of the list, bytes of all files). Raises Explained."""
    site, lines, total = folder / SITE, [], 0
    for path, entry in sorted(_walk(site), key=lambda found: str(found[0])):
        if os.geteuid() == 0:
            os.chown(path, 0, 0, follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            path.chmod(0o555)
            continue
        path.chmod(0o444)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        total += size
        lines.append(f"{digest} {size} {path.relative_to(site)}\n")
    if len(lines) > _MAX_FILES:
        raise Explained("environment_too_large", f"The packages have {len(lines):,} files; at most {_MAX_FILES:,} are kept.", "Name fewer packages.")  # fmt: skip
    listed = "".join(lines).encode("utf-8", "surrogateescape")
    (folder / FILES).write_bytes(listed)
    digest = hashlib.sha256(listed).hexdigest()
    if os.geteuid() == 0:
        os.chown(site, 0, 0)
    site.chmod(0o555)
    with (folder / READY).open("w", encoding="ascii") as file:
        file.write(digest)
        file.flush()
        os.fsync(file.fileno())
    folder.chmod(0o755)
    return digest, total


def whole(folder: Path, digest: str) -> bool:
    """Whether a sealed folder is what was built: the list is the one of ``digest``, and every file on it is there in its size.

    A folder is looked through once by each process, about 5 us a file; afterwards only READY is read.
    """
    try:
        ready = folder / READY
        changed = ready.stat().st_mtime_ns
        if ready.read_text(encoding="ascii") != digest:
            return False
        if _seen.get(folder) == (changed, digest):
            return (folder / SITE).is_dir()
        listed = (folder / FILES).read_bytes()
        if hashlib.sha256(listed).hexdigest() != digest or not _all_there(folder / SITE, listed):
            return False
    except (OSError, ValueError):
        return False
    _seen[folder] = (changed, digest)
    return True


def _all_there(site: Path, listed: bytes) -> bool:
    wanted = {}
    for line in listed.decode("utf-8", "surrogateescape").splitlines():
        _, size, name = line.split(" ", 2)
        wanted[os.path.join(site, name)] = int(size)
    found = {
        entry.path: entry.stat(follow_symlinks=False).st_size
        for _, entry in _walk(site)
        if not entry.is_dir(follow_symlinks=False)
    }
    return found == wanted


def remove(folder: Path) -> None:
    """A sealed folder, for good: its folders are read-only, which stops a plain user from emptying them."""
    if not folder.exists():
        return
    grave = folder.with_name(f".gone-{folder.name}")  # from here on nobody takes it for whole
    try:
        folder.rename(grave)
    except OSError:
        grave = folder
    clear(grave)
    _seen.pop(folder, None)


def clear(folder: Path) -> None:
    """Away with what an installer has written, however deep: shutil calls itself once for each folder in another. What cannot go stays."""
    left = [str(folder)]
    found: list[str] = []  # each before what it holds
    while left:
        place = left.pop()
        found.append(place)
        with contextlib.suppress(OSError):
            os.chmod(place, 0o700)
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        os.unlink(entry.path)
    for place in reversed(found):
        with contextlib.suppress(OSError):
            os.rmdir(place)
