"""Commands that push a version, ready to paste."""

from __future__ import annotations

from django.conf import settings

from accounts.models import Organization


def push(organization: Organization, model: str = "my-model") -> dict[str, str]:
    """``curl`` and ``python`` for this organisation; the key stands in the environment variable SLIPWAY_KEY."""
    url = f"{settings.BASE_URL}/api/v1/{organization.slug}/models/{model}/versions"
    curl = (
        f"curl {url} \\\n"
        '  -H "Authorization: Bearer $SLIPWAY_KEY" \\\n'
        "  -F file=@model.joblib \\\n"
        "  -F reference=@train.csv \\\n"
        '  -F \'metadata={"metrics": {"auc": 0.94}}\''
    )
    python = (
        "import os\nimport requests\n\n"
        'with open("model.joblib", "rb") as model, open("train.csv", "rb") as reference:\n'
        "    answer = requests.post(\n"
        f'        "{url}",\n'
        '        headers={"Authorization": f"Bearer {os.environ[\'SLIPWAY_KEY\']}"},\n'
        '        files={"file": model, "reference": reference},\n'
        '        data={"metadata": \'{"metrics": {"auc": 0.94}}\'},\n'
        "    )\n"
        "answer.raise_for_status()\n"
        'print(answer.json()["url"])'
    )
    return {"curl": curl, "python": python}
