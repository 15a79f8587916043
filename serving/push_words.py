"""A push in words: one line for a commit's status, and the comment under its pull request.

Names of columns, classes, branches and people, commit messages and what a model printed come from whoever pushed: they stand in code
spans, or are escaped so that no mention, link, picture, HTML or reference to an issue comes of them.
"""

from __future__ import annotations

import string
import unicodedata
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.urls import reverse

from mlops.core import words
from mlops.core.errors import SlipwayError
from registry.models import PushStatus, SourcePush
from serving import openapi, snippets
from serving.models import Deployment
from serving.services import previews

MOST_CHARS = 60_000  # GitHub takes 65,536
_CURL_CHARS = 4_000
_MOST_STEPS = 60
_MARKS = frozenset(string.punctuation) - set("%,;?.()'\"")  # those mean nothing to Markdown inside a line
_APART = "\u200b"  # a zero-width space: what stands on both sides of it is not read as one thing

_TITLES = {
    PushStatus.QUEUED: "is queued",
    PushStatus.FETCHING: "is being fetched",
    PushStatus.VALIDATING: "is being validated",
    PushStatus.DEPLOYING: "is being deployed",
    PushStatus.WAITING: "is ready and waits",
    PushStatus.LIVE: "is live",
    PushStatus.FAILED: "failed",
    PushStatus.SUPERSEDED: "is superseded by a newer push",
    PushStatus.CLOSED: "is closed and gone",
}


# --- Escaping -------------------------------------------------------------------------------------------------------------


def code(value: Any, most: int = 120) -> str:
    """A code span: nothing in it is read as anything. Backticks and bars, which could end it, become look-alikes."""
    text = _plain(value, most).replace("`", "'").replace("|", "¦")
    return f"`{text}`" if text else "`(empty)`"


def prose(value: Any, most: int = 600) -> str:
    """A sentence with foreign words in it: every punctuation mark is only itself, and nothing becomes a link or a mention."""
    text = _plain(value, most)
    for word in ("www.", "WWW.", "GH-", "gh-"):
        text = text.replace(word, word[:-1] + _APART + word[-1])
    return "".join(_mark(each) for each in text)


def _mark(character: str) -> str:
    if character in "@#:/":
        return f"\\{character}{_APART}"
    return f"\\{character}" if character in _MARKS else character


