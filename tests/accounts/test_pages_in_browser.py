"""The account pages in a real browser: right on a phone and a desk, light and dark, and what needs a script."""

from __future__ import annotations

import pytest
from django.urls import reverse

from accounts import services
from accounts.models import ApiKey, Membership
from accounts.roles import Role
from tests.browser import SCHEMES, WIDTHS

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

_ORG_PAGES = ("organization_settings", "member_list", "key_list", "audit_list")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_is_right(world, page_at, live_server, width, scheme):
    services.invite(world.acme, world.caller("olga"), email="new@acme.test", role=Role.VIEWER)
    services.create_key(world.acme, world.caller("olga"), name="shop", scopes=["predict"])
    paths = [reverse(name, args=["acme"]) for name in _ORG_PAGES]
    seen = page_at("/healthz", width=width, scheme=scheme, client=world.client("olga"))
    for path in [*paths, reverse("organization_create"), reverse("account_settings")]:
        seen.visit(live_server.url + path)
        assert seen.problems() == [], path
        assert seen.page.locator("h1").count() == 1, path


def test_a_key_is_made_in_the_dialog_and_copied(world, page_at):
    seen = page_at(reverse("key_list", args=["acme"]), client=world.client("dan"))
    seen.page.click('[data-dialog-open="make"]')
    seen.page.fill('dialog[open] [name="name"]', "shop")
    seen.page.click('dialog[open] button[type="submit"]')
    shown = seen.page.locator(".secret-once code")
    shown.wait_for()
    seen.page.click(".secret-once button")
    assert seen.page.evaluate("navigator.clipboard.readText()") == shown.inner_text()
    assert seen.problems() == []
    made = ApiKey.objects.count()
    seen.page.reload()
    assert shown.count() == 0  # shown once, and a reload does not make another one
    assert ApiKey.objects.count() == made


def test_choosing_a_role_saves_it(world, page_at):
    seen = page_at(reverse("member_list", args=["acme"]), client=world.client("olga"))
    seen.page.get_by_label("Role of Dan").select_option("viewer")
    seen.page.get_by_text("Dan is now viewer.").wait_for()
    assert Membership.objects.get(user=world.dan).role == Role.VIEWER
