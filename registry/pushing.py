"""The work of the job ``deploy_push``: from a commit's name to a version that is being validated."""

from __future__ import annotations

from collections.abc import Callable

from mlops.core.errors import SlipwayError
from mlops.core.words import size
from mlops.jobs.runner import JobRun
from registry.git import fetching, github, process, tree
from registry.git.fetching import Remote
from registry.git.files import files_of
from registry.git.github import GitHubError
from registry.git.process import GitError, Workplace
from registry.git.tree import Blobs
from registry.metadata import Metadata
from registry.models import ModelVersion, Source, SourcePush
from registry.services import pushes
from registry.services.push import push_tree

_Found = tuple[ModelVersion | None, bool]
_NOT_LET_IN = (
    "git_refused",
    "repository_missing",
    "app_key_invalid",
    "github_unauthorized",
    "github_missing",
    "github_forbidden",
)


class _Known(Exception):
    """Another push of the same commit has made its version while this one fetched."""

    def __init__(self, version: ModelVersion) -> None:
        super().__init__(version.pk)
        self.version = version


def work(run: JobRun, push_id: int) -> None:
    """May be killed anywhere and run again: a commit becomes one version, whatever happens."""
    push = SourcePush.objects.select_related("source", "organization", "created_by").filter(pk=push_id).first()
    if push is None or not pushes.begin(push):
        return
    process.sweep()
    caller = pushes.caller_of(push)
    version, made_now = _opened(push.source, lambda remote: _version(run, push, remote))
    if version is not None:
        pushes.link(push, version, caller, made_now=made_now)


def _opened(source: Source, act: Callable[[Remote], _Found]) -> _Found:
    """With the source's credential; when that is not good, without one: a public repository needs none. Who must know of it is told elsewhere."""
    try:
        return act(github.remote_of(source))
    except (GitError, GitHubError) as error:
        if not github.has_credential(source) or error.code not in _NOT_LET_IN:
            raise
        try:
            return act(Remote(source.clone_url))
        except SlipwayError:
            raise error from None


def _version(run: JobRun, push: SourcePush, remote: Remote) -> _Found:
    """The version of the commit, and whether this push has made it; None when there is nothing to do any more."""
    with process.workplace() as place:
        if not push.sha:
            with run.step("resolve") as step:
                sha = fetching.head_of(place, remote, push.ref)
                step["message"] = f"{push.branch} is at {sha[:7]}."
            if not pushes.name_commit(push, sha):
                return None, False
        tried = push.version_id is not None  # a version of an earlier try of this push that failed is validated again
        version = pushes.known_version(push)
        if version is not None:
            return version, not tried and _made_by(version, push)
        return _made(run, push, place, remote), True


def _made_by(version: ModelVersion, push: SourcePush) -> bool:
    """An attempt of this very push has made it, and was killed before it could say so."""
    return version.created_at >= push.created_at


def _made(run: JobRun, push: SourcePush, place: Workplace, remote: Remote) -> ModelVersion | None:
    """None when a newer push has come meanwhile."""
    with run.step("fetch") as step:
        fetching.fetch(place, remote, push.sha, push.ref)
        listed = tree.list_files(place, push.sha, push.source.folder)
        step["message"] = f"{push.sha[:7]}: {len(listed)} file{'' if len(listed) == 1 else 's'}."
    with run.step("pack") as step, Blobs(place) as blobs:
        commit = blobs.commit(push.sha)
        push.message, push.author = push.message or commit.message, push.author or commit.author
        push.save(update_fields=["message", "author"])
        run.beat()  # raises when another worker has taken over
        if not SourcePush.objects.filter(pk=push.pk, status=push.status).exists():
            return None
        try:
            version, _ = push_tree(
                push.organization,
                pushes.caller_of(push),
                model=push.source.model,
                files=files_of(place, remote, blobs, listed),
                metadata=Metadata(description=push.message.partition("\n")[0][:500], claims=pushes.claims(push)),
                check=lambda: _refuse_known(push),
            )
        except _Known as known:
            version = known.version
        step["message"] = f"Version {version.number}, {size(version.size_bytes)}."
    return version


def _refuse_known(push: SourcePush) -> None:
    if (version := pushes.known_version(push)) is not None:
        raise _Known(version)
