# SPDX-License-Identifier: Apache-2.0
"""One emulated platform with virtee's sevctl and ours on it, and a stand-in for AMD's key server, whose address virtee's has built in: a proxy on the loopback, with a
certificate of a test CA (HTTPS_PROXY and SSL_CERT_FILE, which it honours)."""
import http.server
import json
import os
import socketserver
import ssl
import subprocess
import sys
import threading

HOST = "kdsintf.amd.com"


class KeyServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A proxy that itself is whatever server it is asked to connect to, and has one CEK."""
    daemon_threads = True

    def __init__(self, folder, chip_id, cek):
        self.seen, self.path, self.cek = [], f"/cek/id/{chip_id}".lower(), cek

        def openssl(*words):
            subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *new_key, "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem")
        (folder / "extensions").write_text(f"subjectAltName=DNS:{HOST}\n")
        openssl("req", *new_key, "-subj", f"/CN={HOST}", "-keyout", "server.key", "-out", "server.csr")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions", "-out", "server.pem")
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.ca = folder / "ca.pem"
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.close_connection = False
        self.handle_one_request()
        self.wfile.flush()

    def do_GET(self):
        self.server.seen.append(self.path)
        found = self.path.lower() == self.server.path
        self.send_response(200 if found else 404)
        body = self.server.cek if found else b"none"
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


class PresentDevice:
    """The chip behind a /dev/sev that is there, by what its maker says of it: the files cek, ca and identity.json of a folder."""

    def __init__(self, folder, out):
        self.cek, self.ca, self.root = folder / "cek", folder / "ca", out / "root"
        self.identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
        self.root.write_text(self.identity["root"] + "\n", encoding="utf-8")


class Bench:
    """One platform, and the two programs on it."""

    def __init__(self, folder, args, their_program):
        from support import EmulatedDevice  # reads which programs are meant from the environment
        self.folder, self.args, self.their_program = folder, args, their_program
        present = getattr(args, "device", None)
        self.device = PresentDevice(present, folder) if present else EmulatedDevice(folder / "device")
        self.through = [] if present or args.cuse else [args.emulator, "run", "--socket", self.device.socket, "--"]
        (folder / "tls").mkdir()
        self.server = KeyServer(folder / "tls", self.device.identity["chip_id"], self.device.cek.read_bytes())
        self.environment = {**os.environ, "HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home"), "HTTPS_PROXY": f"http://127.0.0.1:{self.server.server_address[1]}",
                            "SSL_CERT_FILE": str(self.server.ca), "no_proxy": "", "NO_PROXY": ""}
        self.environment.pop("SEV_CHAIN", None)
        self.steps = 0

    def run(self, program, words, status):
        done = subprocess.run([*self.through, program, *map(str, words)], capture_output=True, timeout=120, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, check=False)
        # anyhow's main gives 1 for every failure, ours 1 for "no" and 2 for trouble
        if (done.returncode == 0) != (status == 0):
            sys.exit(f"{program} {' '.join(map(str, words))}: exit status {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
        self.steps += 1
        return done

    def theirs(self, *words, status=0):
        return self.run(self.their_program, words, status)

    def ours(self, *words, status=0):
        return self.run(self.args.sevctl, words, status)

    def content(self, name):
        return (self.folder / name).read_bytes()

    def same(self, what, left, right):
        if left != right:
            sys.exit(f"{what} differ:\n{left!r}\n{right!r}")
        self.steps += 1
