"""What to paste into a git server, so that it calls us: of one source, with or without its secret."""

from __future__ import annotations

import shlex

from django.conf import settings
from django.urls import reverse

from registry.models import Source

SECRET_VARIABLE = "SLIPWAY_HOOK_SECRET"  # noqa: S105  a name, not a secret


def hook_url(source: Source) -> str:
    return settings.BASE_URL + reverse("source_hook", kwargs={"source_id": source.pk})


def hook_settings_url(source: Source) -> str:
    """Where GitHub takes a new webhook; empty for other servers."""
    if source.kind != Source.Kind.GITHUB:
        return ""
    return f"{source.clone_url.removesuffix('/').removesuffix('.git')}/settings/hooks/new"


def generic_call(source: Source) -> str:
    """Shell lines for a CI job: they sign and send what HEAD is (Standard Webhooks). The secret is read from the environment."""
    return "\n".join(
        (
            "branch=${BRANCH:-$(git rev-parse --abbrev-ref HEAD)}",
            """body=$(printf '{"ref": "refs/heads/%s", "sha": "%s"}' "$branch" "$(git rev-parse HEAD)")""",
            "id=msg_$(openssl rand -hex 12); at=$(date +%s)",
            f"""key=$(printf %s "${{{SECRET_VARIABLE}#whsec_}}" | base64 -d | od -An -tx1 -v | tr -d ' \\n')""",
            """sig=$(printf %s "$id.$at.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)""",
            f"curl -fsS {shlex.quote(hook_url(source))} \\",
            """  -H "webhook-id: $id" -H "webhook-timestamp: $at" -H "webhook-signature: v1,$sig" \\""",
            """  -H "Content-Type: application/json" -d "$body\"""",
        )
    )
