"""Dependency sets: which one some requirements mean, built once for all who wish the same, there on this machine when it is asked for."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.db.models import ProtectedError
from packaging.requirements import InvalidRequirement, Requirement

from mlops.core import clock, errors, logs
from mlops.runtime.environments import builder, index, tree
from mlops.runtime.environments import requirements as wishes
from mlops.runtime.environments.builder import BuildFailed, Quota, Wanted
from mlops.runtime.environments.installers import SITE
from mlops.runtime.environments.requirements import Requirements
from mlops.runtime.errors import Explained
from registry.models import Environment, EnvironmentStatus, ModelVersion

log = logs.get(__name__)
KEEP = timedelta(days=7)  # a set that no version names is kept so long after its last use
LOG_CHARS = 64_000
_SILENT = timedelta(seconds=30)  # a builder that has not said a word so long is gone
_PAUSE_S, _TOUCH = 0.5, timedelta(hours=1)
# Gigabytes with their GPU parts, and here in a build that fits: where ours does, it stays ours.
_HEAVY = ("torch", "nvidia-nccl-cu12", "nvidia-nccl-cu13")

Tell = Callable[[list[str]], None]


# -- what is here -------------------------------------------------------------------------------------------------------
def installed(name: str) -> str | None:
    """The version of one of our own libraries."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _needs(name: str, extra: str) -> list[Requirement]:
    """What one of our libraries asks for with an extra."""
    found = []
    for line in importlib.metadata.requires(name) or ():
        with contextlib.suppress(InvalidRequirement):
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is not None and not marker.evaluate({"extra": ""}) and marker.evaluate({"extra": extra}):
                found.append(requirement)
    return found


def missing(wanted: Requirements) -> list[Requirement]:
    """The wishes that our own libraries do not meet; when there are none, no set is needed."""
    return wishes.unsatisfied(wanted.wanted, installed, _needs)


# -- which set ----------------------------------------------------------------------------------------------------------
def package_index() -> index.Index:
    """Where packages come from. Raises NotReady when nobody said."""
    try:
        return index.chosen(
            settings.PACKAGE_INDEX, hosts=tuple(settings.PACKAGE_HOSTS), authorities=settings.PACKAGE_CA
        )
    except Explained as error:
        raise errors.NotReady(error.message, code=error.code, hint=error.hint) from error


def environment_for(wanted: Requirements) -> Environment:
    """The set of these wishes on this Python, made known when it is new."""
    kept = _kept_out(wanted)
    text = wanted.text + "".join(f"# ours: {name}\n" for name in kept)
    source, python, platform = package_index(), wishes.python_tag(), wishes.platform_tag()
    key = wishes.identity(text, python=python, platform=platform, index=source.name)
    environment, _ = Environment.objects.get_or_create(
        pk=key, defaults={"requirements": text, "python": python, "platform": platform, "index_name": source.name}
    )
    Environment.objects.filter(pk=key).update(last_used_at=clock.now())  # nobody forgets it now
    return environment


def _kept_out(wanted: Requirements) -> tuple[str, ...]:
    wished = {one.name: one for one in wanted.wanted}
    torch = wished.get("torch")
    if installed("torch") is None or (torch is not None and not wishes.version_fits(torch, installed("torch"))):
        return tuple(name for name in _HEAVY if name != "torch" and name not in wished)
    return tuple(name for name in _HEAVY if name == "torch" or name not in wished)


def _preferred() -> str:
    """Our own versions: where the wishes leave a choice, what works with the rest of ours is taken."""
    ours = sorted(builder.installed().items())
    return "".join(f"{name}=={version}\n" for name, version in ours if "+" not in version)


# -- built --------------------------------------------------------------------------------------------------------------
def folder_of(environment: Environment) -> Path:
    return settings.ENVIRONMENTS_DIR / environment.pk


def site_of(environment: Environment) -> Path:
    """What goes on sys.path."""
    return folder_of(environment) / SITE


