# SPDX-License-Identifier: Apache-2.0
"""sev-owner under load, over TLS 1.3 on the loopback, both ends on this machine, in one run with OpenSSL's raw rates. Three bounds:
work    whole launches (two chain verifications, session, verdict, packet, three signatures) run at 0.6 or more of the rate that their public-key
        operations alone allow; by the owner's processor time, so that whatever else this machine does, the hosts' end included, does not count
tail    at half that load, the 99th percentile is under 4 times the median
memory  10,000 open sessions take at most 64 MiB over idle"""

import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "owner"))
import support  # noqa: E402

LOAD = os.environ["SEV_OWNER_LOAD"]
CORES = len(os.sched_getaffinity(0))
# public-key operations of one launch: the chain (four P-384 signatures and three of RSA-2048) at each step; a key and an agreement for the session;
# two answers and an attestation result
VERIFY, RSA_VERIFY, GENERATE, ECDH, SIGN = 2 * 4, 2 * 3, 1, 1, 3
WORK, TAIL, MEMORY_MIB = 0.6, 4.0, 64.0
ROUNDS = 5


def load(*words):
    done = subprocess.run([LOAD, *map(str, words)], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        sys.exit(f"owner_load {words}: {done.stderr}")
    return json.loads(done.stdout)


def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    with tempfile.TemporaryDirectory(prefix="sev-load-") as folder:
        folder = pathlib.Path(folder)
        certificates = folder / "tls"
        support.make_certificates(certificates)
        owner = support.Owner(folder / "owner")
        port = support.free_port()
        owner.change(
            listen=[
                {"unix": str(owner.socket), "mode": "0600"},
                {
                    "https": "127.0.0.1",
                    "port": port,
                    "certificate": str(certificates / "server.pem"),
                    "private_key": str(certificates / "server.key"),
                    "client_ca": str(certificates / "ca.pem"),
                },
            ],
            clients=[{"certificate": "any", "policies": ["web"]}],
            limits={
                "requests_per_second": 1e6,
                "burst": 1e6,
                "sessions": 20000,
                "sessions_per_channel": 20000,
                "session_seconds": 86400,
                "workers": 2 * CORES,
            },
        )
        owner.start()
        try:
            load("load", port, certificates, CORES, 1)  # warm
            idle = resident_mib(owner.process.pid)
            shares, rates = [], []
            for _ in range(ROUNDS):
                raw = load("raw", CORES, 400)
                cost = VERIFY * raw["verify"] + RSA_VERIFY * raw["rsa_verify"] + GENERATE * raw["generate"] + ECDH * raw["ecdh"] + SIGN * raw["sign"]
                before = processor_seconds(owner.process.pid)
                work = load("load", port, certificates, 2 * CORES, 4)
                spent = (processor_seconds(owner.process.pid) - before) / work["launches"]
                shares.append(cost / spent)
                rates.append(work["launches"] / work["seconds"])
                print(
                    f"public-key operations of a launch: {1000 * cost:.1f} ms; the owner's whole work: {1000 * spent:.1f} ms, share {shares[-1]:.2f}; "
                    f"{rates[-1]:.0f} launches/s, the hosts' end took {work['client_cpu_seconds'] / work['seconds'] / CORES:.0%} of the cores"
                )
            share, rate = statistics.median(shares), statistics.median(rates)
            paces = [load("pace", port, certificates, 16, rate / 2, max(600, int(rate * 5))) for _ in range(3)]
            tail = statistics.median(pace["p99_s"] / pace["median_s"] for pace in paces)
            for pace in paces:
                print(f"at {rate / 2:.0f} launches/s: median {1000 * pace['median_s']:.1f} ms, p99 {1000 * pace['p99_s']:.1f} ms")
            load("open", port, certificates, 2 * CORES, 10000)
            opened = owner.get("/v1/sessions?state=open&limit=1")
            count = int(re.search(r'sev_owner_sessions\{state="open"\} (\d+)', owner.get("/metrics").text).group(1))
            memory = resident_mib(owner.process.pid) - idle
            print(f"{count} open sessions: {memory:.1f} MiB over {idle:.1f} MiB idle")
            assert opened.status == 200 and count >= 10000
        finally:
            owner.stop(signal.SIGTERM)
    good = share >= WORK and tail < TAIL and memory <= MEMORY_MIB
    print(
        f"share {share:.2f} (want {WORK}), p99/median {tail:.2f} (want below {TAIL}), "
        f"memory {memory:.1f} MiB (want at most {MEMORY_MIB}): {'ok' if good else 'NOT MET'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
