"""The only HTTP client for other people's servers: git forges, LFS stores, webhooks.

https only. A name is looked up once, every address it has must be a public one, and the connection goes to a checked address, so that
a name which changes its mind afterwards (DNS rebinding) changes nothing. No redirects, no cookies, no proxy, no environment; replies
and time are bounded. ``SLIPWAY_OUTBOUND_ALLOW`` names exceptions for self-hosted servers: ``host:port`` or an address range.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json as json_module
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from django.conf import settings

from mlops.core import errors

TIMEOUT_S = 20.0
REPLY_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
_TRIES = 3
_TRY_AGAIN = (502, 503, 504)
_SAFE = ("GET", "HEAD")
_BACKOFF_S = 0.3
_CONNECT_S = 10.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA special-purpose registries (RFC 6890 and successors); 168.63.129.16 is the host of every Azure machine.
_NOT_PUBLIC_4 = [
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
    )
]  # fmt: skip
_PUBLIC_6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.ip_network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!-~]*)?"
)
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class OutboundError(errors.SlipwayError):
    """Another server could not be asked, or answered what cannot be used."""

    code, status = "outbound_failed", 502
    hint = "Check the address, and that this server may be reached from here; then try again."


@dataclass(frozen=True)
class Target:
    """A URL whose host was looked up: ``addresses`` are checked, and the only ones to connect to."""

    url: str
    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[Address, ...]

    @property
    def literal(self) -> bool:
        """The URL names an address, not a name."""
        return _literal(self.host) is not None


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body. Raises OutboundError when it is not JSON."""
        try:
            return json_module.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise OutboundError("The other server's answer is not JSON.", code="outbound_bad_reply") from error


# --- Where we may go ------------------------------------------------------------------------------------------------------


def split(url: str) -> Target:
    """The parts of a URL, without looking anything up. Raises Invalid: ``url_invalid``, ``https_only``."""
    found = _URL.fullmatch(url) if len(url) <= 4000 else None
    if found is None:
        raise refused_url(
            "The address is not a plain https URL.", "It looks like https://host/path: no user, no odd characters."
        )
    host = found["host"].lower()
    port = int(found["port"] or (443 if found["scheme"] == "https" else 80))
    if not 0 < port < 65536 or not _host_is_plain(host):
        raise refused_url(
            "The host or port in the address is not valid.", "It looks like https://git.example.com/path."
        )
    literal = _literal(host)
    target = Target(url, found["scheme"], host, port, found["path"] or "/", (literal,) if literal is not None else ())
    if target.scheme != "https" and not _is_allowed(target):
        raise errors.Invalid(
            "The address begins with http://; only https is used.",
            code="https_only",
            hint="Write https://, or ask the administrator to add the server to SLIPWAY_OUTBOUND_ALLOW.",
        )
    return target


def check(url: str) -> Target:
    """Split and look up. Raises what ``split`` does, Invalid ``address_refused``, OutboundError ``host_unknown``."""
    target = split(url)
    if not target.addresses:
        target = replace(target, addresses=tuple(dict.fromkeys(_look_up(target.host, target.port))))
    if not _is_allowed(target):
        _check_public(target)
    return target


def refused_url(detail: str, hint: str) -> errors.Invalid:
    return errors.Invalid(detail, code="url_invalid", hint=hint)


def _host_is_plain(host: str) -> bool:
    """A dotted name whose last part is no number (an old way to write an address), or an address in its usual form."""
    if _literal(host) is not None:
        return True
    labels = host.split(".")
    return all(re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", label) for label in labels) and bool(
        _NAME.fullmatch(labels[-1]) and not re.fullmatch(r"0x[0-9a-f]*", labels[-1])
    )


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _look_up(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundError(
            f"There is no server named {host}.", code="host_unknown", hint="Check the address."
        ) from error
    return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]


