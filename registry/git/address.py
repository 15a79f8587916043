"""Addresses, branches and folders as people write them, judged by rules of our own before git sees them."""

from __future__ import annotations

import re

from mlops.core import errors, outbound

_PATH = re.compile(r"(?:/(?![.-])[A-Za-z0-9._~+-]{1,100})+/?")
_BRANCH = re.compile(r"(?!-)[A-Za-z0-9._/@+#=,-]{1,200}")
_FOLDER = re.compile(r"[A-Za-z0-9._+@=,-][A-Za-z0-9._+@=, -]{0,99}")
SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def clone_url(given: str, *, github: bool = False) -> str:
    """A repository's https address in its one form. http only for servers in SLIPWAY_OUTBOUND_ALLOW. Raises Invalid."""
    text = given.strip()
    if re.match(r"(?:ssh|git)://|[\w.-]+@[\w.-]+:", text):
        raise _refused("Only https addresses can be fetched.", "Use the https address of the repository.")
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise _refused(
            "The address holds a user or a password.",
            "Leave it out: the token has a field of its own, and is kept sealed.",
        )
    try:
        target = outbound.split(text)
    except errors.Invalid as error:
        raise _refused(error.detail, error.hint, error.code) from error
    if not _PATH.fullmatch(target.path) or len(text) > 300:
        raise _refused(
            "The path of the repository's address is not plain.", "It looks like https://github.com/owner/name."
        )
    path = target.path.rstrip("/")
    if github and not re.fullmatch(r"/[^/]+/[^/]+", path):
        raise _refused("A GitHub repository has an owner and a name.", "It looks like https://github.com/owner/name.")
    usual = 443 if target.scheme == "https" else 80
    port = "" if target.port == usual else f":{target.port}"
    return f"{target.scheme}://{target.host}{port}{path}"


def repository(url: str) -> str:
    """``owner/name``, small letters: how two addresses of one repository compare."""
    return url.split("/", 3)[3].rstrip("/").removesuffix(".git").lower()


def branch(given: str) -> str:
    """Raises Invalid for a name git would refuse, or that we would rather not hand to it."""
    text = given.removeprefix("refs/heads/")
    if is_branch(text):
        return text
    raise errors.Invalid(
        f"{given[:80]!r} is not the name of a branch.",
        code="branch_invalid",
        hint="For example main, or feature/faster.",
        fields={"branch": ["Use letters, digits and . _ / - without .. in it."]},
    )


def is_branch(text: str) -> bool:
    parts = text.split("/")
    return (
        bool(_BRANCH.fullmatch(text))
        and ".." not in text
        and "@{" not in text
        and all(part and not part.startswith(".") and not part.endswith((".", ".lock")) for part in parts)
    )


def folder(given: str) -> str:
    """A path within the repository, without slashes around it; empty for its root. Raises Invalid."""
    text = given.strip().strip("/")
    parts = text.split("/") if text not in ("", ".") else []
    if len(text) <= 300 and all(_FOLDER.fullmatch(part) and part not in (".", "..", ".git") for part in parts):
        return "/".join(parts)
    raise errors.Invalid(
        f"{given[:80]!r} is not a folder of a repository.",
        code="folder_invalid",
        hint="For example models/churn; leave it empty for the whole repository.",
        fields={"folder": ["Use plain names with / between them."]},
    )


def _refused(detail: str, hint: str, code: str = "url_invalid") -> errors.Invalid:
    return errors.Invalid(detail, code=code, hint=hint, fields={"clone_url": [detail]})
