"""The spool: what was written is read back whole, damage costs only itself, a dead writer's segment can be finished."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from serving import spool
from tests.runner_host import wait_until


@pytest.fixture
def writer(tmp_path: Path):
    made = spool.Writer(tmp_path / "spool", 1 << 30)
    yield made
    made.close()


def _frame(number: int, size: int = 10) -> bytes:
    return spool.frame({"n": number}, b"q" * size, b"a" * size)


def _content(folder: Path) -> bytes:
    (path,) = spool.segments(folder)
    return path.read_bytes()


def _numbers(reading: spool.Reading) -> list[int]:
    return [record.header["n"] for record in reading.records]


def test_records_come_back_in_order_with_both_bodies(writer: spool.Writer) -> None:
    for number in range(3):
        assert writer.append(spool.frame({"n": number}, b"asked", b"answered"), owner=1)
    data = _content(writer.folder)
    reading = spool.read(data, 0, final=False, max_records=100)
    assert _numbers(reading) == [0, 1, 2]
    assert (reading.records[0].request, reading.records[0].response) == (b"asked", b"answered")
    assert (reading.offset, reading.damaged_bytes) == (len(data), 0)


def test_reading_goes_on_at_its_offset(writer: spool.Writer) -> None:
    for number in range(5):
        writer.append(_frame(number), owner=1)
    data = _content(writer.folder)
    first = spool.read(data, 0, final=False, max_records=2)
    rest = spool.read(data[first.offset :], first.offset, final=False, max_records=100)
    assert _numbers(first) + _numbers(rest) == [0, 1, 2, 3, 4]
    assert rest.offset == len(data)


@pytest.mark.parametrize("cut", [1, 4, 11, 12, 13, 25])
def test_a_torn_tail_waits_for_a_living_writer_and_counts_as_damaged_after_a_dead_one(cut: int) -> None:
    whole, torn = _frame(1), _frame(2)[:cut]
    alive = spool.read(whole + torn, 0, final=False, max_records=100)
    dead = spool.read(whole + torn, 0, final=True, max_records=100)
    assert (_numbers(alive), alive.offset, alive.damaged_bytes) == ([1], len(whole), 0)
    assert (_numbers(dead), dead.offset, dead.damaged_bytes) == ([1], len(whole) + cut, cut)


def test_damage_in_the_middle_costs_only_the_damaged_record() -> None:
    frames = [_frame(number) for number in range(3)]
    broken = bytearray(b"".join(frames))
    broken[len(frames[0]) + 20] ^= 0xFF
    reading = spool.read(bytes(broken), 0, final=True, max_records=100)
    assert _numbers(reading) == [0, 2]
    assert reading.damaged_bytes == len(frames[1])


def test_a_body_that_contains_the_magic_is_not_taken_for_a_frame() -> None:
    frames = [spool.frame({"n": 0}, spool.MAGIC * 5, b""), _frame(1)]
    broken = bytearray(b"".join(frames))
    broken[5] ^= 0x01  # the length of the first frame
    reading = spool.read(bytes(broken), 0, final=True, max_records=100)
    assert _numbers(reading) == [1]


def test_threads_share_one_segment_without_mixing_their_records(writer: spool.Writer) -> None:
    def write(start: int) -> None:
        for number in range(start, start + 50):
            writer.append(_frame(number, size=200), owner=1)

    threads = [threading.Thread(target=write, args=(start * 50,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading = spool.read(_content(writer.folder), 0, final=True, max_records=1_000)
    assert sorted(_numbers(reading)) == list(range(400))
    assert reading.damaged_bytes == 0


def test_a_segment_is_rotated_by_size(writer: spool.Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "ROTATE_BYTES", 100)
    for number in range(4):
        writer.append(_frame(number, size=60), owner=1)
    assert len(spool.segments(writer.folder)) == 4


def test_a_living_writer_holds_its_segment_and_a_closed_one_gives_it_up(writer: spool.Writer) -> None:
    writer.append(_frame(1), owner=1)
    (path,) = spool.segments(writer.folder)
    with spool.opened(path) as (_, gone):
        assert not gone
    writer.close()
    with spool.opened(path) as (_, gone):
        assert gone


def test_a_forked_child_writes_a_segment_of_its_own_and_leaves_the_parents_lock_alone(writer: spool.Writer) -> None:
    writer.append(_frame(1), owner=1)

    def child() -> None:
        writer.append(_frame(2), owner=1)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    assert len(spool.segments(writer.folder)) == 2
    with spool.opened(spool.segments(writer.folder)[0]) as (_, gone):
        assert not gone
    with spool.opened(spool.segments(writer.folder)[1]) as (_, gone):
        assert gone


def test_a_full_spool_drops_and_counts_and_tells_when_there_is_room_again(
    writer: spool.Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writer.append(_frame(1), owner=7)
    monkeypatch.setattr(spool, "_ROOM_CHECK_S", -1.0)
    writer.limit_bytes = 1
    assert not writer.append(_frame(2), owner=7)
    assert not writer.append(_frame(3), owner=8)
    assert writer.dropped == {7: 1, 8: 1}
    writer.limit_bytes = 1 << 30
    assert writer.append(_frame(4), owner=7)
    reading = spool.read(_content(writer.folder), 0, final=True, max_records=100)
    assert [record.header.get("drops") or record.header["n"] for record in reading.records] == [1, {"7": 1, "8": 1}, 4]
    assert writer.dropped == {}


def test_a_full_disk_takes_the_torn_frame_back(writer: spool.Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.append(_frame(1), owner=1)
    real = os.write

    def short(fd: int, data: bytes) -> int:
        return real(fd, data[:7])

    monkeypatch.setattr(os, "write", short)
    assert not writer.append(_frame(2), owner=1)
    monkeypatch.setattr(os, "write", real)
    assert writer.append(_frame(3), owner=1)
    reading = spool.read(_content(writer.folder), 0, final=True, max_records=100)
    assert [record.header.get("n") for record in reading.records] == [1, None, 3]
    assert reading.damaged_bytes == 0


def test_a_spool_that_cannot_be_written_drops(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    writer = spool.Writer(tmp_path / "file" / "spool", 1 << 30)
    assert not writer.append(_frame(1), owner=1)
    assert writer.dropped == {1: 1}


def test_a_write_error_is_a_drop_not_a_crash(writer: spool.Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer.append(_frame(1), owner=1)
    monkeypatch.setattr(os, "write", full)
    assert not writer.append(_frame(2), owner=1)


def test_the_folders_name_is_made_once(tmp_path: Path) -> None:
    assert spool.spool_id(tmp_path) == spool.spool_id(tmp_path)
    assert spool.spool_id(tmp_path) != spool.spool_id(tmp_path / "other")


# --- To the disk ------------------------------------------------------------------------------------------------------------------
class Syncs:
    """Counts what is brought to the disk; ``held``: until told, it takes long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.folders = 0
        self.go_on = threading.Event()
        self.go_on.set()
        real, real_folder = os.fdatasync, spool._folder_to_disk

        def synchronise(fd: int) -> None:
            size = os.fstat(fd).st_size
            self.go_on.wait(20)
            real(fd)
            self.sizes.append(size)

        def folder(path: Path) -> None:
            real_folder(path)
            self.folders += 1

        monkeypatch.setattr(spool.os, "fdatasync", synchronise)
        monkeypatch.setattr(spool, "_folder_to_disk", folder)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    return Syncs(monkeypatch)


