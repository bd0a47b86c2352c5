"""An S3 server on loopback (moto's) that turns requests away first, as one does that is asked too much."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BUSY = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Throttle:
    """Answers the first ``times`` requests for each object 503, or 500 and 503 in turn."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app, self._lock = app, threading.Lock()
        self.times = 0
        self.refused: Counter[tuple[str, str]] = Counter()
        self.puts: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        request = environ["REQUEST_METHOD"], environ["PATH_INFO"] + "?" + environ.get("QUERY_STRING", "")
        with self._lock:
            self.refused[request] += 1
            turn = self.refused[request]
        if turn <= self.times:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status = "503 Slow Down" if turn % 2 else "500 Internal Server Error"
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(BUSY)))])
            return [BUSY]
        if request[0] in ("PUT", "POST"):
            self.puts.append(request[1])
        return self._app(environ, start_response)


@contextmanager
def s3_server() -> Iterator[tuple[Throttle, str]]:
    """The throttle, and the options of a URL for the server, which has no buckets yet."""
    from moto.backends import get_backend
    from moto.server import create_backend_app
    from werkzeug.serving import make_server

    # moto keeps what it stores for the process: another test's buckets would be listed too.
    for account in get_backend("s3").values():
        for backend in account.values():
            backend.reset()
    throttle = Throttle(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, throttle, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield throttle, f"?endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
    finally:
        server.shutdown()
