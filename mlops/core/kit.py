"""The kit page: every piece of templates/ui/ on one page, to look at while working on it. Served under DEBUG and in tests only."""

from __future__ import annotations

from datetime import timedelta

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from mlops.core import clock


class KitForm(forms.Form):
    name = forms.SlugField(
        label="Model name", help_text="Lower-case letters, digits and dashes. It becomes part of the URL."
    )
    mail = forms.EmailField(label="Notify", required=False)
    framework = forms.ChoiceField(
        choices=[("", "Find out from the file"), ("sklearn", "scikit-learn"), ("xgboost", "XGBoost")], required=False
    )
    scopes = forms.MultipleChoiceField(
        choices=[("predict", "Predict"), ("read", "Read"), ("write", "Write")], widget=forms.CheckboxSelectMultiple
    )
    notes = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
    deploy = forms.BooleanField(label="Deploy when it is ready", required=False)
    file = forms.FileField(label="Model file", help_text=".joblib .skops .ubj .json .onnx .pt2 .pt, up to 5 GB")


_STEPS = [
    {"name": "received", "status": "done", "seconds": 0.12, "message": "fraud.joblib, 1.2 MB"},
    {"name": "hash", "status": "done", "seconds": 0.03},
    {
        "name": "static_scan",
        "status": "warning",
        "seconds": 0.2,
        "message": "Calls a function of the package 'mypackage'.",
        "hint": "Use .skops to be sure.",
    },
    {"name": "load in the sandbox", "status": "running", "seconds": None},
    {
        "name": "schema",
        "status": "failed",
        "seconds": 1.84,
        "message": "The column 'age' is missing from the sample.",
        "hint": "Send a sample CSV with it.",
    },
    {"name": "smoke prediction", "status": "waiting", "seconds": None},
]
_STATES = (
    "queued",
    "running",
    "ready",
    "live",
    "warning",
    "failed",
    "drifted",
    "learning",
    "stopped",
    "archived",
    "acknowledged",
)


def kit(request: HttpRequest) -> HttpResponse:
    now = clock.now()
    start = int(now.timestamp()) - 3600
    form = KitForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        messages.success(request, f"{form.cleaned_data['file'].name} was received.")
        return redirect(request.path)
    if "messages" in request.GET:
        messages.success(request, "Version 3 is live.")
        messages.error(request, "The mail could not be sent.")
    chart = {
        "unit": "ms",
        "x": [start + 60 * minute for minute in range(60)],
        "series": [
            {"label": "p50", "values": [4 + minute % 7 * 0.3 for minute in range(60)]},
            {
                "label": "p95",
                "values": [None if 20 < minute < 24 else 11 + minute % 11 for minute in range(60)],
                "tone": "amber",
            },
        ],
        "marks": [{"x": start + 900, "label": "v2 live"}, {"x": start + 2400, "label": "drift", "tone": "incident"}],
        "limit": 25,
    }
    context = {
        "form": form,
        "states": _STATES,
        "steps": _STEPS,
        "spark": [3, 5, 4, 8, None, 7, 9, 12, 10, 14],
        "reference": [2, 8, 20, 35, 40, 30, 18, 9, 3, 1],
        "current": [1, 2, 6, 14, 22, 35, 40, 30, 14, 8],
        "edges": [f"{low} to {low + 10}" for low in range(0, 100, 10)],
        "levels": ["card", "transfer", "cash", "unseen"],
        "level_reference": [60, 30, 10, 0],
        "level_current": [55, 28, 12, 5],
        "chart": chart,
        "earlier": now - timedelta(minutes=3),
        "page": Paginator(range(137), 50).get_page(request.GET.get("page", 2)),
        "error": {
            "code": "load_failed",
            "detail": "The file is not a joblib file.",
            "hint": "Save it with joblib.dump(model, path).",
        },
        "curl": "curl https://ml.example.com/api/v1/predict/ada/fraud \\\n  -H 'Authorization: Bearer sk_live_…' \\\n"
        '  -H \'Content-Type: application/json\' \\\n  -d \'{"inputs": [{"amount": 12.5, "country": "DE"}]}\'',
        "python": 'import slipway\n\nclient = slipway.Client()\nclient.predict("ada/fraud", [{"amount": 12.5, "country": "DE"}])',
        "facts": [
            ("File", "fraud.joblib"),
            ("SHA-256", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
            ("Size", "1.2 MB"),
        ],
        "tab_items": [
            {"url": "#o", "label": "Overview", "active": True},
            {"url": "#v", "label": "Versions", "count": 12},
            {"url": "#t", "label": "Traffic"},
            {"url": "#d", "label": "Drift"},
        ],
        "log": "received fraud.joblib\nhash 9f86d081884c\nloading in the sandbox\n",
        "pretty_value": {"predictions": ["fraud"], "timings_ms": {"total": 2.1}},
    }
    return render(request, "ui/kit.html", context)
