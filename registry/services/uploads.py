"""Uploads that go on where they were: begin, append, look, discard, and be used by a push, once.

Bytes are told as received only when they are durable. One call writes at a time: it holds the row's lock by compare-and-set and renews it
while bytes come; a lock that was not renewed for ``LOCK`` is anybody's, and its late holder writes nothing more.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest

from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors, hashing, partial, storage
from mlops.core.partial import Progress, Writer
from mlops.core.storage import CHUNK_BYTES
from registry.models import Blob, Upload
from registry.services import blobs, quotas
from registry.uploads import PARTS, SpooledFile, file_of, part_of, safe_name, too_large

LOCK = timedelta(seconds=20)
RENEW_S = 5.0
Source = Callable[[int], bytes]  # at most so many bytes; empty at the end, also at an end that came too early


@dataclass(frozen=True)
class Checksum:
    """What the client says the bytes of one call hash to."""

    algorithm: str
    digest: bytes


def begin(organization: Organization, caller: Caller, *, purpose: str, filename: str, length: int) -> Upload:
    """Room for one file. Raises Invalid (name, empty), BadRequest (purpose), TooLarge (limit, quota), StorageFull, NotReady."""
    part = part_of(PARTS, purpose, filename)
    if length == 0:
        raise errors.Invalid(
            f"{part.title} is empty (0 bytes).",
            code="empty_file",
            hint="Save it again and push the whole file.",
            fields={purpose: ["The file is empty (0 bytes)."]},
        )
    if length > part.limit_bytes:
        raise too_large(part.title, part.limit_bytes)
    upload = Upload(
        organization=organization,
        purpose=purpose,
        filename=safe_name(filename),
        length=length,
        created_by=caller.person,
        expires_at=_expiry(),
        hash_state=hashing.Sha256().state() if hashing.AVAILABLE else "",
    )
    upload.key = f"organizations/{organization.pk}/uploads/{upload.pk}"
    with blobs.alone(organization.pk):
        quotas.require_room(organization, length)
        upload.save(force_insert=True)
    try:
        upload.parts = partial.begin(upload.key, length).as_json()
        upload.save(update_fields=["parts"])
    except BaseException:
        upload.delete()
        raise
    return upload


def _expiry() -> datetime:
    return clock.now() + settings.UPLOAD_KEEP


def append(upload: Upload, source: Source, *, offset: int, size: int | None, checksum: Checksum | None = None) -> bool:
    """Receive bytes from ``offset`` on; ``upload`` then tells how many are safe. False: the connection broke before the end.

    ``size``: how many the client announced; None: until they end. Raises Conflict (wrong offset, somebody else writes), TooLarge,
    Gone; with a checksum ChecksumMismatch, and nothing of a call that was wrong or broke off is kept.
    """
    require_open(upload)
    rest = upload.length - offset
    with _locked(upload, offset) as lock, partial.writing(upload.key, _progress(upload)) as writer:
        if size is not None and size > rest:
            raise _too_long(upload)
        call = _Call(lock, writer, checksum)
        wanted = rest if size is None else size
        got = call.receive(source, wanted)
        if size is None and got == rest and source(1):
            raise _too_long(upload)
        broke = size is not None and got < size
        if checksum is not None and (broke or call.digest() != checksum.digest):
            _undo(upload)
            if broke:
                return False
            raise ChecksumMismatch
        if got:
            call.save(writer.settle(last=True))
        if upload.whole:
            _complete(upload, lock)
    return not broke


class ChecksumMismatch(errors.SlipwayError):
    """tus' own status for bytes that are not what the client says it sent."""

    code, status = "checksum_mismatch", 460
    hint = "They were changed on the way. Nothing of this call was kept: send it again."

    def __init__(self) -> None:
        super().__init__("The bytes do not have the checksum that came with them.")


class Gone(errors.SlipwayError):
    code, status = "upload_expired", 410
    hint = "Begin a new upload."


def require_open(upload: Upload) -> None:
    if upload.used_at is not None:
        raise Gone("This upload was used by a push.", code="upload_used", hint="Begin a new upload for another push.")
    if upload.expired:
        raise Gone("This upload was not finished in time.")


def _discarded() -> Gone:
    return Gone("This upload was discarded.", code="upload_discarded")


