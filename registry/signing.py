"""Ed25519 signatures over validated versions and over promotions: in-toto statements in DSSE envelopes, checked before every load.

The private key is made once on this machine (mode 0600). Its public half is kept beside it as ``<key id>.pub``; to rotate, move the
private key away: a new one is made, and what the old one signed still verifies.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.conf import settings

from mlops.core import clock, errors

if TYPE_CHECKING:
    from registry.models import ModelVersion

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:slipway:validated-model:v1"
PROMOTION_TYPE = "urn:slipway:promotion:v1"
_LATER = frozenset(("options_sha256",))  # facts that statements of before do not name: those bind what they name


# -- keys ---------------------------------------------------------------------------------------------------------------
def _private_key() -> Ed25519PrivateKey:
    path: Path = settings.SIGNING_KEY_FILE
    if not path.exists():
        _make_key(path)
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _loaded(path: Path, changed_ns: int) -> Ed25519PrivateKey:
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise errors.NotReady(
            "The signing key is not an Ed25519 key.", code="signing_key_invalid", hint=f"Replace or remove {path}."
        )
    _publish(path.parent, key.public_key())
    return key


def _make_key(path: Path) -> None:
    """Whole or absent, and the first of several processes wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    handle, name = tempfile.mkstemp(dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink(missing_ok=True)


def _publish(folder: Path, key: Ed25519PublicKey) -> None:
    raw = _raw(key)
    target = folder / f"{_key_id(raw)}.pub"
    if not target.exists():  # whole or absent: who reads half a key calls good signatures unknown
        handle, name = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(raw))
        Path(name).replace(target)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _key_id(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def public_keys() -> dict[str, bytes]:
    """Key id -> raw public key (32 bytes): the current one and those of before."""
    _private_key()
    found = {
        path.stem: base64.b64decode(path.read_bytes())
        for path in sorted(settings.SIGNING_KEY_FILE.parent.glob("*.pub"))
    }
    return {key_id: raw for key_id, raw in found.items() if _key_id(raw) == key_id}


def jwks() -> dict[str, Any]:
    """The public keys as a JSON Web Key Set; ``pem`` is the same key as openssl reads it."""

    def url64(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    return {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "alg": "EdDSA",
                "use": "sig",
                "kid": kid,
                "x": url64(raw),
                "pem": _pem(raw),
            }
            for kid, raw in public_keys().items()
        ]
    }


def _pem(raw: bytes) -> str:
    key = Ed25519PublicKey.from_public_bytes(raw)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


# -- statements ---------------------------------------------------------------------------------------------------------
def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: type and payload with their lengths, so that neither can pass for the other."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _schema_sha256(schema: Any) -> str:
    """Of anything that is JSON, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _facts(version: ModelVersion) -> dict[str, Any]:
    """What a signature binds together: the file, which version it is, how it is opened and what it takes."""
    return {
        "model_id": version.model_id,
        "version": version.number,
        "format": version.format,
        "schema_sha256": _schema_sha256(version.schema),
        "accelerated_sha256": version.accelerated_sha256 or None,
        "contents_sha256": _schema_sha256(version.contents) if version.contents else None,
        "environment": f"{version.environment_id}:{version.environment.digest}" if version.environment_id else None,
        "options_sha256": _schema_sha256(version.options) if version.options else None,
    }


def facts_sha256(version: ModelVersion) -> str:
    """Of all that a signature binds, without its time: the same as long as it is the same model, and when there are more facts some day."""
    facts = {"sha256": version.sha256, **_facts(version)}
    return _schema_sha256({name: value for name, value in facts.items() if value is not None})


def sign_version(version: ModelVersion) -> dict[str, Any]:
    """A DSSE envelope that says: this file passed our validation as this version."""
    return _sealed(version, PREDICATE_TYPE, {**_facts(version), "validatedAt": clock.now().isoformat()})


def sign_promotion(version: ModelVersion, predicate: dict[str, Any]) -> dict[str, Any]:
    """A DSSE envelope that says who let this version go on to which stage. The version's own signature must hold."""
    verify_version(version)
    return _sealed(version, PROMOTION_TYPE, {**_identity(version), **predicate})


def _identity(version: ModelVersion) -> dict[str, Any]:
    return {"model_id": version.model_id, "version": version.number, "facts_sha256": facts_sha256(version)}


def _sealed(version: ModelVersion, kind: str, predicate: dict[str, Any]) -> dict[str, Any]:
    key = _private_key()
    subject = [{"name": version.filename, "digest": {"sha256": version.sha256}}]
    payload = orjson.dumps({"_type": STATEMENT_TYPE, "subject": subject, "predicateType": kind, "predicate": predicate})
    signature = key.sign(_pae(payload))
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": _key_id(_raw(key.public_key())), "sig": base64.b64encode(signature).decode()}],
    }


def verify_version(version: ModelVersion) -> dict[str, Any]:
    """The signed statement, when it is ours and speaks of exactly this version. Raises Conflict (``signature_invalid``)."""
    return _about(version, version.signature, PREDICATE_TYPE, _facts(version))


def state_of(version: ModelVersion) -> dict[str, Any] | None:
    """Whether the signature holds now, with which key, and if not why; None for a version that was never signed."""
    if version.signature is None:
        return None
    try:
        verify_version(version)
    except errors.Conflict as error:
        return {"valid": False, "key": None, "detail": error.detail}
    return {"valid": True, "key": version.signature["signatures"][0]["keyid"], "detail": "Checked just now."}


def verify_promotion(version: ModelVersion, envelope: Any) -> dict[str, Any]:
    """The signed statement, when it is ours and promotes exactly this version as it is. Raises Conflict (``signature_invalid``)."""
    return _about(version, envelope, PROMOTION_TYPE, _identity(version))


def _about(version: ModelVersion, envelope: Any, kind: str, facts: dict[str, Any]) -> dict[str, Any]:
    statement = _opened(envelope)
    digests = [subject.get("digest", {}).get("sha256") for subject in statement.get("subject", [])]
    predicate = statement.get("predicate", {})
    wrong = [
        name
        for name, value in facts.items()
        if predicate.get(name) != value and not (name in _LATER and name not in predicate)
    ]
    if statement.get("predicateType") != kind or digests != [version.sha256] or wrong:
        raise _invalid("it belongs to another file, version or schema")
    return statement


def _opened(envelope: Any) -> dict[str, Any]:
    if not isinstance(envelope, dict) or envelope.get("payloadType") != PAYLOAD_TYPE:
        raise _invalid("there is none")
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signed = {item["keyid"]: base64.b64decode(item["sig"], validate=True) for item in envelope["signatures"]}
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid("it is damaged") from error
    known = public_keys()
    for key_id, signature in signed.items():
        if key_id in known:
            try:
                Ed25519PublicKey.from_public_bytes(known[key_id]).verify(signature, _pae(payload))
            except InvalidSignature as error:
                raise _invalid("it does not match") from error
            return orjson.loads(payload)
    raise _invalid("its key is unknown here")


def _invalid(why: str) -> errors.Conflict:
    return errors.Conflict(
        f"The version's signature is not valid: {why}.",
        code="signature_invalid",
        hint="Nothing is loaded that was not validated here. Push the model again; if you moved to a new server, bring its keys folder along.",
    )
