"""The call of a deployment as people paste it: curl and Python's standard library, nothing to install."""

from __future__ import annotations

import json
import shlex
from typing import Any

KEY_VARIABLE = "SLIPWAY_KEY"


def curl(url: str, body: dict[str, Any], key: str = "") -> str:
    """A shell command. Without a key it reads $SLIPWAY_KEY."""
    bearer = f"Authorization: Bearer {key or f'${KEY_VARIABLE}'}"
    text = json.dumps(body, ensure_ascii=False)
    return f'curl {shlex.quote(url)} \\\n  -H "{bearer}" \\\n  -H "Content-Type: application/json" \\\n  -d {shlex.quote(text)}'


def python(url: str, body: dict[str, Any], key: str = "") -> str:
    """A script for any Python 3. Without a key it reads SLIPWAY_KEY from the environment."""
    secret = repr(key) if key else f'os.environ["{KEY_VARIABLE}"]'
    # A JSON string inside a string literal: true, null and quotes need no translation.
    body_literal = repr(json.dumps(body, ensure_ascii=False))
    return (
        "import json\nimport os\nimport urllib.request\n\n"
        f"key = {secret}\n"
        f"body = {body_literal}\n"
        "request = urllib.request.Request(\n"
        f"    {url!r},\n"
        "    data=body.encode(),\n"
        '    headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},\n'
        ")\n"
        "with urllib.request.urlopen(request) as response:\n"
        "    print(json.load(response))\n"
    )


def batch_curl(url: str) -> str:
    """Send a file of rows; a large one answers where its run can be watched."""
    return f"""curl -L "{url}?format=csv" \\
  -H "Authorization: Bearer $SLIPWAY_KEY" \\
  -F file=@rows.csv"""


def batch_python(url: str) -> str:
    return f"""import json
import os
import time
import urllib.request

HEADERS = {{"Authorization": f"Bearer {{os.environ['{KEY_VARIABLE}']}}"}}


def ask(url, data=None, **headers):
    request = urllib.request.Request(url, data=data, headers=HEADERS | headers)
    with urllib.request.urlopen(request) as answer:
        return answer.status, answer.read()


with open("rows.csv", "rb") as file:
    status, answer = ask("{url}", file.read(), **{{"Content-Type": "text/csv"}})
if status == 202:  # a large file: wait for its run
    run = json.loads(answer)
    while run["status"] in ("queued", "running"):
        time.sleep(2)
        run = json.loads(ask(run["url"])[1])
    answer = ask(run["results_url"])[1]
with open("predictions.csv", "wb") as file:
    file.write(answer)
"""
