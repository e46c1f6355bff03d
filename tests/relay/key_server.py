# SPDX-License-Identifier: Apache-2.0
"""A key server as AMD's are, on the loopback: certificates by chip id and product over HTTPS, and every way in which one may fail.

Its certificate comes from a test CA that `openssl` makes when the tests run; nothing outside Python's standard library is used.
"""
import email.utils
import hashlib
import http.server
import pathlib
import ssl
import subprocess
import threading
import time

CERTIFICATE = 2084  # bytes of a SEV certificate


class Chain:
    """A full export: PDH, PEK, OCA, CEK, ASK, ARK."""

    def __init__(self, path, product):
        data = pathlib.Path(path).read_bytes()
        self.product = product
        self.cek, self.ca = data[3 * CERTIFICATE : 4 * CERTIFICATE], data[4 * CERTIFICATE :]
        ark = self.ca[len(self.ca) // 2 :]
        signed = 0x40 + 2 * int.from_bytes(ark[0x3C:0x40], "little") // 8
        self.fingerprint = hashlib.sha256(ark[:signed]).hexdigest()
        self.key = hashlib.sha256(self.cek[:0x414]).hexdigest()

    @property
    def root(self):
        return f"test {self.product}:{self.product}:{self.fingerprint}"


def make_certificates(folder):
    """ca.pem; server.pem for localhost; stranger.pem, which no known CA has signed; other.pem for another host."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name, host in (("server", "localhost"), ("other", "elsewhere.invalid")):
        (folder / "extensions").write_text(f"subjectAltName=DNS:{host}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={host}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions", "-out", f"{name}.pem")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", "stranger.key", "-out", "stranger.pem")


class KeyServer:
    """Answers each path as the test says: `answers[path]` is a function (handler) or bytes; `script[path]` a list that is used up first."""

    def __init__(self, folder, certificate="server", tls=None):
        server = self
        self.requests, self.answers, self.script, self.lock = [], {}, {}, threading.Lock()
        self.stopping = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with server.lock:
                    server.requests.append(self.path)
                    waiting = server.script.get(self.path)
                    answer = waiting.pop(0) if waiting else server.answers.get(self.path, status(404))
                self.close_connection = True
                if callable(answer):
                    answer(self, server)
                else:
                    send(self, 200, answer)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that hangs up is what many of these tests are about

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
        if tls:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = tls
        self.http = Server(("127.0.0.1", 0), Handler)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def url(self, path):
        return f"https://localhost:{self.port}{path}"

    def close(self):
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()


def send(handler, code, body, headers=()):
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def status(code, headers=(), body=b"no\n"):
    return lambda handler, _: send(handler, code, body, headers)


def retry_after_seconds(code, seconds):
    return status(code, [("Retry-After", str(seconds))])


def retry_after_date(code, seconds):
    return lambda handler, _: send(handler, code, b"", [("Retry-After", email.utils.formatdate(time.time() + seconds, usegmt=True))])


def never(_, server):
    server.stopping.wait(60)


def slow(body, seconds):
    def answer(handler, server):
        server.stopping.wait(seconds)
        send(handler, 200, body)

    return answer


def dripping(body):
    """One byte at a time, for ever slower than any deadline of a test."""

    def answer(handler, server):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for at in range(len(body)):
            if server.stopping.wait(0.2):
                return
            handler.wfile.write(body[at : at + 1])
            handler.wfile.flush()

    return answer


def cut_short(body):
    """Promises more than it sends."""

    def answer(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])

    return answer


def endless(handler, server):
    """A body without a length and without an end."""
    handler.send_response(200)
    handler.end_headers()
    while not server.stopping.is_set():
        handler.wfile.write(b"\x01" * 65536)


def many_headers(handler, _):
    handler.send_response(200)
    for i in range(2000):
        handler.send_header(f"X-{i}", "x" * 100)
    handler.end_headers()


def hang_up(handler, _):
    handler.connection.close()
