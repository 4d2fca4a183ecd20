"""Real stores on this machine for tests: S3 (moto), Cloud Storage (an emulator), and a proxy.

The proxy stands before either and spoils what a test asks it to.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "tests"
Fault = str | int | tuple[int, list[tuple[str, str]], bytes] | None
_DROPPED = ("transfer-encoding", "connection", "content-length", "date", "server")


@dataclass
class Request:
    """What a client asked for: ``number`` counts the requests of this kind of thing."""

    method: str
    path: str
    number: int
    signed: bool
    region: str = ""  # for which S3's signature is

    @property
    def is_listing(self) -> bool:
        return self.method == "GET" and ("list-type" in self.path or "/o?" in self.path)

    @property
    def is_content(self) -> bool:
        """Of a file, not of a listing or description."""
        media = "alt=media" in self.path or "/download/" in self.path
        return self.method == "GET" and not self.is_listing and (media or "/b/" not in self.path)


@dataclass
class Proxy:
    """Hands requests on to ``upstream``; ``fault(request)`` names what goes wrong, or nothing.

    ``500`` and other numbers: that answer; with headers and a body: ``(400, [], b"")``.
    ``reset``: the connection ends without an answer.
    ``slow``: the answer comes after ``delay`` seconds. ``truncated``: half of the body.
    ``stale``: a listing as it was when it was asked for the first time.
    """

    upstream: str
    fault: Callable[[Request], Fault] = lambda request: None
    delay: float = 0.0
    latency: float = 0.0
    requests: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    listings: dict[str, tuple] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


def _region(authorization: str) -> str:
    found = re.search(r"Credential=[^/]+/\d+/([^/]+)/s3/", authorization)
    return found.group(1) if found else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _handle(self) -> None:
        body = self._body()
        proxy = self.proxy
        with proxy.lock:
            signed = "Authorization" in self.headers
            region = _region(self.headers.get("Authorization", ""))
            request = Request(self.command, self.path, len(proxy.requests), signed, region)
            proxy.requests.append(request)
            proxy.in_flight += 1
            proxy.most_in_flight = max(proxy.most_in_flight, proxy.in_flight)
            fault = proxy.fault(request)
            if fault:
                proxy.faults.append(str(fault))
        try:
            time.sleep(proxy.latency)
            self._answer(request, body, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with proxy.lock:
                proxy.in_flight -= 1

    def _answer(self, request: Request, body: bytes, fault: Fault) -> None:
        if fault == "reset":
            self.close_connection = True
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            return
        if isinstance(fault, int):
            self._send(fault, [], b"")
            return
        if isinstance(fault, tuple):
            self._send(*fault)
            return
        if fault == "slow":
            time.sleep(self.proxy.delay)
        status, headers, answer = self._ask(body)
        if request.is_listing:
            first = self.proxy.listings.setdefault(self.path, (status, headers, answer))
            if fault == "stale":
                status, headers, answer = first
        self._send(status, headers, answer, len(answer) // 2 if fault == "truncated" else None)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        target = urllib.parse.urlsplit(self.proxy.upstream)
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
        headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        kept = [(k, v) for k, v in response.getheaders() if k.lower() not in _DROPPED]
        if self.command == "HEAD":
            kept.append(("Content-Length", response.getheader("Content-Length") or "0"))
        connection.close()
        return response.status, kept, answer

    def _send(
        self, status: int, headers: list[tuple[str, str]], answer: bytes, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer[:cut])
        if cut is not None:
            self.close_connection = True
        self.wfile.flush()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = _handle


@contextmanager
def proxy_to(upstream: str) -> Iterator[Proxy]:
    """A proxy before a server, on a port of its own."""
    proxy = Proxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server with an empty bucket ``tests``; yields its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/{BUCKET}", method="PUT"), timeout=30)
    try:
        yield address
    finally:
        server.stop()


@contextmanager
def gcs_server() -> Iterator[str]:
    """A Cloud Storage server with an empty bucket ``tests``; yields its address."""
    from gcp_storage_emulator.server import create_server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    port = server._api._httpd.server_address[1]
    server._api._httpd.handle_error = lambda *_: None  # clients that go away are not news
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def environment(kind: str, address: str) -> dict[str, str]:
    """What makes clients, in this and in other processes, go to an address."""
    if kind == "gs":
        return {"STORAGE_EMULATOR_HOST": address}
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def forget_stores() -> None:
    """Lets this process open its connections to stores anew, as the environment now says."""
    import fsspec

    from records import stores

    stores._filesystem.cache_clear()
    # Read when gcsfs is first imported, which is here; see records.stores.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for kind in ("s3", "gs"):
        fsspec.get_filesystem_class(kind).clear_instance_cache()


@contextmanager
def reached_by(kind: str, address: str) -> Iterator[None]:
    """This process and those that it starts reach ``kind`` of store at an address."""
    values = environment(kind, address)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    forget_stores()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        forget_stores()