def _is_allowed(target: Target) -> bool:
    """The administrator has named it: the server itself, or a range that all its addresses are in."""
    if f"{target.host}:{target.port}" in settings.OUTBOUND_ALLOW:
        return True
    ranges = [_network(each) for each in settings.OUTBOUND_ALLOW if "/" in each]
    plain = [_plain(each) for each in target.addresses]
    return bool(plain) and all(any(each.version == net.version and each in net for net in ranges) for each in plain)


@cache
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _check_public(target: Target) -> None:
    """One bad address among good ones refuses all: whoever answers so is up to something."""
    if not target.addresses or not all(is_public(each) for each in target.addresses):
        raise errors.Invalid(
            f"{target.host} is at an address that is not on the public internet.",
            code="address_refused",
            hint="For a server of your own the administrator adds host:port to SLIPWAY_OUTBOUND_ALLOW.",
        )
    if target.port != 443 and target.port < 1024:
        raise errors.Invalid(
            f"Port {target.port} is not used for https.", code="address_refused", hint="Use 443, or one from 1024 on."
        )


def _plain(address: Address) -> Address:
    """The IPv4 address within a mapped or NAT64 one, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could reach it: not private, loopback, link-local, shared, multicast, or a metadata service."""
    plain = _plain(address)
    if isinstance(plain, ipaddress.IPv4Address):
        return not any(plain in network for network in _NOT_PUBLIC_4)
    return plain in _PUBLIC_6 and not any(plain in network for network in _NOT_PUBLIC_6)


# --- Asking ---------------------------------------------------------------------------------------------------------------


def call(  # noqa: PLR0913  a call, part by part
    method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None, body: bytes | None = None,
    timeout_s: float = TIMEOUT_S, limit_bytes: int = REPLY_BYTES, safe: bool | None = None, cut: bool = False,
) -> Reply:  # fmt: skip
    """One call, whatever its status. ``timeout_s`` is for all of it. Safe ones (GET; ``safe`` says so of others) are tried up to three
    times when the server cannot be reached or says 502, 503 or 504. ``cut``: of a body beyond the limit the beginning is enough.
    Raises Invalid (where we may not go) and OutboundError.
    """
    target = check(url)
    if json is not None:
        body = json_module.dumps(json, separators=(",", ":")).encode()
    sent = {"Content-Type": "application/json", **(headers or {})} if json is not None else dict(headers or {})
    tries = _TRIES if (method in _SAFE if safe is None else safe) else 1
    until = time.monotonic() + timeout_s
    for left in range(tries - 1, -1, -1):
        try:
            with _answer(target, method, sent, body, until) as answer:
                reply = Reply(
                    answer.status, _headers(answer), b"".join(_chunks(target, answer, limit_bytes, until, cut=cut))
                )
        except OutboundError as error:
            if not left or error.code not in _PASSING:
                raise
        else:
            if not left or reply.status not in _TRY_AGAIN:
                return reply
        pause = random.uniform(0.5, 1.5) * _BACKOFF_S * 2 ** (tries - 1 - left)  # noqa: S311  jitter
        if time.monotonic() + pause >= until:
            raise OutboundError(f"{target.host} did not answer in time.", code="outbound_timeout")
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


_PASSING = ("unreachable", "outbound_timeout", "outbound_broken")


@contextlib.contextmanager
def stream(
    url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float, limit_bytes: int
) -> Iterator[Iterator[bytes]]:
    """GET a large body in chunks; it is not tried again. Raises what ``call`` raises, and OutboundError for any status but 200."""
    target, until = check(url), time.monotonic() + timeout_s
    with _answer(target, "GET", dict(headers or {}), None, until) as answer:
        if answer.status != 200:
            raise OutboundError(f"{target.host} answered {answer.status}, not the file.", code="outbound_refused")
        yield _chunks(target, answer, limit_bytes, until)


def _headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.getheaders()}