def _too_long(upload: Upload) -> errors.TooLarge:
    return errors.TooLarge(
        f"These bytes go beyond the {upload.length:,} that were announced.",
        code="over_length",
        hint="Begin a new upload with the right Upload-Length.",
    )


class _Call:
    """The bytes of one call on their way to the writer."""

    def __init__(self, lock: _Lock, writer: Writer, checksum: Checksum | None) -> None:
        self._lock, self._writer, self._held_back = lock, writer, checksum is not None
        state = lock.upload.hash_state
        self._whole = hashing.Sha256(state) if state and hashing.AVAILABLE else None
        self._own = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None

    def receive(self, source: Source, wanted: int) -> int:
        """Until ``wanted`` bytes came, or no more do. Returns how many."""
        got = 0
        while got < wanted:
            chunk = source(min(CHUNK_BYTES, self._writer.left, wanted - got))
            if not chunk:
                break
            self._lock.renew()
            self._writer.write(chunk)
            for digest in (self._whole, self._own):
                if digest is not None:
                    digest.update(chunk)
            got += len(chunk)
            if self._writer.left == 0:
                progress = self._writer.settle(last=False)
                if not self._held_back:
                    self.save(progress)
        return got

    def digest(self) -> bytes:
        return self._own.digest() if self._own is not None else b""

    def save(self, progress: Progress) -> None:
        self._lock.save(
            offset=progress.offset,
            parts=progress.as_json(),
            hash_state=self._whole.state() if self._whole is not None else "",
            expires_at=_expiry(),
        )


class _Lock:
    """The right to write to one upload."""

    def __init__(self, upload: Upload, mine: uuid.UUID) -> None:
        self.upload, self._mine, self._renewed = upload, mine, time.monotonic()

    def renew(self) -> None:
        """Before each write. Raises Conflict when somebody else has taken over."""
        if time.monotonic() - self._renewed > RENEW_S:
            self.save()

    def save(self, **changes: object) -> None:
        found = Upload.objects.filter(pk=self.upload.pk, lock=self._mine, used_at=None)
        if not found.update(locked_at=clock.now(), **changes):
            raise _busy()
        self._renewed = time.monotonic()
        for name, value in changes.items():
            setattr(self.upload, name, value)

    def free(self) -> None:
        Upload.objects.filter(pk=self.upload.pk, lock=self._mine).update(lock=None)


@contextmanager
def _locked(upload: Upload, offset: int) -> Iterator[_Lock]:
    """``upload`` as it is now, and this call's alone. Raises Conflict (another offset), Busy."""
    mine, now = uuid.uuid4(), clock.now()
    free = Q(lock=None) | Q(locked_at__lt=now - LOCK)
    taken = Upload.objects.filter(free, pk=upload.pk, offset=offset, used_at=None).update(lock=mine, locked_at=now)
    found = Upload.objects.filter(pk=upload.pk).first()
    if found is None:
        raise _discarded()
    for name in ("offset", "parts", "hash_state", "used_at", "expires_at", "sha256"):
        setattr(upload, name, getattr(found, name))
    if not taken:
        require_open(upload)
        if upload.offset != offset:
            raise errors.Conflict(
                f"{upload.offset:,} bytes have arrived, this call begins at {offset:,}.",
                code="wrong_offset",
                hint="Ask with HEAD for the Upload-Offset and go on from there.",
                headers={"Upload-Offset": str(upload.offset)},
            )
        raise _busy()
    lock = _Lock(upload, mine)
    try:
        yield lock
    finally:
        lock.free()


def _busy() -> errors.Conflict:
    return errors.Conflict(
        "Another call writes to this upload.",
        code="upload_busy",
        status=423,
        hint="Only one at a time can. If its connection is dead, this one can go on in some seconds.",
        retry_after_s=2,
    )


def _progress(upload: Upload) -> Progress:
    return Progress(offset=upload.offset, **upload.parts)


def _undo(upload: Upload) -> None:
    """What a held-back call wrote to a disk goes; on S3 its parts are replaced by the next ones."""
    with partial.writing(upload.key, _progress(upload)):
        pass


