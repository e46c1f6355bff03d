# SPDX-License-Identifier: Apache-2.0
"""sevd under load: 100 launches at once of image guests of 64 MiB, by a real sevd with the emulated PSP and a real sev-owner, all of them running in the end, in one run with OpenSSL's
raw rates on the same cores.

What a launch cannot do without is SHA-256 twice and AES-128 once over its 64 MiB: the PSP hashes and encrypts, and the host's descriptor names what it loaded. The bound is on the processor
time of sevd's own code, so that whatever else this machine does does not count, against raw rates that are taken while the launches go on. The kernel's time for it is nearly all the read() that fills 16,384 fresh pages an
image, and what a fresh page costs is up to the machine; so all of sevd's processor time is held against the same images loaded, hashed and encrypted by nothing but system calls and OpenSSL, in
memory that is as fresh: before the launches and after them, the lesser of the two. By the clock the raw rates that are taken meanwhile have as many threads as there are cores, so that half of what the same images take
alone is the most there can be: half of that is asked for, which no launch that waits in vain for another would leave. The PSP is one lane, as a real one is one processor: SHA-256 and AES of all
100 one after the other; the ratios to that are reported. The folder is in memory, so that the syncs of the journal, a dozen a launch and one after the other, are made and cost nothing: a disk's are no business of
this bound."""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import house  # noqa: E402

RAW = os.environ["SEV_SEVD_LAUNCHES"]
CORES = len(os.sched_getaffinity(0))
COUNT = int(os.environ.get("SEV_LAUNCHES", "100"))
IMAGE_BYTES = 64 << 20
SHARE, CLOCK, IDLE_KIB = 0.6, 0.25, 16 * 1024


def raw():
    return json.loads(subprocess.run([RAW, str(CORES), "3"], capture_output=True, check=True, timeout=300).stdout)


def loaded_alone(image):
    """COUNT images loaded, hashed and encrypted by nothing but system calls and OpenSSL, in memory as fresh as the guests'."""
    return json.loads(subprocess.run([RAW, str(CORES), str(COUNT), image], capture_output=True, check=True, timeout=600).stdout)


def processor_seconds(pid):
    """Its own, and the kernel's for it."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return [int(fields[which]) / os.sysconf("SC_CLK_TCK") for which in (11, 12)]


def resident_kib(pid):
    return int(next(line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")).split()[1])


def available_bytes():
    return int(next(line for line in pathlib.Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable")).split()[1]) << 10


def main():
    if available_bytes() < COUNT * IMAGE_BYTES * 5 // 4:
        print(f"SKIPPED: {COUNT} guests of 64 MiB want more memory than is free here")
        return 77
    if os.access("/dev/shm", os.W_OK):
        tempfile.tempdir = "/dev/shm"
    else:
        print("without /dev/shm: by the clock, this disk's syncs count, too")
    home = house.House(limits={"requests_per_second": 1e6, "burst": 1e6, "sessions_per_channel": 1000})
    try:
        block = os.urandom(1 << 20)
        with open(home.folder / "kernel", "wb") as image:
            for number in range(64):
                image.write(bytes([number]) + block[1:])
        home.layout("guest")
        home.configuration["owners"]["vault"]["deadline_s"] = 600
        home.start()
        pid = home.daemon.process.pid
        alone = [loaded_alone(home.folder / "kernel")]
        home.status()
        idle = resident_kib(pid)
        rates_meanwhile, over = [], threading.Event()

        def measure():
            while not over.is_set():
                rates_meanwhile.append(raw())

        measuring = threading.Thread(target=measure)
        spent, begun = processor_seconds(pid), time.monotonic()
        failures = []

        def launch(number):
            words = ["launch", "--image", home.folder / "guest.json", "--owner", "vault", "--policy", "web", "--name", f"guest{number}", "--no-wait"]
            done = subprocess.run([house.program("sevctl"), *map(str, words), "--socket", str(home.socket)], capture_output=True, timeout=3600)
            if done.returncode != 0:
                failures.append(done.stdout.decode()[-500:] + done.stderr.decode())

        threads = [threading.Thread(target=launch, args=(number,)) for number in range(COUNT)]
        measuring.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while not failures and home.status()["launches"]["running"] < COUNT:
            ended = [one for one in home.launches() if one["ended"]]
            failures += [json.dumps(one) for one in ended]
            time.sleep(0.5)
        took, (spent, kernel) = time.monotonic() - begun, (after - before for after, before in zip(processor_seconds(pid), spent))
        over.set()
        measuring.join()
        if failures:
            sys.exit(f"{len(failures)} of {COUNT} launches failed: {failures[0]}")
        running = [one for one in home.launches() if one["state"] == "running"]
        if len(running) != COUNT:
            sys.exit(f"{len(running)} guests run, want {COUNT}")
        loaded = resident_kib(pid)
        alone.append(loaded_alone(home.folder / "kernel"))
    finally:
        home.close()
    rates = {key: statistics.median(rate[key] for rate in rates_meanwhile) for key in ("sha256", "aes")}
    need = 2 * rates["sha256"] + rates["aes"]
    lane = rates["sha256"] + rates["aes"]
    share = need * COUNT / spent
    least = {key: min(one[key] for one in alone) for key in ("processor", "clock")}
    whole, clock = least["processor"] / (spent + kernel), least["clock"] / took
    print(f"{COUNT} launches of 64 MiB at once, {CORES} cores: {took:.1f} s by the clock, {COUNT * 64 / took:.0f} MiB/s; sevd's processor time {1000 * spent / COUNT:.0f} ms a launch, the kernel's for it {1000 * kernel / COUNT:.0f} ms")
    print(f"raw: SHA-256 {64 / rates['sha256']:.0f} MiB/s, AES-128-ECB {64 / rates['aes']:.0f} MiB/s a core; both once, one after the other: {1000 * lane:.0f} ms; a launch needs {1000 * need:.0f} ms")
    print(f"by the clock against one lane of SHA-256 and AES: {lane * COUNT / took:.2f}; against {CORES} cores of all a launch needs: {need * COUNT / CORES / took:.2f}")
    print(f"the same images loaded, hashed and encrypted alone: {'; '.join('{processor:.1f} s of processor time, {clock:.1f} s by the clock'.format(**one) for one in alone)} (before, after)")
    print(f"against the lesser of these: processor time {whole:.2f}, by the clock {clock:.2f}")
    print(f"memory: idle {idle} KiB; with {COUNT} guests {(loaded - COUNT * (IMAGE_BYTES >> 10)) / 1024:.0f} MiB besides theirs")
    good = min(share, whole) >= SHARE and clock >= CLOCK and idle <= IDLE_KIB
    print(f"share {share:.2f} of its own time, {whole:.2f} of all (want {SHARE} of either), by the clock {clock:.2f} (want {CLOCK}), idle {idle} KiB (want at most {IDLE_KIB}): {'ok' if good else 'NOT MET'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
