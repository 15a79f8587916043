"""System checks: what would break later is said at the start, with the way to mend it."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core import checks


@checks.register(checks.Tags.files)
def var_is_writable(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    if os.access(settings.VAR_DIR, os.W_OK | os.X_OK):
        return []
    return [
        checks.Error(
            f"{settings.VAR_DIR} cannot be written.",
            hint="Give the folder to the user Slipway runs as, or set SLIPWAY_VAR.",
            id="slipway.E001",
        )
    ]


@checks.register(checks.Tags.security, deploy=True)
def uploaders_are_not_trusted(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    if not settings.TRUST_UPLOADERS:
        return []
    return [
        checks.Warning(
            "SLIPWAY_TRUST_UPLOADERS=1: models run inside the web process and can read everything it can.",
            hint="Unset it unless everyone who may push is as trusted as the server's administrator.",
            id="slipway.W001",
        )
    ]


@checks.register(checks.Tags.compatibility)
def linux_only(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    if sys.platform == "linux":
        return []
    return [
        checks.Warning(
            "Models are isolated by Linux kernel features; on this system uploads cannot be validated or served.",
            hint="Run Slipway in a Linux container or virtual machine.",
            id="slipway.W002",
        )
    ]