def _plain(value: Any, most: int) -> str:
    """One line without control, formatting or private characters."""
    kept = (
        "" if unicodedata.category(each)[0] == "C" and each not in "\t\n\r" else each for each in str(value)[: most * 2]
    )
    text = " ".join("".join(kept).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


# --- A line ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A commit's status as GitHub takes it."""

    state: str
    description: str


def line(push: SourcePush) -> Line:
    """Required checks hang on it: what waits for production is checked, and is a success; so is what was live before it was taken away."""
    status, was_good = PushStatus(push.status), push.version is not None and push.version.ready_at is not None
    detail = str((push.error or {}).get("detail") or "")
    match status:
        case PushStatus.LIVE:
            where = push.source.deployment if push.production else push.preview
            return Line(
                "success", f"{where} answers with version {push.version.number if push.version else ''}".strip()
            )
        case PushStatus.WAITING:
            return Line("success", detail or "Checked and ready; it waits for production.")
        case PushStatus.FAILED:
            return Line("failure", detail or "It failed.")
        case PushStatus.SUPERSEDED | PushStatus.CLOSED:
            told = "A newer push came." if status == PushStatus.SUPERSEDED else "Closed: its preview is gone."
            return Line("success" if was_good else "error", told)
        case PushStatus.QUEUED:
            return Line("pending", "Waiting for a worker.")
    return Line("pending", f"The commit {_TITLES[status]}.")


def page_of(push: SourcePush) -> str:
    kwargs = {"org": push.organization.slug, "source_id": push.source_id, "push_id": push.pk}
    return settings.BASE_URL + reverse("source_push", kwargs=kwargs)


def marker(push: SourcePush) -> str:
    return f"<!-- slipway:{push.source_id} -->"


# --- The comment ----------------------------------------------------------------------------------------------------------


def comment(push: SourcePush, deployment: Deployment | None, steps: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Markdown of at most MOST_CHARS. ``facts`` as ``push_facts.measure`` found them; empty as long as it has not."""
    what = "" if push.production else "preview of "
    parts = [
        f"{marker(push)}\n### Slipway: {what}{code(push.source.deployment, 63)} {_TITLES[PushStatus(push.status)]}",
        _table(_summary(push, deployment, facts)),
        _why(push),
        _call(push, deployment),
        _shape(facts),
        _predictions(facts),
        _steps(steps),
    ]
    last, room = f"[All of it]({page_of(push)})\n", MOST_CHARS
    kept = [part for part in parts if part and (room := room - len(part) - 2) > len(last)]
    return "\n\n".join([*kept, last])


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _summary(push: SourcePush, deployment: Deployment | None, facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("Commit", f"{code(push.sha[:7] or 'head')} of {code(push.branch)}")]
    address = _address(push, deployment)
    if address:
        rows.append(("Endpoint" if push.production else "Preview", code(address, 400)))
    elif push.status == PushStatus.CLOSED and push.preview:
        rows.append(("Preview", f"{code(push.preview)}, removed"))
    if push.version is not None:
        kwargs = {"org": push.organization.slug, "model": push.version.model.slug, "number": push.version.number}
        rows.append(
            ("Version", f"[{push.version.number}]({settings.BASE_URL}{reverse('version_detail', kwargs=kwargs)})")
        )
        rows.append(("Size", words.size(push.version.size_bytes)))
    if facts:
        rows += [("p95 of one row", _speed(facts)), ("Dependencies", _dependencies(facts))]
    return rows


def _address(push: SourcePush, deployment: Deployment | None) -> str:
    if push.status != PushStatus.LIVE or deployment is None:
        return ""
    path = deployment.predict_path if push.production else previews.path_of(deployment, push.preview)
    return settings.BASE_URL + path


def _speed(facts: dict[str, Any]) -> str:
    compared = facts.get("predictions") or {}
    if compared.get("p95_ms") is None:
        return words.ms(facts.get("p95_ms"))
    return f"{words.ms(compared['p95_ms'])} (version {facts['against']}: {words.ms(compared.get('p95_ms_before'))})"


def _dependencies(facts: dict[str, Any]) -> str:
    if not facts.get("environment"):
        return "Slipway's own libraries"
    count = facts.get("packages") or 0
    return f"{code(str(facts['environment'])[:8])}, {count} package{'' if count == 1 else 's'}"


def _why(push: SourcePush) -> str:
    """Of a push that failed or waits: every error and warning of its validation, else what stopped it."""
    told = []
    if push.status == PushStatus.FAILED and push.version is not None:
        found = push.version.findings.filter(level__in=("error", "warning")).order_by("level", "pk")[:20]
        told = [(each.message, each.hint) for each in found]
    detail, hint = (str((push.error or {}).get(name) or "") for name in ("detail", "hint"))
    if detail and detail not in [message for message, _ in told]:
        told.insert(0, (detail, hint))
    return "\n".join(f"- **{prose(message)}**{f' {prose(more)}' if more else ''}" for message, more in told)


def _call(push: SourcePush, deployment: Deployment | None) -> str:
    address = _address(push, deployment)
    if not address or push.version is None:
        return ""
    try:
        body = openapi.example_request(push.version)
    except SlipwayError:
        return ""
    one = body if not isinstance(body.get("inputs"), list) else {"inputs": body["inputs"][:1]}
    command = "".join(map(_ascii, snippets.curl(address, one)))
    return f"````bash\n{command}\n````" if len(command) <= _CURL_CHARS else ""


def _ascii(character: str) -> str:
    """JSON's own way to write it, so that nothing in a command looks like something else."""
    if character == "\n" or (character.isascii() and character.isprintable()):
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def _shape(facts: dict[str, Any]) -> str:
    if facts.get("against") is None:
        return ""
    head = f"**Inputs and outputs, against version {facts['against']} in production**\n\n"
    if not facts["schema"]:
        return head + "The same columns, types and classes."
    signs = {"error": "breaks callers", "warning": "changes"}
    return head + "\n".join(
        f"- *{signs.get(each['level'], 'note')}*: {prose(each['text'], 300)}" for each in facts["schema"]
    )


def _predictions(facts: dict[str, Any]) -> str:
    found = facts.get("predictions")
    if not found:
        return ""
    head = f"**Predictions, against version {facts['against']}**\n\n"
    return head + prose(facts.get("sentence", ""))


def _steps(steps: list[dict[str, Any]]) -> str:
    if not steps:
        return ""
    rows = [
        f"| {prose(step['label'], 60)} | {prose(step['status'], 20)} | {'' if step.get('seconds') is None else words.seconds(step['seconds'])} |"
        for step in steps[:_MOST_STEPS]
    ]
    taken = words.seconds(sum(step.get("seconds") or 0 for step in steps))
    return "\n".join(
        [f"<details><summary>Steps, {taken}</summary>\n", "| Step | | Time |", "|---|---|---|", *rows, "\n</details>"]
    )
