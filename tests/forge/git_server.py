"""A small git server on loopback: ``git http-backend`` behind Python's HTTP server, and the Git LFS batch API beside it.

Real pushes by the git binary go in, real fetches go out. Its manners can be made bad: another protocol, a redirect, tampered objects.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.forge.github import PREFIX, GitHub

HTTP_BACKEND = Path(subprocess.check_output(["git", "--exec-path"], text=True).strip()) / "git-http-backend"
LFS_JSON = "application/vnd.git-lfs+json"


class Forge:
    """``forge.url``; ``forge.asked`` is every path with its method and headers, in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.token = ""  # when set, every call needs it as the password
        self.public = False  # with a token: who comes without one is let in all the same
        self.old_protocol = False  # only what is advertised may be fetched
        self.dumb = False  # files only, as from a plain web server: no smart protocol
        self.redirect = ""  # where every call is sent
        self.objects: dict[str, bytes] = {}  # Git LFS
        self.tampered: dict[str, bytes] = {}  # what is handed out instead
        self.href = ""  # where objects are said to be; default: here
        self.github = GitHub()  # its REST API
        forge = self

        class Handler(_Handler):
            pass

        Handler.forge = forge
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.place = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.place}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Forge:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def lets_in(self, authorization: str | None) -> bool:
        """The token does, and those of GitHub's Apps. A public repository is open to nobody in particular, but not to a wrong token."""
        if authorization is None and self.public:
            return True
        good = [basic(each) for each in (self.token, *self.github.tokens)]
        return not (self.token or self.public) or authorization in good

    def repository(self, name: str = "acme/churn") -> Repository:
        return Repository(self, name)


def git(*words: str, cwd: Path, stdin: bytes | None = None) -> str:
    environment = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C",
        "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@acme.test", "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@acme.test",
    }  # fmt: skip
    done = subprocess.run(
        ["git", *words], cwd=cwd, env=environment, input=stdin, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, (words, done.stderr.decode())
    return done.stdout.decode().strip()


class Repository:
    """A repository on the forge, and a clone of it to work in."""

    def __init__(self, forge: Forge, name: str) -> None:
        self.forge, self.name = forge, name
        self.bare = forge.root / f"{name}.git"
        self.work = forge.root / "work" / name
        self.url = f"{forge.url}/{name}.git"
        self.bare.mkdir(parents=True)
        self.work.mkdir(parents=True)
        git("init", "-q", "--bare", "-b", "main", cwd=self.bare)
        git("config", "http.receivepack", "true", cwd=self.bare)
        git("init", "-q", "-b", "main", cwd=self.work)

    def commit(
        self, files: dict[str, bytes | str], message: str = "A model", *, branch: str = "main", push: bool = True
    ) -> str:
        """Write the files on top of what the branch has (it is made when new), commit, push. Returns the sha."""
        if git("branch", "--list", branch, cwd=self.work):
            git("checkout", "-q", branch, cwd=self.work)
        elif git("branch", "--list", cwd=self.work):
            git("checkout", "-q", "-b", branch, cwd=self.work)
        else:
            git("checkout", "-q", "-B", branch, cwd=self.work)
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        git("add", "-A", cwd=self.work)
        return self._commit(message, branch, push)

    def amend(self, message: str, *, branch: str = "main") -> str:
        """Another commit in the place of the last one, force-pushed."""
        git("commit", "-q", "--amend", "-m", message, cwd=self.work)
        self.push(branch)
        return self.head()

    def commit_index(self, *entries: str, branch: str = "main") -> str:
        """Commit what lines of ``git update-index --index-info`` say: modes and names that no file system would take."""
        git("update-index", "--index-info", cwd=self.work, stdin="".join(f"{each}\n" for each in entries).encode())
        return self._commit("Odd", branch, push=True)

    def commit_tree(self, raw: bytes, *, branch: str = "main") -> str:
        """Commit a tree written byte by byte."""
        tree = git("hash-object", "-t", "tree", "--literally", "-w", "--stdin", cwd=self.work, stdin=raw)
        sha = git("commit-tree", "-m", "Raw", tree, cwd=self.work)
        git("push", "-q", "-f", self.url, f"{sha}:refs/heads/{branch}", cwd=self.work)
        return sha

    def blob(self, content: bytes) -> str:
        return git("hash-object", "-w", "--stdin", cwd=self.work, stdin=content)

    def _commit(self, message: str, branch: str, push: bool) -> str:
        git("commit", "-q", "--allow-empty", "-m", message, cwd=self.work)
        if push:
            self.push(branch)
        return self.head()

    def push(self, branch: str = "main") -> None:
        header = ["-c", f"http.extraHeader=Authorization: {basic(self.forge.token)}"] if self.forge.token else []
        git(*header, "push", "-q", "-f", self.url, f"HEAD:refs/heads/{branch}", cwd=self.work)

    def head(self) -> str:
        return git("rev-parse", "HEAD", cwd=self.work)

    def delete(self, branch: str) -> None:
        git("push", "-q", self.url, f":refs/heads/{branch}", cwd=self.work)

    def lfs(self, content: bytes) -> str:
        """Keep the content in Git LFS; the text of its pointer."""
        oid = hashlib.sha256(content).hexdigest()
        self.forge.objects[oid] = content
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    forge: Forge

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        forge, body = self.forge, self._body()
        forge.asked.append((self.command, self.path, dict(self.headers)))
        if self.path.startswith(PREFIX):
            status, said, headers = forge.github.answer(self.command, self.path, self.headers, body)
            headers = {"Content-Type": "application/json; charset=utf-8", **headers}
            return self._answer(status, json.dumps(said).encode(), headers)
        if forge.redirect:
            return self._answer(302, b"", {"Location": forge.redirect + self.path})
        path = urlsplit(self.path).path
        if path.startswith("/objects/"):
            return self._object(path.rsplit("/", 1)[1])
        if not forge.lets_in(self.headers.get("Authorization")):
            return self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="forge"'})
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        return self._git(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(found)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    # -- Git LFS ---------------------------------------------------------------------------------------------------

    def _batch(self, asked: dict[str, Any]) -> None:
        forge, objects = self.forge, []
        for each in asked["objects"]:
            found: dict[str, Any] = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] in forge.objects:
                href = f"{forge.href or forge.url}/objects/{each['oid']}"
                found["actions"] = {
                    "download": {"href": href, "header": {"X-Pass": "of-one-object", "Host": "elsewhere"}}
                }
            else:
                found["error"] = {"code": 404, "message": "Object does not exist"}
            objects.append(found)
        said = json.dumps({"transfer": "basic", "objects": objects}).encode()
        self._answer(200, said, {"Content-Type": LFS_JSON})

    def _object(self, oid: str) -> None:
        content = self.forge.tampered.get(oid, self.forge.objects.get(oid))
        if content is None or self.headers.get("X-Pass") != "of-one-object":
            return self._answer(404, b"")
        return self._answer(200, content)

    # -- git -------------------------------------------------------------------------------------------------------

    def _git(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.forge.root), "GIT_HTTP_EXPORT_ALL": "1", "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.forge.root), "PATH_INFO": parts.path, "QUERY_STRING": parts.query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }  # fmt: skip
        if self.forge.dumb:
            environment["QUERY_STRING"] = ""
        if not self.forge.old_protocol:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run([HTTP_BACKEND], input=body, env=environment, capture_output=True, timeout=60, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self._answer(int(headers.pop("Status", "200").split()[0]), content, headers)


@contextlib.contextmanager
def running(root: Path) -> Iterator[Forge]:
    with Forge(root) as forge:
        yield forge