def ensure(environment: Environment, tell: Tell = lambda lines: None) -> Environment:
    """Built and whole on this machine, by one process while all others wait. ``tell`` gets lines as they come.

    Raises Invalid when its packages cannot be had, NotReady when it took too long.
    """
    until = time.monotonic() + settings.ENVIRONMENT_BUILD_S + 30
    waited, shown = False, 0
    while time.monotonic() < until:
        with _alone(environment) as alone:
            environment.refresh_from_db()
            if alone and environment.status == EnvironmentStatus.READY:
                return _here(environment, tell)
            if alone and waited and environment.status == EnvironmentStatus.FAILED:
                _raise(environment.error or {})
            if alone and _free(environment):
                return _build(environment, tell)
        waited = True
        shown = _relay(environment, shown, tell)
        time.sleep(_PAUSE_S)
    raise errors.NotReady(
        "The dependencies are being built elsewhere and were not ready in time.",
        code="build_timeout",
        hint="Validate again in a few minutes.",
    )


@contextlib.contextmanager
def _alone(environment: Environment) -> Iterator[bool]:
    """Whether this process (and thread) is the only one at it on this machine; the kernel frees the lock when its holder dies."""
    locks = settings.ENVIRONMENTS_DIR / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / environment.pk).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _free(environment: Environment) -> bool:
    """Nobody builds it, or whoever did has fallen silent (on another machine: here the lock would tell)."""
    beat = environment.beat_at
    return environment.status != EnvironmentStatus.BUILDING or beat is None or clock.now() - beat > _SILENT


def _relay(environment: Environment, shown: int, tell: Tell) -> int:
    """What the builder has said since, for those who wait for it."""
    lines = environment.log.splitlines()
    tell(lines[shown:])
    return len(lines)


class _Journal:
    """Lines of a build on their way: into the row about each second, and to whoever asked for it."""

    def __init__(self, environment: Environment, token: uuid.UUID | None, tell: Tell) -> None:
        self.environment, self.token, self.tell = environment, token, tell
        self.lines: list[str] = []
        self._new: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)
        self._new.append(line)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)[-LOG_CHARS:]

    def beat(self) -> None:
        if self.token is not None:
            mine = Environment.objects.filter(pk=self.environment.pk, builder=self.token)
            if mine.update(log=self.text, beat_at=clock.now()) != 1:
                raise BuildFailed("build_taken_over", "Another process builds it now.", "Validate again.")
        self.flush()

    def flush(self) -> None:
        new, self._new = self._new, []
        self.tell(new)


def _build(environment: Environment, tell: Tell) -> Environment:
    """Queued, failed or forsaken -> building -> ready or failed. Raises Invalid with the reason."""
    token = uuid.uuid4()
    seen = Environment.objects.filter(pk=environment.pk, status=environment.status, builder=environment.builder)
    if seen.update(status=EnvironmentStatus.BUILDING, builder=token, beat_at=clock.now(), log="", error=None) != 1:
        raise errors.NotReady("Another process has begun to build it.", code="build_taken_over", hint="Validate again.")
    mine = Environment.objects.filter(pk=environment.pk, builder=token)
    journal = _Journal(environment, token, tell)
    try:
        made = _made(environment, journal)
    except BuildFailed as error:
        told = {"code": error.code, "detail": error.message, "hint": error.hint}
        mine.update(status=EnvironmentStatus.FAILED, builder=None, error=told, log=journal.text)
        journal.flush()
        log.info("environment_failed", environment=environment.pk, code=error.code)
        _raise(told)
    except BaseException:
        mine.update(status=EnvironmentStatus.QUEUED, builder=None, log=journal.text)
        raise
    mine.update(
        status=EnvironmentStatus.READY,
        builder=None,
        lock=made.lock,
        packages=[{"name": name, "version": version} for name, version in made.packages],
        size_bytes=made.size_bytes,
        digest=made.digest,
        seconds=round(made.seconds, 2),
        log=journal.text,
        built_at=clock.now(),
        last_used_at=clock.now(),
    )
    environment.refresh_from_db()
    log.info("environment_built", environment=environment.pk, packages=len(made.packages), bytes=made.size_bytes)
    return environment


