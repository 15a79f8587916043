"""A simple package index (PEP 503) on loopback, with tiny wheels made here: what the tests of dependency sets install from."""

from __future__ import annotations

import base64
import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import unquote


def wheel(name: str, version: str, *, files: dict[str, str] | None = None, needs: tuple[str, ...] = (), scripts: str = "", tag: str = "py3-none-any") -> tuple[str, bytes]:  # fmt: skip
    """(file name, bytes) of a wheel that holds one module of its own name, or ``files`` (member name -> text)."""
    module = name.replace("-", "_")
    members = files if files is not None else {f"{module}/__init__.py": f"__version__ = {version!r}\n"}
    info = f"{module}-{version}.dist-info"
    required = "".join(f"Requires-Dist: {need}\n" for need in needs)
    members = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if scripts:
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in members.items())
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
    return f"{module}-{version}-{tag}.whl", packed.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class PackageIndex:
    """``add`` files, then ``url``. ``asked`` are the paths that came, in order; ``links`` may point a file somewhere else."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.links: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                status, kind, body = index.answer(unquote(self.path))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    def add(self, name: str, version: str, **how: object) -> None:
        filename, content = wheel(name, version, **how)
        self.add_file(name, filename, content)

    def add_file(self, name: str, filename: str, content: bytes) -> None:
        self.files.setdefault(name, {})[filename] = content

    def answer(self, path: str) -> tuple[int, str, bytes]:
        parts = [part for part in path.split("/") if part]
        if parts[:1] == ["simple"] and len(parts) == 2 and (parts[1] in self.files or parts[1] in self.links):
            links = "".join(
                f'<a href="/files/{parts[1]}/{name}#sha256={hashlib.sha256(content).hexdigest()}">{name}</a>\n'
                for name, content in self.files.get(parts[1], {}).items()
            )
            links += "".join(f'<a href="{url}">{name}</a>\n' for name, url in self.links.get(parts[1], {}).items())
            return 200, "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
        if parts[:1] == ["files"] and len(parts) == 3 and parts[2] in self.files.get(parts[1], {}):
            return 200, "application/octet-stream", self.files[parts[1]][parts[2]]
        return 404, "text/plain", b"not here"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
