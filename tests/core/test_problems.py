"""Errors at the edge: a page, a toast or problem+json, never a stack trace."""

from __future__ import annotations

import pytest
from django.db import OperationalError, connection
from django.test import Client, RequestFactory

from mlops.core import errors, problems


@pytest.mark.django_db
def test_a_missing_page_is_a_page_and_a_missing_api_path_is_a_problem(world) -> None:
    page = world.client("dan").get("/acme/nothing/here/")
    assert (page.status_code, b"There is nothing at this address" in page.content) == (404, True)
    api = Client().get("/api/v1/nothing/here/at/all")
    assert (api.status_code, api["Content-Type"], api.json()["code"]) == (404, "application/problem+json", "not_found")
    assert api.json()["request_id"] == api["X-Request-Id"]


@pytest.mark.django_db
def test_a_crash_shows_a_request_id_and_no_trace(world, monkeypatch) -> None:
    client = world.client("dan")
    client.raise_request_exception = False
    monkeypatch.setattr("mlops.overview.models_page", lambda *args, **kwargs: 1 / 0)
    page = client.get("/acme/")
    assert page.status_code == 500
    assert page["X-Request-Id"] in page.content.decode()
    assert b"Traceback" not in page.content
    assert b"ZeroDivisionError" not in page.content


def test_the_crash_page_needs_no_database(monkeypatch) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(connection, "cursor", away)
    request = RequestFactory().get("/acme/")
    request.request_id = "abc-12345"
    answer = problems.handler500(request)
    assert (answer.status_code, b"abc-12345" in answer.content) == (500, True)


def test_an_htmx_request_gets_a_toast() -> None:
    request = RequestFactory().get("/acme/")
    request.htmx = True
    answer = problems.page(errors.RateLimited("Too many.", retry_after_s=2.2), request)
    assert (answer.status_code, answer["Retry-After"], answer["HX-Reswap"]) == (429, "3", "none")
    assert '"message": "Too many."' in answer["HX-Trigger"]


def test_errors_of_a_list_s_items_are_sentences() -> None:
    from rest_framework import serializers

    class Keys(serializers.Serializer):
        scopes = serializers.ListField(child=serializers.ChoiceField(["read", "write"]))

    form = Keys(data={"scopes": ["read", "root"]})
    with pytest.raises(serializers.ValidationError) as refused:
        form.is_valid(raise_exception=True)
    problem = problems.from_exception(refused.value)
    assert problem is not None
    assert problem.fields == {"scopes": ['item 1: "root" is not a valid choice.']}


@pytest.mark.django_db
def test_a_form_without_its_token_is_refused_with_the_way_out(world) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.dan, backend="allauth.account.auth_backends.AuthenticationBackend")
    page = client.post("/acme/sample/")
    assert page.status_code == 403
    assert b"Reload the page and send the form again" in page.content
