"""``{% load ui %}``: how things look. Filters turn values into words; tags draw the pieces of templates/ui/. Usage: docs/ui.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, ClearableFileInput, RadioSelect, Select
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from mlops.core import icons, svg, words

register = template.Library()

for _name, _filter in words.FILTERS.items():
    register.filter(_name, _filter)


# --- Small pieces ---------------------------------------------------------------------------------------------------------
@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """An icon of the sprite, hidden from screen readers: the words beside it say the same."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        css,
        static(icons.SPRITE),
        name,
    )


@register.simple_tag
def status(value: object, label: str = "") -> SafeString:
    """A dot and a word. The tone follows from the word: see ``mlops.core.words.TONES``."""
    return _piece("status", value=value, label=label or words.status_label(value), tone=words.status_tone(value))


@register.simple_tag
def copy(text: object, label: str = "Copy") -> SafeString:
    """A button that copies ``text``. Give a ``label`` that says what, when there are several on one page."""
    return _piece("copy", text=text, label=label)


@register.simple_tag
def crumbs(*pairs: object) -> SafeString:
    """``{% crumbs "Models" models_url model.name %}``: label and address in turn, the last label is this page."""
    links = [{"label": pairs[i], "url": pairs[i + 1] if i + 1 < len(pairs) else ""} for i in range(0, len(pairs), 2)]
    return _piece("crumbs", links=links)


@register.simple_tag
def progress(value: object, max: float = 1, label: str = "Progress") -> SafeString:  # noqa: A002  named like HTML's attribute
    return _piece("progress", value=value, max=max, label=label)


@register.simple_tag
def poll(url: str, seconds: int = 3, swap: str = "outerHTML") -> SafeString:
    """Attributes of a live part: fetched every ``seconds`` while the page is visible, until an answer comes without them."""
    return format_html('hx-get="{}" hx-trigger="poll" hx-swap="{}" data-poll="{}"', url, swap, seconds)


# --- Blocks ----------------------------------------------------------------------------------------------------------------
@register.simple_block_tag
def card(
    content: str,
    title: str = "",
    subtitle: str = "",
    icon: str = "",
    link_url: str = "",
    link_label: str = "",
    flush: bool = False,
) -> SafeString:
    """A titled box. ``flush`` lets a table or list reach its edges; ``link_url`` and ``link_label`` stand at the right of the title."""
    return _piece(
        "card",
        body=content,
        title=title,
        subtitle=subtitle,
        icon=icon,
        link_url=link_url,
        link_label=link_label,
        flush=flush,
    )


@register.simple_block_tag
def table(content: str, label: str, *columns: str) -> SafeString:
    """A table that reaches the edges of its ``flush`` card and scrolls on a phone. A name that begins with # heads numbers, at the right."""
    heads = [{"name": name.removeprefix("#"), "number": name.startswith("#")} for name in columns]
    return _piece("table", body=content, label=label, columns=heads)


@register.simple_block_tag
def callout(content: str, tone: str = "info", title: str = "") -> SafeString:
    """A message that stays in the page. Tones: info, success, warning, danger."""
    return _piece("callout", body=content, tone=tone, title=title)


@register.simple_block_tag
def dialog(content: str, id: str, title: str) -> SafeString:
    """A modal; ``data-dialog-open="id"`` on any button opens it, ``data-dialog-close`` inside closes it."""
    return _piece("dialog", body=content, id=id, title=title)


@register.simple_block_tag
def menu(content: str, label: str, icon: str = "dots", text: bool = False) -> SafeString:
    """A drop-down. Inside: links and buttons with class ``dropdown-item``. ``text`` shows the label beside the icon."""
    return _piece("menu", body=content, label=label, icon=icon, text=text)


@register.simple_block_tag
def tabs(content: str, label: str = "Sections") -> SafeString:
    return _piece("tabs", body=content, label=label)


@register.simple_tag
def tab(url: str, label: str, active: bool = False, count: int | None = None) -> SafeString:
    """One tab of ``{% tabs %}``: a link to the page that shows it."""
    badge = format_html('<span class="tab-count">{}</span>', count) if isinstance(count, int) else ""
    current = mark_safe(' aria-current="page"') if active else ""
    return format_html(
        '<li class="nav-item"><a class="nav-link{}" href="{}"{}>{}{}</a></li>',
        " active" if active else "",
        url,
        current,
        label,
        badge,
    )