def test_what_is_written_is_on_the_disk_soon_and_a_quiet_writer_leaves_it_alone(writer, syncs) -> None:
    assert spool.SYNC_S <= 0.5  # a second is promised; one synchronisation may be under way, and its own takes time
    writer.append(_frame(1), owner=1)
    wait_until(lambda: syncs.sizes[-1:] == [len(_frame(1))], 5)
    writer.append(_frame(2), owner=1)
    wait_until(lambda: syncs.sizes[-1:] == [2 * len(_frame(1))], 5)
    assert syncs.folders == 1  # the segment's name, once
    quiet = len(syncs.sizes)
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 3 * spool.SYNC_S, 5)
    assert len(syncs.sizes) == quiet


def test_writers_do_not_wait_for_a_slow_disk(writer, syncs) -> None:
    syncs.go_on.clear()
    for number in range(10, 60):
        assert writer.append(_frame(number), owner=1)
    assert syncs.sizes == []
    assert len(_content(writer.folder)) == 50 * len(_frame(10))
    syncs.go_on.set()
    wait_until(lambda: syncs.sizes[-1:] == [50 * len(_frame(10))], 5)


def test_a_finished_segment_is_brought_to_the_disk_before_it_is_given_up(writer, syncs, monkeypatch) -> None:
    monkeypatch.setattr(spool, "ROTATE_BYTES", 2 * len(_frame(0)))
    syncs.go_on.clear()
    for number in range(5):
        writer.append(_frame(number), owner=1)
    # Not by name: those of one millisecond stand in any order.
    finished = [path for path in spool.segments(writer.folder) if path.stat().st_size == 2 * len(_frame(0))]
    assert len(finished) == 2
    with spool.opened(finished[0]) as (_, gone):
        assert not gone
    syncs.go_on.set()

    def given_up(path: Path) -> bool:
        with spool.opened(path) as (_, gone):
            return gone

    wait_until(lambda: all(map(given_up, finished)), 30)
    assert syncs.sizes.count(2 * len(_frame(0))) >= 2
    writer.close()
    assert all(map(given_up, spool.segments(writer.folder)))


def test_closing_brings_the_rest_to_the_disk_and_ends_the_thread(writer, syncs) -> None:
    others = set(threading.enumerate())
    writer.append(_frame(1), owner=1)
    writer.close()
    assert syncs.sizes[-1] == len(_frame(1))
    assert not [each for each in threading.enumerate() if each.name == "spool-to-disk" and each not in others]
    writer.append(_frame(2), owner=1)  # a new segment, a new thread
    wait_until(lambda: len(spool.segments(writer.folder)) == 2, 5)


def test_a_disk_that_fails_is_told_and_writing_goes_on(writer, monkeypatch) -> None:
    told = []

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(spool.os, "fdatasync", broken)
    monkeypatch.setattr(spool.log, "warning", lambda event, **more: told.append(event))
    writer.append(_frame(1), owner=1)
    wait_until(lambda: told == ["spool_not_on_disk"], 5)
    assert writer.append(_frame(2), owner=1)