def _here(environment: Environment, tell: Tell) -> Environment:
    """A set that is known and ready, on this machine: as it was built, or built again from its lock."""
    if not tree.whole(folder_of(environment), environment.digest):
        journal = _Journal(environment, None, tell)
        try:
            made = _made(environment, journal)
        except BuildFailed as error:
            _raise({"code": error.code, "detail": error.message, "hint": error.hint})
        if made.digest != environment.digest:
            tree.remove(folder_of(environment))
            raise errors.Conflict(
                "The dependencies were built again and came out different.",
                code="environment_changed",
                hint="Tell your administrator: another installer, or an index that changes its files. Push the version again.",
            )
    _touch(environment)
    return environment


def _made(environment: Environment, journal: _Journal) -> builder.Built:
    wanted = Wanted(
        environment.requirements,
        lock=environment.lock,
        kept_out=_named(environment.requirements),
        preferred="" if environment.lock else _preferred(),
    )
    quota = Quota(settings.ENVIRONMENT_PACKAGES, settings.ENVIRONMENT_BYTES, settings.ENVIRONMENT_BUILD_S)
    made = builder.build(
        wanted, folder_of(environment), package_index(), quota=quota, tell=journal.add, beat=journal.beat
    )
    journal.beat()
    return made


def _named(text: str) -> tuple[str, ...]:
    return tuple(line.removeprefix("# ours: ") for line in text.splitlines() if line.startswith("# ours: "))


def _raise(error: dict[str, Any]) -> NoReturn:
    raise errors.Invalid(
        str(error.get("detail") or "The dependencies could not be built."),
        code=str(error.get("code") or "build_failed"),
        hint=str(error.get("hint") or ""),
    )


# -- used ---------------------------------------------------------------------------------------------------------------
def spec_of(version: ModelVersion) -> dict[str, str] | None:
    """``ModelSpec.environment`` of a version, its set whole on this machine. Raises Invalid, Conflict, NotReady."""
    environment = version.environment
    if environment is None:
        return None
    if environment.status != EnvironmentStatus.READY or not tree.whole(folder_of(environment), environment.digest):
        ensure(environment)
    else:
        _touch(environment)
    return {"id": environment.pk, "path": str(site_of(environment)), "owner": str(version.organization_id)}


def _touch(environment: Environment) -> None:
    now = clock.now()
    if now - environment.last_used_at > _TOUCH:
        Environment.objects.filter(pk=environment.pk).update(last_used_at=now)


# -- forgotten ----------------------------------------------------------------------------------------------------------
def forget() -> dict[str, int]:
    """Daily: sets that no version names and nobody used for a week; folders without a row; what a killed build left."""
    counts = {"environments": 0, "folders": 0}
    unused = Environment.objects.filter(versions__isnull=True, last_used_at__lt=clock.now() - KEEP)
    for environment in unused.exclude(status=EnvironmentStatus.BUILDING):
        with _alone(environment) as alone, contextlib.suppress(ProtectedError):
            if alone and unused.filter(pk=environment.pk).exists():
                folder = folder_of(environment)
                environment.delete()
                tree.remove(folder)
                (settings.ENVIRONMENTS_DIR / ".locks" / folder.name).unlink(missing_ok=True)
                counts["environments"] += 1
    if settings.ENVIRONMENTS_DIR.is_dir():
        counts["folders"] = sum(_forgotten(folder) for folder in settings.ENVIRONMENTS_DIR.iterdir())
    log.info("environments_forgotten", **counts)
    return counts


def _forgotten(folder: Path) -> bool:
    """Remove what is nobody's. One day's grace: a build begins before its row says so on every machine."""
    if folder.name == ".locks" or time.time() - folder.stat().st_mtime < 86_400:
        return False
    if Environment.objects.filter(pk=folder.name).exists():
        return False
    tree.remove(folder)
    return True
