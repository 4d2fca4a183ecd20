"""Google's storage API for TensorFlow's own ``gs://``, which knows no emulator.

TensorFlow asks ``https://www.googleapis.com`` and ``https://storage.googleapis.com``, through the
proxy that ``https_proxy`` names, and believes the certificates in ``CURL_CA_BUNDLE``.  Here is such
a proxy: it opens the encrypted connection itself, with a certificate of its own, and asks the
emulator.  It refuses what is called "forbidden".
"""

from __future__ import annotations

import datetime
import http.client
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOSTS = ("www.googleapis.com", "storage.googleapis.com")


@dataclass
class Google:
    """What TensorFlow needs in its environment, and what it asked for."""

    environment: dict[str, str]
    requests: list[str] = field(default_factory=list)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for Google's hosts that signs itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, HOSTS)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    paths = folder / "google.pem", folder / "google.key"
    paths[0].write_bytes(certificate.public_bytes(encoding))
    paths[1].write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def _emulators_path(host: str, path: str) -> str:
    """The emulator's path for what is asked of a host of Google's."""
    if host == "storage.googleapis.com":
        bucket, _, key = path.lstrip("/").partition("/")
        return f"/download/storage/v1/b/{bucket}/o/{key.replace('/', '%2F')}?alt=media"
    return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    google: Google
    context: ssl.SSLContext
    upstream: str
    host = ""

    def log_message(self, *_: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.host = self.path.split(":")[0]
        if self.host not in HOSTS:
            self.send_error(403)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")
        self.close_connection = False

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "forbidden" in self.path:
            self.send_error(403)
            return
        path = _emulators_path(self.host, self.path)
        self.google.requests.append(f"{self.command} {self.host}{self.path}")
        target = urllib.parse.urlsplit(self.upstream)
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        headers = {"Content-Length": str(len(body))}
        headers |= {k: v for k, v in self.headers.items() if k.lower() in ("range", "content-type")}
        connection.request(self.command, path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() in ("content-type", "content-range"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _hand_on


@contextmanager
def google_as(upstream: str, folder: Path) -> Iterator[Google]:
    """Google's hosts, answered by the emulator at an address."""
    certificate, key = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    google = Google({})
    handler = type(
        "Handler", (_Handler,), {"google": google, "context": context, "upstream": upstream}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients that go away are not news
    google.environment = {
        "https_proxy": f"http://127.0.0.1:{server.server_address[1]}",
        "CURL_CA_BUNDLE": str(certificate),
        "NO_GCE_CHECK": "true",
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
    }
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield google
    finally:
        server.shutdown()
        server.server_close()
