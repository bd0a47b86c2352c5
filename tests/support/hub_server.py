"""A web server that speaks the Hugging Face Hub's protocol, and serves plain files, with faults on demand.

/OWNER/NAME/resolve/REVISION/FILE   302 to the CDN, with X-Repo-Commit, X-Linked-ETag and X-Linked-Size
/api/models/OWNER/NAME[/revision/REVISION | /tree/REVISION]
/cdn/SHA256                         the bytes, with ranges; under another host name, as on the real Hub
anything else                       a plain file, with ranges and If-Range
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote


@dataclass
class Faults:
    """What goes wrong from now on. ``cut``: bytes after which a body breaks off, for the next ``cuts`` of them."""

    cut: int = 0
    cuts: int = 0
    pause: float = 0.0  # seconds before each 64 KiB
    status: int = 0  # of every plain file
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    etag: bool = True
    weak: bool = False  # entity tags, which are then the same for all versions of a file
    long: bool = False  # entity tags, of 320 letters
    corrupt: bool = False  # the CDN gives other bytes, as many
    linked: bool = True  # the Hub tells the SHA-256
    tag: str = ""  # the CDN's entity tag, if not of its own making; the Hub shows it too


@dataclass
class Repo:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False


class HubServer:
    """``with HubServer() as server``; ``server.url`` is its address, ``server.log`` the requests so far."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.plain: dict[str, bytes] = {}
        self.faults = Faults()
        self.after_cut: Callable[[], object] = lambda: None
        self.log: list[tuple[str, str, str]] = []  # method, path, Range
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def push(self, repo: str, files: dict[str, bytes], *, ref: str = "main") -> str:
        """Add a commit and let ``ref`` point to it."""
        entry = self.repos.setdefault(repo, Repo())
        commit = hashlib.sha1(b"".join(files.values()) + bytes([len(entry.commits)])).hexdigest()
        entry.commits[commit] = files
        entry.refs[ref] = commit
        return commit

    def gets(self, part: str = "") -> list[str]:
        """The Range headers of the GET requests for paths that contain ``part``."""
        return [ranged for method, path, ranged in self.log if method == "GET" and part in path]


def _handler(server: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, *args: object) -> None:
            pass

        def _answer(self) -> None:
            path = unquote(self.path).lstrip("/")
            server.log.append((self.command, path, self.headers.get("Range", "")))
            with contextlib.suppress(ConnectionError):
                if path.startswith("api/models/"):
                    self._api(path.removeprefix("api/models/"))
                elif "/resolve/" in path:
                    self._resolve(*path.split("/resolve/"))
                elif path.startswith("cdn/"):
                    self._blob(path.removeprefix("cdn/"))
                else:
                    self._plain(path)

        def _find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
            """A commit and its files; None after an error was sent."""
            entry = server.repos.get(repo)
            if entry is None:
                self._send(401, {"X-Error-Code": "RepoNotFound"})
            elif entry.gated:
                self._send(403, {"X-Error-Code": "GatedRepo"})
            elif (commit := entry.refs.get(revision, revision)) not in entry.commits:
                self._send(404, {"X-Error-Code": "RevisionNotFound"})
            else:
                return commit, entry.commits[commit]
            return None

        def _resolve(self, repo: str, rest: str) -> None:
            revision, _, name = rest.partition("/")
            if not (found := self._find(repo, revision)):
                return
            commit, files = found
            if name not in files:
                self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
                return
            digest = hashlib.sha256(files[name]).hexdigest()
            headers = {
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(len(files[name])),
                "Location": f"http://localhost:{server.port}/cdn/{digest}",
            }
            if server.faults.linked:
                headers["X-Linked-ETag"] = f'"{digest}"'
            if server.faults.tag:
                headers["ETag"] = f'"{server.faults.tag}"'
            self._send(302, headers)

        def _api(self, path: str) -> None:
            parts = path.split("/")
            repo, kind, revision = "/".join(parts[:2]), "".join(parts[2:3]), "/".join(parts[3:]) or "main"
            if not (found := self._find(repo, revision)):
                return
            commit, files = found
            listing = [{"type": "file", "path": name, "size": len(data)} for name, data in files.items()]
            info = {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            body = json.dumps(listing if kind == "tree" else info).encode()
            self._send(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

        def _blob(self, digest: str) -> None:
            files = (
                data
                for repo in server.repos.values()
                for commit in repo.commits.values()
                for data in commit.values()
            )
            data = next((data for data in files if hashlib.sha256(data).hexdigest() == digest), None)
            if data is None:
                self._send(404, {})
            else:
                self._file(data[::-1] if server.faults.corrupt else data)

        def _plain(self, path: str) -> None:
            if server.faults.status:
                self._send(server.faults.status, {})
            elif path not in server.plain:
                self._send(404, {})
            else:
                self._file(server.plain[path])

        def _file(self, data: bytes) -> None:
            faults = server.faults
            tag = 'W/"any"' if faults.weak else f'"{hashlib.md5(data).hexdigest() * (10 if faults.long else 1)}"'
            headers = {"ETag": tag} if faults.etag else {}
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0]) if faults.ranges else 0
            if faults.if_range and self.headers.get("If-Range", tag) != tag:
                start = 0
            if start and start >= len(data):
                self._send(416, {**headers, "Content-Range": f"bytes */{len(data)}"})
                return
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            if faults.length:
                headers["Content-Length"] = str(len(data) - start)
            self._send(206 if start else 200, headers, data[start:])

        def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers and not body:
                self.send_header("Content-Length", "0")
            if body and "Content-Length" not in headers:
                self.close_connection = True
            self.end_headers()
            if self.command == "GET" and body:
                self._body(body)

        def _body(self, body: bytes) -> None:
            faults = server.faults
            end = len(body)
            if faults.cuts and faults.cut < end:
                faults.cuts -= 1
                server.after_cut()
                end = faults.cut
                self.close_connection = True
            for begin in range(0, end, 1 << 16):
                time.sleep(faults.pause)
                self.wfile.write(body[begin : min(begin + (1 << 16), end)])
                self.wfile.flush()

    return Handler
