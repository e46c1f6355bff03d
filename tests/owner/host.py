# SPDX-License-Identifier: Apache-2.0
"""A host and its PSP, as far as an owner can tell: requests, and honest measurements in a session, written from the formats with Python's
`cryptography`. It shares no code with
xen-sev, so what it verifies and opens was not made by what is tested."""

import base64
import copy
import hashlib
import hmac
import json
import os
import pathlib
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures"
BUNDLE = json.loads((FIXTURES / "attest/bundle.json").read_text())
ANSWERS = json.loads((FIXTURES / "attest/answers.json").read_text())
PDH_SCALAR = int(json.loads((FIXTURES / "psp/known_answers.json").read_text())["pdh"]["scalar_be"], 16)


def unb64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def ctr(key, iv, data):
    stream = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return stream.update(data) + stream.finalize()


def kdf(key, label, context=b""):
    return mac(key, struct.pack("<I", 1), label, b"\0", context, struct.pack("<I", 128))[:16]


def policy():
    """The fixture's policy, valid whenever the tests run."""
    value = json.loads((FIXTURES / "attest/owner-policy.json").read_text())
    value["validity"] = {"not_before": "2020-01-01T00:00:00Z", "not_after": "2099-12-31T23:59:59Z"}
    return value


def session_request(launch="vault", policy_name="web", platform=None):
    return json.dumps(
        {
            "format": "xen-sev/session-request",
            "version": 1,
            "nonce": os.urandom(16).hex(),
            "launch_name": launch,
            "policy": policy_name,
            "platform": platform or BUNDLE["platform"],
        }
    ).encode()


def judgement_request(evidence):
    return json.dumps({"format": "xen-sev/judgement-request", "version": 1, "nonce": os.urandom(16).hex(), "launch": evidence}).encode()


def open_jws(jws, jwk, kind):
    """The payload of a compact JWS, after its signature was verified."""
    head, body, signature = jws.split(".")
    header = json.loads(unb64url(head))
    assert header == {"alg": "ES384", "kid": thumbprint(jwk), "typ": kind}, header
    key = ec.EllipticCurvePublicNumbers(*(int.from_bytes(unb64url(jwk[name]), "big") for name in "xy"), ec.SECP384R1()).public_key()
    raw = unb64url(signature)
    assert len(raw) == 96
    key.verify(
        encode_dss_signature(int.from_bytes(raw[:48], "big"), int.from_bytes(raw[48:], "big")), f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA384())
    )
    return json.loads(unb64url(body))


def thumbprint(jwk):
    canonical = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def answer(jws, request, jwk):
    """The answer to a request, opened as a host would."""
    value = open_jws(jws, jwk, "xen-sev-answer+jwt")
    assert value["request"] == hashlib.sha256(request).hexdigest(), "the answer is to another request"
    return value


class Session:
    """What a PSP makes of an offer: TEK and TIK, unwrapped with the PDH."""

    def __init__(self, offer):
        self.offer = offer
        godh = base64.b64decode(offer["godh"])
        x, y = (int.from_bytes(godh[at : at + 72], "little") for at in (0x14, 0x5C))
        pdh = ec.derive_private_key(PDH_SCALAR, ec.SECP384R1())
        z = pdh.exchange(ec.ECDH(), ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key())
        blob = base64.b64decode(offer["session"])
        nonce, wrapped, iv, wrap_mac, policy_mac = blob[:16], blob[16:48], blob[48:64], blob[64:96], blob[96:128]
        master = kdf(z, b"sev-master-secret", nonce)
        kek, kik = kdf(master, b"sev-kek"), kdf(master, b"sev-kik")
        assert mac(kik, wrapped) == wrap_mac
        keys = ctr(kek, iv, wrapped)
        self.tek, self.tik = keys[:16], keys[16:]
        assert mac(self.tik, struct.pack("<I", offer["policy"])) == policy_mac

    def evidence(self, digest=None, **changes):
        out = copy.deepcopy(BUNDLE["launch"])
        out |= {"session_id": self.offer["session_id"], "launch_name": self.offer["launch_name"], "policy": self.offer["policy"]}
        mnonce = os.urandom(16)
        build = bytes(int(part) for part in out["build"].split("."))
        digest = digest or bytes.fromhex(ANSWERS["launch"]["digest"])
        self.measure = mac(self.tik, b"\x04", build, struct.pack("<I", out["policy"]), digest, mnonce)
        out["measurement"] = base64.b64encode(self.measure + mnonce).decode()
        return out | changes

    def open_packet(self, packet):
        """The plaintext of a secret packet for API 0.17 and newer."""
        header, data = base64.b64decode(packet["header"]), base64.b64decode(packet["data"])
        flags, iv, tag = header[:4], header[4:20], header[20:52]
        size = struct.pack("<I", len(data))
        assert mac(self.tik, b"\x01", flags, iv, size, size, data, self.measure) == tag, "the packet's MAC is wrong"
        return ctr(self.tek, iv, data)