@contextlib.contextmanager
def _answer(
    target: Target, method: str, headers: dict[str, str], body: bytes | None, until: float
) -> Iterator[http.client.HTTPResponse]:
    """The head of an answer. A watch closes the socket at ``until``: no server keeps us with a byte now and then."""
    with _troubles(target):
        sock = _connect(target, until)
    watch = threading.Timer(max(0.0, until - time.monotonic()), _shut, (sock,))
    watch.daemon = True
    watch.start()
    try:
        with _troubles(target, until):
            connection = http.client.HTTPConnection(target.host.strip("[]"), target.port)
            connection.sock = sock
            connection.request(method, target.path, body=body, headers=_sent(target, headers))
            answer = connection.getresponse()
        if 300 <= answer.status < 400 and answer.status != 304:
            raise OutboundError(
                f"{target.host} sends us elsewhere ({answer.status}).", code="outbound_redirect", hint="Redirects are not followed: use the address it points to."
            )  # fmt: skip
        yield answer
    finally:
        watch.cancel()
        sock.close()


def _sent(target: Target, headers: dict[str, str]) -> dict[str, str]:
    usual = 443 if target.scheme == "https" else 80
    host = target.host if target.port == usual else f"{target.host}:{target.port}"
    return {"User-Agent": f"Slipway/{settings.VERSION}", "Accept": "*/*", **headers, "Host": host, "Connection": "close", "Accept-Encoding": "identity"}  # fmt: skip


def _connect(target: Target, until: float) -> socket.socket:
    """To the first checked address that takes the connection."""
    trouble: OSError | None = None
    for address in target.addresses:
        left_s = min(_CONNECT_S, until - time.monotonic())
        if left_s <= 0:
            raise TimeoutError
        try:
            sock = socket.create_connection((str(address), target.port), timeout=left_s)
        except OSError as error:
            trouble = error
            continue
        if target.scheme == "http":
            return sock
        try:
            return _tls().wrap_socket(sock, server_hostname=target.host.strip("[]"))
        except BaseException:
            sock.close()
            raise
    raise trouble or TimeoutError


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _chunks(
    target: Target, answer: http.client.HTTPResponse, limit_bytes: int, until: float, *, cut: bool = False
) -> Iterator[bytes]:
    """The body. Raises OutboundError beyond the limit (``cut``: ends there), after the time, and when it breaks off."""
    size = 0
    while True:
        with _troubles(target, until):
            chunk = answer.read1(CHUNK_BYTES)
        if not chunk:
            break
        size += len(chunk)
        if size > limit_bytes and cut:
            yield chunk[: limit_bytes - size]
            return
        if size > limit_bytes:
            raise OutboundError(f"{target.host} answered more than {limit_bytes:,} bytes.", code="outbound_too_large")
        yield chunk
    if time.monotonic() >= until:
        raise OutboundError(f"{target.host} did not answer in time.", code="outbound_timeout")
    if answer.length:
        raise OutboundError(f"The answer of {target.host} broke off.", code="outbound_broken")


@contextlib.contextmanager
def _troubles(target: Target, until: float | None = None) -> Iterator[None]:
    """Sockets' and parsers' errors, named."""
    try:
        yield
    except errors.SlipwayError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise OutboundError(
            f"{target.host} shows a certificate that is not good: {error.verify_message}.", code="tls_failed"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, TimeoutError) or (until is not None and time.monotonic() >= until):
            raise OutboundError(f"{target.host} did not answer in time.", code="outbound_timeout") from error
        if isinstance(error, ssl.SSLError):
            raise OutboundError(f"{target.host} does not speak https as we know it.", code="tls_failed") from error
        if isinstance(error, http.client.IncompleteRead | http.client.HTTPException | ValueError):
            raise OutboundError(f"{target.host} broke off, or does not speak HTTP.", code="outbound_broken") from error
        raise OutboundError(f"{target.host} cannot be reached.", code="unreachable") from error