@register.simple_tag(takes_context=True)
def nav_link(
    context: template.Context, url_name: str, label: str, icon: str, match: str = "", count: int | None = None
) -> SafeString:
    """One entry of the side menu; active when the page's URL name begins with a word of ``match``. Empty where the page does not exist."""
    organization = context.get("current_org")
    try:
        url = reverse(url_name, kwargs={"org": organization.slug} if organization else {})
    except NoReverseMatch:
        return mark_safe("")
    found = getattr(context.get("request"), "resolver_match", None)
    active = words.section(found and found.url_name, match or url_name)
    return _piece("nav_link", url=url, label=label, icon=icon, active=active, count=count)


# --- Forms -----------------------------------------------------------------------------------------------------------------
_CLASSES: tuple[tuple[type, str], ...] = (
    (CheckboxSelectMultiple, ""),
    (RadioSelect, ""),
    (CheckboxInput, "form-check-input"),
    (Select, "form-select"),
    (ClearableFileInput, "form-control"),
)


@register.simple_tag
def field(bound: BoundField, label: str = "", help: str = "", placeholder: str = "") -> SafeString:  # noqa: A002  says what it is
    """A form field with its label, help text and errors, tied together for screen readers."""
    widget = bound.field.widget
    css = next((css for kind, css in _CLASSES if isinstance(widget, kind)), "form-control")
    if bound.errors:
        css += " is-invalid"
    attrs: dict[str, str | bool] = {"class": f"{widget.attrs.get('class', '')} {css}".strip()}
    if placeholder:
        attrs["placeholder"] = placeholder
    if help and not bound.help_text:
        bound.help_text = help
    group = isinstance(widget, (CheckboxSelectMultiple, RadioSelect))
    return _piece(
        "field",
        field=bound,
        widget=bound.as_widget(attrs=attrs) if not group else "",
        label=label or bound.label,
        check=isinstance(widget, CheckboxInput),
        group=group,
        optional=not bound.field.required,
    )


@register.simple_tag
def fields(form: Any) -> SafeString:
    """Every field of a form, its hidden fields and the errors that belong to none."""
    errors = _piece("form_errors", errors=form.non_field_errors())
    hidden = format_html_join("", "{}", ((each,) for each in form.hidden_fields()))
    visible = format_html_join("", "{}", ((field(each),) for each in form.visible_fields()))
    return format_html("{}{}{}", errors, hidden, visible)


# --- Charts drawn on the server ----------------------------------------------------------------------------------------------
@register.simple_tag
def sparkline(values: Sequence[Any] | None, label: str = "Trend", tone: str = "accent", unit: str = "") -> SafeString:
    """A small line over the last values, oldest first; None is a gap. ``tone``: accent, danger, muted."""
    line, area = svg.spark_paths(values or [])
    known = [number for number in map(svg.real, values or []) if number is not None]
    told = f"{label}: no data yet"
    if known:
        told = f"{label}: lowest {words.number(min(known))}, highest {words.number(max(known))}, last {words.number(known[-1])} {unit}".strip()
    return _piece(
        "sparkline", line=line, area=area, told=told, tone=tone, width=svg.SPARK_WIDTH, height=svg.SPARK_HEIGHT
    )


@register.simple_tag
def histogram(  # noqa: PLR0913  each is one thing a reader sees
    reference: Sequence[Any],
    current: Sequence[Any],
    labels: Sequence[Any],
    name: str = "",
    kind: str = "number",
    reference_name: str = "Reference",
    current_name: str = "Now",
) -> SafeString:
    """Two distributions over the same bins. Counts or shares. ``kind``: number (bars over an axis) or category (one row a level)."""
    drawn = svg.bins(reference, current, labels)
    return _piece(
        "histogram",
        bins=drawn,
        name=name or "Distribution",
        kind=kind,
        width=len(drawn) * 10,
        reference_name=reference_name,
        current_name=current_name,
        moved=max(drawn, key=lambda each: abs(each.current - each.reference), default=None),
    )


def _piece(piece: str, **context: Any) -> SafeString:
    return render_to_string(f"ui/_{piece}.html", context)
