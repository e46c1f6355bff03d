# SPDX-License-Identifier: Apache-2.0
"""What the tests of sevctl share: running it, fixtures, and the SEV API's formulas written once more, in plain Python.

Nothing here comes from xen-sev's own code, so that agreement means something.
"""
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import time
import unittest
import unittest.mock
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
SEVCTL = os.environ.get("SEVCTL", str(ROOT / "build/dev/bin/sevctl"))
VECTORS = pathlib.Path(os.environ.get("SEV_VECTORS", str(ROOT.parent / "shared/spec/vectors")))
LUKS = "736869e5-84f0-4973-92ec-06879ce3da0b"
OTHER = "f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f"

# sev-emulator's preloaded library comes before a sanitizer's run-time library, which would complain
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"


def sevctl(*arguments, **options):
    """Runs sevctl to its end; stdout and stderr as bytes unless told otherwise."""
    return subprocess.run([SEVCTL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, **options)


def table():
    """The command table, by name."""
    return {command["name"]: command for command in json.loads(sevctl("--print-commands-json").stdout)}


def vector(name):
    """A shared test vector, or None, said aloud."""
    path = VECTORS / name
    if path.exists():
        return path
    print(f"SKIPPED: test vector {path} is absent (set SEV_VECTORS)")
    return None


class Case(unittest.TestCase):
    """A test in a directory of its own."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def file(self, name, content):
        path = self.dir / name
        path.write_bytes(content)
        return path

    def ok(self, *arguments, status=0, **options):
        """Runs sevctl, wants this exit status and nothing that looks like trouble on stderr; returns stdout as text."""
        done = sevctl(*arguments, cwd=self.dir, **options)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stdout.decode()} {done.stderr.decode()}")
        self.assertNotIn(b"sevctl: error:", done.stderr)
        return done.stdout.decode()

    def trouble(self, *arguments, says=(), **options):
        """Runs sevctl, wants exit status 2, an empty stdout and one line of error that says these things; returns the line."""
        done = sevctl(*arguments, cwd=self.dir, **options)
        text = done.stderr.decode()
        self.assertEqual(done.returncode, 2, f"{arguments}: {done.stdout.decode()} {text}")
        self.assertEqual(done.stdout, b"")
        errors = [line for line in text.splitlines() if line.startswith("sevctl: error: ")]
        self.assertEqual(len(errors), 1, text)
        for line in text.splitlines():
            self.assertRegex(line, r"^sevctl: (error|hint|warning|note): ")
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, errors[0])
        return errors[0]


# ---- SEV, once more ------------------------------------------------------------------------------------------------------------------------

def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def kdf(key, label, context=b""):
    return mac(key, struct.pack("<I", 1), label, b"\0", context, struct.pack("<I", 128))[:16]


def expected_measure(tik, major, minor, build, policy, digest, nonce):
    return mac(tik, bytes([4, major, minor, build]), struct.pack("<I", policy), digest, nonce)


def kernel_table(kernel, initrd, cmdline):
    def entry(guid, content):
        return uuid.UUID(guid).bytes_le + struct.pack("<H", 50) + hashlib.sha256(content).digest()

    entries = entry("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", cmdline + b"\0")
    entries += entry("44baf731-3a2f-4bd7-9af1-41e29169781d", initrd) + entry("4de79437-abd2-427f-b835-d5b172d2045b", kernel)
    return uuid.UUID("9438d606-4f22-4cc9-b479-a793d411fd21").bytes_le + struct.pack("<H", 168) + entries + bytes(8)


def secret_table(entries):
    body = b"".join(uuid.UUID(guid).bytes_le + struct.pack("<I", 20 + len(data)) + data for guid, data in entries)
    out = uuid.UUID("1e74f542-71dd-4d66-963e-ef4287ff173b").bytes_le + struct.pack("<I", 20 + len(body)) + body
    return out + bytes(-len(out) % 16)


def _sbox():
    """AES S-box from its definition: inverse in GF(2^8), then the affine map (FIPS 197, 5.1.1)."""
    box, p, q = [0] * 256, 1, 1
    while True:
        p ^= (p << 1) ^ (0x11B if p & 0x80 else 0)
        p &= 0xFF
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        q ^= 0x09 if q & 0x80 else 0
        x = q
        for shift in range(1, 5):
            x ^= ((q << shift) | (q >> (8 - shift))) & 0xFF
        box[p] = x ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return box


SBOX = _sbox()


def aes128(key, block):
    """One block of AES-128 (FIPS 197)."""
    words = [list(key[i:i + 4]) for i in range(0, 16, 4)]
    rcon = 1
    for i in range(4, 44):
        word = list(words[i - 1])
        if i % 4 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = (rcon << 1) ^ (0x11B if rcon & 0x80 else 0)
        words.append([a ^ b for a, b in zip(words[i - 4], word)])

    def add(state, number):
        return [b ^ words[4 * number + i // 4][i % 4] for i, b in enumerate(state)]

    def double(b):
        return ((b << 1) ^ (0x1B if b & 0x80 else 0)) & 0xFF

    state = add(block, 0)
    for number in range(1, 11):
        state = [SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if number < 10:
            mixed = []
            for c in range(0, 16, 4):
                a = state[c:c + 4]
                mixed += [double(a[r]) ^ double(a[(r + 1) % 4]) ^ a[(r + 1) % 4] ^ a[(r + 2) % 4] ^ a[(r + 3) % 4] for r in range(4)]
            state = mixed
        state = add(state, number)
    return bytes(state)


def ctr(key, iv, data):
    counter, out = int.from_bytes(iv, "big"), b""
    for at in range(0, len(data), 16):
        stream = aes128(key, counter.to_bytes(16, "big"))
        out += bytes(a ^ b for a, b in zip(data[at:at + 16], stream))
        counter = (counter + 1) % (1 << 128)
    return out


P = 2**384 - 2**128 - 2**96 + 2**32 - 1
B = 0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
G = (0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
     0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F)


def on_curve(point):
    x, y = point
    return (y * y - x**3 + 3 * x - B) % P == 0


def add(a, b):
    """Sum of two points of P-384; None is infinity."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(scalar, point):
    out = None
    while scalar:
        if scalar & 1:
            out = add(out, point)
        point = add(point, point)
        scalar >>= 1
    return out


def ecdsa_valid(point, digest, r, s):
    if not (0 < r < N and 0 < s < N):
        return False
    w, e = pow(s, -1, N), int.from_bytes(digest, "big")
    found = add(times(e * w % N, G), times(r * w % N, point))
    return found is not None and found[0] % N == r


def le(data):
    return int.from_bytes(data, "little")


def point_of(certificate):
    return le(certificate[0x14:0x5C]), le(certificate[0x5C:0xA4])


def signed_by(certificate, slot, point):
    """Whether the slot (0 or 1) of a SEV certificate holds this P-384 key's ECDSA SHA-256 signature."""
    at = (0x41C, 0x624)[slot]
    return ecdsa_valid(point, hashlib.sha256(certificate[:0x414]).digest(), le(certificate[at:at + 72]), le(certificate[at + 72:at + 144]))


# ---- fixtures ------------------------------------------------------------------------------------------------------------------------------

PSP_ANSWERS = json.loads((FIXTURES / "psp/known_answers.json").read_text())
CHAIN = (FIXTURES / "psp/chain_rsa2048.bin").read_bytes()  # PDH‖PEK‖OCA‖CEK‖ASK‖ARK
ROOT_FINGERPRINT = PSP_ANSWERS["chains"]["rsa2048"]["root_fingerprint"]
TEST_ROOT = f"test root:naples:{ROOT_FINGERPRINT}"
REPORT = (FIXTURES / "psp/report.bin").read_bytes()
FIRMWARE = FIXTURES / "measure/full.fd"


def judged_launch():
    """Policy, bundle, TIK and a time at which the policy is valid, of the launch in tests/fixtures/attest."""
    launch = json.loads((FIXTURES / "attest/answers.json").read_text())["launch"]
    return FIXTURES / "attest/owner-policy.json", FIXTURES / "attest/bundle.json", bytes.fromhex(launch["tik"]), "2026-06-01T00:00:00Z"


def wait_until(condition, failure, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.02)


class EmulatedDevice:
    """A chip of its own and what belongs to it; while it is served, every program that is started gets it as /dev/sev."""

    def __init__(self, folder, personality="epyc-3151"):
        self.emulator = os.environ["SEV_EMULATOR"]
        self.folder = folder
        self.state, self.socket = folder / "psp", folder / "socket"
        folder.mkdir()
        self.run("create", "--state", self.state, "--personality", personality)
        self.cek, self.ca, self.root = folder / "cek", folder / "ca", folder / "root"
        self.run("cek", "--state", self.state, "--out", self.cek)
        self.run("ca", "--state", self.state, "--out", self.ca)
        self.identity = json.loads(self.run("show", "--state", self.state, "--json"))
        self.root.write_text(self.identity["root"] + "\n")
        self.oca, self.oca_key = folder / "oca", folder / "oca.key"
        subprocess.run([SEVCTL, "generate", self.oca, self.oca_key], check=True, capture_output=True, timeout=60)
        self.oca_key.chmod(0o644)  # for tests that read as another user

    def run(self, *words):
        return subprocess.run([self.emulator, *map(str, words)], check=True, capture_output=True, timeout=60).stdout

    @contextlib.contextmanager
    def served(self, *options):
        """Serves it; stops with SIGTERM at the end and wants exit status 0."""
        ours, theirs = os.pipe()
        server = subprocess.Popen([self.emulator, "serve", "--state", self.state, "--socket", self.socket, "--ready-fd", str(theirs), *map(str, options)],
                                  pass_fds=[theirs], stdout=subprocess.DEVNULL)
        os.close(theirs)
        try:
            with os.fdopen(ours, "rb") as ready:
                assert ready.read() == b"READY=1\n", "sev-emulator serve did not become ready"
            yield server
            server.terminate()
            assert server.wait(30) == 0, "sev-emulator serve did not end well"
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()

    @contextlib.contextmanager
    def cuse(self, *options):
        """Makes it the real character device /dev/sev (root, and a kernel with CUSE).

        Stops with SIGTERM at the end and wants exit status 0, and the device gone.
        """
        server = subprocess.Popen([self.emulator, "cuse", "--state", self.state, *map(str, options)], stdout=subprocess.PIPE)
        try:
            assert server.stdout.readline().startswith(b"serving "), "sev-emulator cuse did not begin"
            wait_until(lambda: os.path.exists("/dev/sev"), "/dev/sev did not appear")
            yield server
            if server.poll() is None:
                server.terminate()
                assert server.wait(30) == 0, "sev-emulator cuse did not end well"
            wait_until(lambda: not os.path.exists("/dev/sev"), "/dev/sev did not go away")
        finally:
            if server.poll() is None:
                server.kill()
            server.wait()
            server.stdout.close()

    def environment(self):
        """What sev-emulator run gives a program, for programs started in another way."""
        library = pathlib.Path(self.emulator).parent / "libsev-emulator-preload.so"
        return {"LD_PRELOAD": str(library), "SEV_EMULATOR_SOCKET": str(self.socket)}


@contextlib.contextmanager
def emulated_device(case):
    """For as long as it lasts, sevctl finds an emulated /dev/sev."""
    device = EmulatedDevice(case.dir / "device")
    with device.served(), unittest.mock.patch.dict(os.environ, device.environment()):
        yield device