def _complete(upload: Upload, lock: _Lock) -> None:
    """All bytes are here: one file, and its hash."""
    progress = partial.end(upload.key, _progress(upload), upload.length)
    known = upload.hash_state and hashing.AVAILABLE
    sha256 = hashing.Sha256(upload.hash_state).hexdigest() if known else storage.sha256_of(upload.key)
    lock.save(parts=progress.as_json(), sha256=sha256)


def discard(upload: Upload) -> None:
    """Nothing of it stays. Raises Busy while bytes come, Gone when a push has used it."""
    _require_unused(upload)
    with _locked(upload, upload.offset):
        remove(upload)


def _require_unused(upload: Upload) -> None:
    if upload.used_at is not None:
        require_open(upload)


def remove(upload: Upload) -> None:
    """Its bytes, then its row: a server that dies in between leaves a row, which the sweeper finds. A content's bytes stay."""
    if not Blob.objects.filter(key=upload.key).exists():
        partial.drop(upload.key, _progress(upload))
    Upload.objects.filter(pk=upload.pk).delete()


# -- used by a push -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WholeUpload:
    """A finished upload as a file of a push. On a disk its bytes get a second name; on S3 they stay where they are."""

    upload: Upload

    @property
    def name(self) -> str:
        return self.upload.filename

    @property
    def sha256(self) -> str:
        return self.upload.sha256

    @property
    def size_bytes(self) -> int:
        return self.upload.length

    @property
    def reserved_bytes(self) -> int:
        return self.upload.length

    @property
    def home(self) -> str:
        return self.upload.key if storage.local(self.upload.key) is None else ""

    def head(self, count: int) -> bytes:
        return storage.head(self.upload.key, count)

    def put(self, key: str) -> None:
        storage.duplicate(self.upload.key, key)

    def take(self) -> None:
        """In the push's transaction: nobody else can use it. Raises Gone."""
        if not Upload.objects.filter(pk=self.upload.pk, used_at=None).update(used_at=clock.now()):
            found = Upload.objects.filter(pk=self.upload.pk).first()
            if found is None:
                raise _discarded()
            require_open(found)
        transaction.on_commit(self._let_go, robust=True)

    def _let_go(self) -> None:
        if not Blob.objects.filter(key=self.upload.key).exists():
            storage.delete(self.upload.key)


FIELDS = {"file": "upload", "sample": "sample_upload", "reference": "reference_upload"}


def chosen(organization: Organization, request: HttpRequest, part: str) -> SpooledFile | WholeUpload | None:
    """What a push brought for a file field: the file itself, the id of a finished upload in its place, or nothing.

    Raises Invalid, Gone, Conflict (not finished), each at its field.
    """
    file, given = file_of(request, part), request.POST.get(FIELDS[part], "").strip()
    if not given:
        return file
    if file is not None:
        raise errors.Invalid(
            f"{PARTS[part].title} came twice: as a file and as an upload.",
            code="duplicate_field",
            hint=f"Send {part} or {FIELDS[part]}.",
        )
    try:
        return whole(organization, given, part)
    except errors.SlipwayError as error:
        error.fields = {part: [f"{error.detail} {error.hint}"]}
        raise


def whole(organization: Organization, upload_id: str, purpose: str) -> WholeUpload:
    """The finished upload of that id (or address), for that file field. Raises Invalid, Gone, Conflict (not finished)."""
    try:
        upload = Upload.objects.get(pk=uuid.UUID(upload_id.rstrip("/").rpartition("/")[2]), organization=organization)
    except (ValueError, Upload.DoesNotExist) as error:
        raise errors.Invalid(
            f"There is no upload {upload_id[:80]!r} here.",
            code="unknown_upload",
            hint="Give the id that began it, or begin a new one.",
        ) from error
    require_open(upload)
    if upload.purpose != purpose:
        raise errors.Invalid(
            f"This upload is a {upload.get_purpose_display().lower()}, not what this field takes.",
            code="wrong_purpose",
            hint=f'Begin it with the purpose "{purpose}" in Upload-Metadata.',
        )
    if not upload.whole:
        raise errors.Conflict(
            f"{upload.offset:,} of {upload.length:,} bytes of {upload.filename} have arrived.",
            code="upload_unfinished",
            hint="Send the rest first.",
        )
    if not upload.sha256:  # the server died before it could say so
        with _locked(upload, upload.offset) as lock:
            _complete(upload, lock)
    return WholeUpload(upload)
