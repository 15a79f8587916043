"""What happens at the same moment on two machines: only PostgreSQL lets two transactions go on at once; SQLite does one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from mlops.core import storage
from registry import pushing
from registry.metadata import Metadata
from registry.models import ModelVersion, PushStatus, Source, SourcePush
from registry.packing import FileToPack
from registry.services import pushes, sources
from registry.services.push import push_tree
from tests.world import World

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """Each in a thread of its own: what it returned, or raised."""
    found: list[Any] = [None] * len(deeds)

    def run(place: int) -> None:
        try:
            found[place] = deeds[place]()
        except Exception as error:  # noqa: BLE001  judged by the test
            found[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(deeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def pushed(world: World, branch: str, **fields: Any) -> SourcePush:
    source = Source.objects.first()
    if source is None:
        known = {"kind": "generic", "clone_url": "https://git.example.com/a/b", "model": "churn"}
        source, _ = sources.connect(world.acme, world.caller("alice"), **known)
    return SourcePush.objects.create(
        organization=world.acme, source=source, sha="1" * 40, ref=f"refs/heads/{branch}", branch=branch, production=branch == "main", **fields
    )  # fmt: skip


def test_disconnecting_while_a_push_goes_live_blocks_neither(monkeypatch: Any) -> None:
    world = World()
    push = pushed(world, "main", status="deploying")
    source = push.source
    held, disconnecting = threading.Event(), threading.Event()
    real = pushes.close_all

    def close_all(row: Source) -> None:
        real(row)
        disconnecting.set()

    monkeypatch.setattr(pushes, "close_all", close_all)

    def go_live() -> bool:
        with transaction.atomic():
            Source.objects.select_for_update().get(pk=source.pk)
            held.set()
            disconnecting.wait(1)  # where it waits for us it does not come
            return pushes.move(push, PushStatus.LIVE)

    def disconnect() -> None:
        held.wait(30)
        sources.disconnect(Source.objects.get(pk=source.pk), world.caller("alice"))

    assert at_once(go_live, disconnect) == [True, None]
    assert not Source.objects.exists()


def test_one_commit_of_two_branches_becomes_one_version_of_a_new_model() -> None:
    world, together = World(), threading.Barrier(2)

    def make(push: SourcePush) -> Any:
        def files() -> Iterator[FileToPack]:
            together.wait(30)
            yield "notes.txt", 1, iter([b"x"])

        metadata = Metadata(claims=pushes.claims(push))
        check = partial(pushing._refuse_known, push)
        return push_tree(
            world.acme, world.caller("alice"), model="churn", files=files(), metadata=metadata, check=check
        )

    made = at_once(*(partial(make, pushed(world, branch)) for branch in ("main", "release")))
    version = ModelVersion.objects.get()
    assert version.model.last_number == 1
    assert sorted(type(each).__name__ for each in made) == ["_Known", "tuple"], made
    assert storage.sha256_of(version.file_key) == version.sha256
