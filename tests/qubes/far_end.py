# SPDX-License-Identifier: Apache-2.0
"""Where a Qubes system would begin, for tests that run all of dom0's part for real: qubesd behind its socket, and qrexec with a vault behind that. The vault's service is the
real sev.OwnerExchange with the real sev-owner; what is stood in for is what carries bytes between dom0 and the vault."""
import json
import os
import pathlib
import socketserver
import struct
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]

# As much of qubesadmin as qubes-exchange uses, over the real one's protocol, where that one is not at hand.
QUBESADMIN = r'''
import socket

class _Vm:
    def __init__(self, app, name):
        self.app, self.name, self.features = app, name, _Features(app, name)
    def is_running(self):
        return b"power_state=Running" in self.app.qubesd_call(self.name, "admin.vm.CurrentState")
    def start(self):
        self.app.qubesd_call(self.name, "admin.vm.Start")

class _Features:
    def __init__(self, app, name):
        self.app, self.name = app, name
    def get(self, feature, default=None):
        try:
            return self.app.qubesd_call(self.name, "admin.vm.feature.Get", feature).decode()
        except KeyError:
            return default

class _Domains:
    def __init__(self, app):
        self.app = app
    def __contains__(self, name):
        return name.encode() in [line.split(b" ")[0] for line in self.app.qubesd_call("dom0", "admin.vm.List").splitlines()]
    def __getitem__(self, name):
        return _Vm(self.app, name)

class Qubes:
    def __init__(self):
        self.domains = _Domains(self)
    def qubesd_call(self, dest, method, arg=None):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect("/var/run/qubesd.sock")
            one.sendall(f"{method}+{arg or ''} dom0 name {dest}\0".encode())
            one.shutdown(socket.SHUT_WR)
            answer = one.makefile("rb").read()
        if answer[:2] == b"0\0":
            return answer[2:]
        raise KeyError(arg)
'''

# qrexec-client as carry.py calls it: the request goes to the qube's daemon, the answer is a length, so many bytes, and the service's exit status. As vchan does, it maps shared
# memory of a device and asks the device for something, which no sandbox may forbid.
QREXEC_CLIENT = r'''#!/usr/bin/python3 -I
import errno, fcntl, mmap, os, select, socket, struct, sys
if sys.argv[1:4:2] != ["-d", "-w"] or sys.argv[5:] != ["DEFAULT:QUBESRPC sev.OwnerExchange dom0"]:
    sys.exit(125)
device = os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC)
ring = mmap.mmap(device, 4096)
try:
    fcntl.ioctl(device, 0x00044502, b"\0" * 4)  # of /dev/xen/evtchn
except OSError as error:
    if error.errno != errno.ENOTTY:
        raise
with socket.socket(socket.AF_UNIX) as pipe:
    pipe.connect("/run/qubes/qrexec." + sys.argv[2])
    pipe.sendall(sys.stdin.buffer.read())
    pipe.shutdown(socket.SHUT_WR)
    select.select([pipe, device], [], [])
    answer = pipe.makefile("rb")
    length, = struct.unpack("<I", answer.read(4))
    sys.stdout.buffer.write(answer.read(length))
    sys.stdout.buffer.flush()
    status = answer.read(1)[0]
    if status == 3:  # a qube whose complaint is not for terminals
        sys.stderr.buffer.write(b"\x1b]0;gone\x07\x1b[2J\xe2\x80\xaenice\n" * 999)
    sys.exit(status)
'''


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path, handler):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).unlink(missing_ok=True)
        super().__init__(str(path), handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class Qubesd(_Server):
    """Answers what qubes-exchange asks: `features` are {(qube, feature): value}, `running` the qubes that run. `calls` are all that came."""

    def __init__(self, path, names=("work", "sev-vault")):
        self.names, self.features, self.running, self.calls = names, {}, set(names), []
        super().__init__(path, self.Call)

    class Call(socketserver.StreamRequestHandler):
        def handle(self):
            header = self.rfile.read().split(b"\0", 1)[0].decode()
            call, _, _, dest = header.split(" ")
            method, _, argument = call.partition("+")
            self.server.calls.append((method, argument, dest))
            self.wfile.write(self.server.answer(method, argument, dest))

    def answer(self, method, argument, dest):
        if method == "admin.vm.List":
            return b"0\0" + "".join(f"{name} class=AppVM state={'Running' if name in self.running else 'Halted'}\n" for name in self.names).encode()
        if method == "admin.vm.CurrentState":
            return f"0\0power_state={'Running' if dest in self.running else 'Halted'} mem=1 mem_static_max=1 cputime=1".encode()
        if method == "admin.vm.Start":
            self.running.add(dest)
            return b"0\0"
        if method.startswith("admin.vm.feature.") and (dest, argument) in self.features:
            return b"0\0" + self.features[dest, argument].encode()
        if method.startswith("admin.vm.feature."):
            return f"2\0QubesFeatureNotFoundError\0\0Feature not set for domain %s: %s\0{dest}\0{argument}\0".encode()
        return f"2\0QubesException\0\0not in the stand-in: {method}\0".encode()


class Vault(_Server):
    """A qube's end of qrexec: each connection is one run of the service, as qrexec-agent runs it. `programs` is where sev-owner is. While `hold` is clear, answers are kept back.
    `asked` are the formats of the requests that came."""

    def __init__(self, path, programs="/usr/bin", environment=None):
        self.hold, self.asked = threading.Event(), []
        self.hold.set()
        self.environment = {"QREXEC_REMOTE_DOMAIN": "dom0", **(environment or {})}
        self.service = (ROOT / "libxl-hooks/qubes/vm/sev.OwnerExchange").read_text()
        if str(programs) != "/usr/bin":
            assert self.service.count("PATH=/usr/bin:/bin") == 1
            self.service = self.service.replace("PATH=/usr/bin:/bin", f"PATH={programs}:/usr/bin:/bin")
        super().__init__(path, self.Step)

    def configured_in(self, folder):
        """The service looks for owner.json here, and not in /usr/local/etc/xen-sev."""
        assert self.service.count("in /usr/local/etc/xen-sev /etc/xen-sev;") == 1
        self.service = self.service.replace("in /usr/local/etc/xen-sev /etc/xen-sev;", f"in {folder};")

    class Step(socketserver.StreamRequestHandler):
        def handle(self):
            request = self.rfile.read()
            self.server.asked.append(json.loads(request)["format"])
            answer, status = self.server.answer(request)
            self.server.hold.wait(120)
            try:
                self.wfile.write(struct.pack("<I", len(answer)) + answer + bytes([status]))
            except (BrokenPipeError, ConnectionResetError):
                pass  # whoever asked has given up

    def answer(self, request):
        """What the service writes, and its exit status; another may answer otherwise."""
        done = subprocess.run(["/bin/sh", "-c", self.service, "sev.OwnerExchange"], input=request, capture_output=True, check=False, timeout=120, env=dict(self.environment, PATH=os.defpath))
        if done.returncode:
            print(done.stderr.decode(errors="replace"), file=sys.stderr, flush=True)
        return done.stdout, done.returncode
