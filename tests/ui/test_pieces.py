"""The pieces as HTML: what they say, that they escape, and that every template keeps the CSP."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from django import forms
from django.core.paginator import Paginator
from django.template import Context, Template
from django.template.loader import render_to_string
from django.test import RequestFactory

from mlops.core import icons

ROOT = Path(__file__).resolve().parents[2]
HTML = sorted((ROOT / "templates").rglob("*.html"))


def draw(source: str, **context: object) -> str:
    return Template("{% load ui %}" + source).render(Context(context))


class Form(forms.Form):
    name = forms.CharField(help_text="Lower case.")
    scopes = forms.MultipleChoiceField(
        choices=[("read", "Read"), ("write", "Write")], widget=forms.CheckboxSelectMultiple
    )
    agree = forms.BooleanField()
    secret = forms.CharField(widget=forms.HiddenInput, required=False)


def test_a_status_is_a_word_and_a_tone():
    html = draw("{% status state %}", state="failed")
    assert "state-danger" in html
    assert "Failed" in html


def test_a_card_keeps_its_body_and_escapes_its_title():
    html = draw("{% card title %}<p>{{ evil }}</p>{% endcard %}", title="<b>x</b>", evil="<i>")
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert "<p>&lt;i&gt;</p>" in html


def test_a_table_names_itself_and_its_columns():
    html = draw(
        '{% table label "File" "#Rows" %}<tr><td>{{ evil }}</td></tr>{% endtable %}', label="<Runs>", evil="<i>"
    )
    assert 'aria-label="&lt;Runs&gt;"' in html
    assert '<th scope="col">File</th><th scope="col" class="num">Rows</th>' in html
    assert "<tr><td>&lt;i&gt;</td></tr>" in html


def test_a_copy_button_escapes_what_it_copies():
    assert 'data-copy="&quot;&gt;&lt;script&gt;"' in draw("{% copy text %}", text='"><script>')


def test_breadcrumbs_mark_the_page_itself():
    html = draw('{% crumbs "Models" "/acme/models/" "fraud" %}')
    assert '<a href="/acme/models/">Models</a>' in html
    assert '<span aria-current="page">fraud</span>' in html


def test_a_field_ties_its_help_and_errors_to_its_input():
    html = draw("{% field form.name %}", form=Form({}))
    assert 'aria-invalid="true"' in html
    described = re.search(r'<input[^>]*aria-describedby="([^"]+)"', html)
    assert described is not None
    assert all(f'id="{each}"' in html for each in described[1].split())
    assert "This field is required." in html


def test_a_group_of_boxes_is_a_fieldset_with_a_legend():
    html = draw("{% field form.scopes %}", form=Form({"scopes": ["write"]}))
    assert "<legend" in html
    assert re.search(r'value="write"[^>]*checked', html)
    assert not re.search(r'value="read"[^>]*checked', html)


def test_fields_draws_hidden_fields_and_form_errors():
    form = Form({"name": "x", "scopes": ["read"], "agree": "on"})
    form.add_error(None, "These two do not go together.")
    html = draw("{% fields form %}", form=form)
    assert 'type="hidden"' in html
    assert "These two do not go together." in html


def test_steps_tell_the_failure_and_the_fix():
    steps = [
        {"name": "hash", "status": "done", "seconds": 0.03},
        {"name": "load", "status": "failed", "seconds": 1, "message": "Not a model.", "hint": "Save it."},
    ]
    html = render_to_string("ui/_steps.html", {"steps": steps})
    assert "step-danger" in html
    assert "Not a model." in html
    assert "Save it." in html
    assert "30 ms" in html


def test_pages_keep_the_query():
    request = RequestFactory().get("/?q=fraud&page=2")
    html = render_to_string("ui/_pagination.html", {"page": Paginator(range(120), 50).get_page(2)}, request)
    assert "51–100 of 120" in html
    assert "?q=fraud&amp;page=3" in html
    assert 'rel="prev"' in html


def test_one_page_needs_no_pager():
    assert "<nav" not in render_to_string(
        "ui/_pagination.html", {"page": Paginator(range(5), 50).get_page(1)}, RequestFactory().get("/")
    )


def test_a_sparkline_says_its_numbers():
    assert "Requests: lowest 1, highest 3, last 2" in draw(
        '{% sparkline values label="Requests" %}', values=[1, 3, None, 2]
    )
    assert "no data yet" in draw("{% sparkline values %}", values=[])


def test_a_histogram_names_the_largest_change():
    html = draw(
        '{% histogram reference current labels name="amount" %}',
        reference=[5, 5],
        current=[1, 9],
        labels=["0 to 1", "1 to 2"],
    )
    assert "Largest change in 0 to 1: 50 % to 10 %." in html or "Largest change in 1 to 2: 50 % to 90 %." in html
    assert "amount" in html


def test_a_poll_has_no_condition_to_evaluate():
    assert draw('{% poll "/x/" 3 %}') == 'hx-get="/x/" hx-trigger="poll" hx-swap="outerHTML" data-poll="3"'


def test_a_menu_entry_knows_the_open_section_and_vanishes_without_its_page():
    request = SimpleNamespace(resolver_match=SimpleNamespace(url_name="account_email"))
    assert 'aria-current="page"' in draw('{% nav_link "account_email" "Mail" "mail" %}', request=request)
    assert draw('{% nav_link "no_such_page" "Mail" "mail" %}', request=request) == ""


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_an_error_page_says_what_and_what_to_do(status):
    error = {"status": status, "detail": "Something happened.", "hint": "Do this."}
    html = render_to_string(
        "ui/error.html", {"error": error, "title": "Title", "request_id": "abc-123"}, RequestFactory().get("/")
    )
    for text in (str(status), "Something happened.", "Do this.", "abc-123"):
        assert text in html


@pytest.mark.parametrize("path", HTML, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_keeps_the_content_security_policy(path):
    html = path.read_text()
    if "/mail/" in path.as_posix():  # mails have no CSP; their styles are inline on purpose
        return
    assert not re.search(r"\sstyle\s*=", html), "inline style"
    assert not re.search(r"<style\b", html), "style element"
    assert not re.search(r"\son[a-z]+\s*=\s*[\"']", html), "inline handler"
    assert "hx-on" not in html, "hx-on needs eval"
    assert not re.search(r"hx-(vals|vars|headers)=[\"']js:", html), "js: needs eval"
    for script in re.findall(r"<script\b[^>]*>", html):
        assert "src=" in script or "application/json" in script, "inline script"


@pytest.mark.parametrize("path", HTML, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_uses_icons_that_the_sprite_has(path):
    html = path.read_text()
    used = set(re.findall(r"{%\s*icon\s+\"([^\"]+)\"", html)) | set(
        re.findall(r"\s(?:action_)?icon=\"([^\"]+)\"", html)
    )
    assert used <= set(icons.NAMES)


def test_the_sprite_holds_every_name():
    sprite = (ROOT / "static" / icons.SPRITE).read_text()
    assert set(re.findall(r'<symbol id="([^"]+)"', sprite)) == set(icons.NAMES)
