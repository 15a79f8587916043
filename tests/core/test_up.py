"""``manage.py up``: what its parts are told."""

from __future__ import annotations

import os

import pytest

from mlops.management.commands.up import own_address


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:8477"), ("0.0.0.0", "http://127.0.0.1:8477")]
)
def test_links_lead_to_the_port_that_was_chosen(monkeypatch, host, address) -> None:
    monkeypatch.delenv("SLIPWAY_URL", raising=False)
    own_address(host, 8477)
    assert os.environ["SLIPWAY_URL"] == address


def test_an_address_that_the_operator_gave_stays(monkeypatch) -> None:
    monkeypatch.setenv("SLIPWAY_URL", "https://ml.example.com")
    own_address("127.0.0.1", 8477)
    assert os.environ["SLIPWAY_URL"] == "https://ml.example.com"
