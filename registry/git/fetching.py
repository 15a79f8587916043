"""One commit of a repository on another server, into a bare repository of our own."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from mlops.core import outbound
from registry.git.address import SHA
from registry.git.process import GitError, Workplace

_DEPTH = 50  # how far behind its branch a commit is looked for, where a server hands out branches only
_UNNAMED = re.compile(
    r"not our ref|unadvertised object|allow request for|no such remote ref|couldn't find remote ref", re.I
)
_BROKEN = re.compile(
    r"fsck error|error in object|bad object|invalid index-pack|index-pack failed|did not receive expected", re.I
)


@dataclass(frozen=True)
class Remote:
    """A repository and what opens it. ``user`` and ``token`` may be empty."""

    url: str
    user: str = ""
    token: str = field(default="", repr=False)

    @property
    def authorization(self) -> str:
        """The value of the header, empty without a token."""
        if not self.token:
            return ""
        return "Basic " + base64.b64encode(f"{self.user or 'x-access-token'}:{self.token}".encode()).decode()


def head_of(work: Workplace, remote: Remote, ref: str) -> str:
    """The commit that ``ref`` (refs/heads/...) points to on the server now. Raises GitError ``branch_gone`` and what ``fetch`` raises."""
    _prepare(work, remote)
    status, printed, said = work.run("ls-remote", "--quiet", "--refs", "--", remote.url, ref)
    if status != 0:
        raise _named(said)
    for line in printed.decode("ascii", "replace").splitlines():
        sha, _, name = line.partition("\t")
        if name == ref and SHA.fullmatch(sha):
            return sha
    raise _gone(ref)


def fetch(work: Workplace, remote: Remote, sha: str, ref: str) -> None:
    """Bring ``sha`` and all its files. Where a server hands out branches only: ``ref``, when ``sha`` is near its head.

    Raises GitError: ``commit_gone``, ``branch_gone``, ``git_refused``, ``repository_missing``, ``git_redirect``, ``git_broken``,
    ``git_timeout``, ``git_too_large``; Invalid and OutboundError when its address is none we go to.
    """
    _prepare(work, remote)
    kind = "sha256" if len(sha) == 64 else "sha1"
    _must(work.run("init", "--quiet", "--bare", "--template=", f"--object-format={kind}"))
    status, _, said = work.run(*_FETCH, "--depth=1", "--", remote.url, f"+{sha}:refs/slipway/commit")
    if status != 0:
        if not _UNNAMED.search(said):
            raise _named(said)
        _fetch_branch(work, remote, sha, ref)
    status, printed, _ = work.run("cat-file", "-t", sha)
    if status != 0 or printed.strip() != b"commit":
        raise _moved(sha, ref)


_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")


def _fetch_branch(work: Workplace, remote: Remote, sha: str, ref: str) -> None:
    status, _, said = work.run(*_FETCH, f"--depth={_DEPTH}", "--", remote.url, f"+{ref}:refs/slipway/branch")
    if status != 0:
        raise _gone(ref) if _UNNAMED.search(said) else _named(said)
    status, _, _ = work.run("merge-base", "--is-ancestor", sha, "refs/slipway/branch")
    if status != 0:
        raise _moved(sha, ref)


def _prepare(work: Workplace, remote: Remote) -> None:
    """The address is checked, and git is told where the name leads: it does not ask again."""
    target = outbound.check(remote.url)
    work.config[f"protocol.{target.scheme}.allow"] = "always"
    if not target.literal:
        addresses = ",".join(f"[{each}]" if each.version == 6 else str(each) for each in target.addresses)
        work.config["http.curloptResolve"] = f"{target.host}:{target.port}:{addresses}"
    if remote.token:
        work.secret["http.extraHeader"] = f"Authorization: {remote.authorization}"


def _must(done: tuple[int, bytes, str]) -> None:
    if done[0] != 0:
        raise _named(done[2])


def _gone(ref: str) -> GitError:
    name = ref.removeprefix("refs/heads/")
    return GitError(
        f"There is no branch {name!r} in the repository.", code="branch_gone", hint="Check its name; was it deleted?"
    )


def _moved(sha: str, ref: str) -> GitError:
    name = ref.removeprefix("refs/heads/")
    return GitError(
        f"The commit {sha[:7]} is not in {name!r} any more.",
        code="commit_gone",
        hint="The branch was probably force-pushed: what it holds now comes with its own push, or with Deploy now.",
    )


def _named(said: str) -> GitError:
    """git's complaint as an error of ours. What it prints of the server's own words is left out."""
    known = (
        (r"error: 401|Authentication failed|could not read (?:Username|Password)|error: 403", "git_refused",
         "The git server refused us.", "Is the token still good, and may it read this repository?"),
        (r"error: 404|not found", "repository_missing",
         "There is no such repository, or the token may not see it.", "Check the address and the token."),
        (r"error: 3\d\d|redirect", "git_redirect",
         "The git server sends us to another address.", "Redirects are not followed: connect the repository by its present address."),
        (r"[Cc]ertificate|SSL", "tls_failed",
         "The git server's certificate is not good.", "It must be valid for the name, from an authority this server knows."),
        (r"resolve host|connect to|timed out|Operation too slow|Empty reply|Connection reset|error: 5\d\d|Recv failure", "git_unreachable",
         "The git server cannot be reached.", "Try again in a minute."),
        (r"File size limit|SIGXFSZ|file too large", "git_too_large",
         "The commit is too large to be fetched.", "Keep large files in Git LFS, or out of this repository."),
        (_BROKEN.pattern, "git_broken",
         "The repository holds broken objects.", "Run git fsck --strict on it; rewrite or remove what it names."),
    )  # fmt: skip
    for pattern, code, detail, hint in known:
        if re.search(pattern, said):
            return GitError(detail, code=code, hint=hint)
    return GitError(
        "git could not fetch the commit.", hint="Try again; if it fails again, look whether git clone works."
    )
