# SPDX-License-Identifier: Apache-2.0
"""What a user can say about a qube, as features `sev.*`, and what a qube must be like so that all of its initial memory is measured.

Functions over a qube's attributes, which have the same names in qubesd (qubes.vm) and in a client of it (qubesadmin).
"""
import json
import os
import re
import stat

MODES = ("off", "measure", "required")
PREFIX = "sev."
TAG = "sev-attested"
# What `qvm-sev start` and `qvm-sev measure` say about the next start alone. qubesd takes it away when that start begins.
ONCE = "sev.once"
ONCE_VALUES = ("required", "capture")

# A profile is a file NAME.json here, root's own: {"owner": ..., "policy": ..., "relay": ..., "timeout": seconds}. A qube's own features go before.
PROFILES = "/etc/xen-sev/profiles.d"
PROFILE_LIMIT_BYTES = 16 * 1024
PROFILE_KEYS = ("owner", "policy", "relay", "timeout")

TIMEOUT_DEFAULT_S = 120
TIMEOUT_LEAST_S = 5
TIMEOUT_MOST_S = 3600

# sevd's own rule for names of owners and policies (attest/protocol/exchange.hpp, checked_policy_name)
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
QUBE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")


class Refused(ValueError):
    """One sentence for the user: printable ASCII, no newline."""


def printable(text, limit=400):
    """`text` as it may be shown or logged: printable ASCII alone, at most `limit` characters. Everything from outside dom0 goes through this."""
    text = str(text)
    shown = "".join(c if " " <= c <= "~" else "?" for c in text[:limit])
    return shown + ("..." if len(text) > limit else "")


def _one_of(values):
    def check(feature, value):
        if value not in values:
            raise Refused(f"{feature} is '{printable(value, 40)}', want one of: {', '.join(values)}")

    return check


def _name(feature, value):
    if not NAME.fullmatch(value):
        raise Refused(f"{feature} is '{printable(value, 40)}', want 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot")


def _qube(feature, value):
    if not QUBE.fullmatch(value):
        raise Refused(f"{feature} is '{printable(value, 40)}', want the name of a qube")


def _timeout(feature, value):
    if not re.fullmatch(r"[0-9]{1,5}", value) or not TIMEOUT_LEAST_S <= int(value) <= TIMEOUT_MOST_S:
        raise Refused(f"{feature} is '{printable(value, 40)}', want seconds, {TIMEOUT_LEAST_S} to {TIMEOUT_MOST_S}")


FEATURES = {
    "sev.mode": _one_of(MODES),
    "sev.profile": _name,
    "sev.policy": _name,
    "sev.owner": _name,
    "sev.relay": _qube,
    "sev.timeout": _timeout,
    ONCE: _one_of(ONCE_VALUES),
}


def check_feature(feature, value):
    """Throws Refused unless `feature` is one of ours and `value` one that it may have."""
    if feature not in FEATURES:
        raise Refused(f"there is no feature {printable(feature, 60)}; there are: {', '.join(sorted(set(FEATURES) - {ONCE}))}")
    FEATURES[feature](feature, value)


def read_profile(name, folder=None):
    """A profile's features: {"sev.owner": ...}. Throws Refused for a file that is not there, that others than root may change, or that says anything else."""
    path = os.path.join(PROFILES if folder is None else folder, name + ".json")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o022:
                raise Refused(f"{path}: want a file that root alone may write")
            raw = file.read(PROFILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror} (feature sev.profile)") from None
    try:
        value = json.loads(raw.decode()) if len(raw) <= PROFILE_LIMIT_BYTES else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not set(value) <= set(PROFILE_KEYS):
        raise Refused(f"{path}: want a JSON object with some of {', '.join(PROFILE_KEYS)}, at most {PROFILE_LIMIT_BYTES} bytes")
    out = {}
    for key, setting in value.items():
        if key == "timeout" and isinstance(setting, int) and not isinstance(setting, bool):
            setting = str(setting)
        if not isinstance(setting, str):
            raise Refused(f"{path}: {key} is no text")
        try:
            check_feature(PREFIX + key, setting)
        except Refused as refusal:
            raise Refused(f"{path}: {refusal}") from None
        out[PREFIX + key] = setting
    return out


class Wanted:
    """What the features of a qube ask for. `mode` comes from the qube or else its template; everything that concerns the owner from the qube, or the profile it names."""

    def __init__(self, vm, profiles=None):
        def own(feature):
            value = vm.features.get(feature, None)
            if value is not None:
                check_feature(feature, value)
            return value

        mode = vm.features.check_with_template("sev.mode", None)
        if mode is None:
            mode = "off"
        check_feature("sev.mode", mode)
        self.mode = mode
        self.once = own(ONCE)
        self.profile = own("sev.profile")
        said = read_profile(self.profile, profiles) if self.profile is not None else {}
        self.owner = own("sev.owner") or said.get("sev.owner")
        self.policy = own("sev.policy") or said.get("sev.policy")
        self.relay = own("sev.relay") or said.get("sev.relay")
        self.timeout_s = int(own("sev.timeout") or said.get("sev.timeout") or TIMEOUT_DEFAULT_S)
        if self.once == "required":
            self.mode = "required"
        elif self.once == "capture":
            self.mode = "capture"

    @property
    def active(self):
        return self.mode != "off"


def _pci_devices(vm):
    """How many PCI devices the qube has assigned, whatever release's way of asking there is."""
    devices = vm.devices["pci"]
    for ask in ("get_assigned_devices", "persistent"):
        if hasattr(devices, ask):
            return len(list(getattr(devices, ask)()))
    raise Refused("cannot tell whether the qube has PCI devices: this release of Qubes is not known")


class Problem:
    """A setting that stands in the way: what it is, and what to type. `fix` is (kind, name, value) for what qvm-sev can change by itself."""

    def __init__(self, text, command, fix=None):
        self.text, self.command, self.fix = text, command, fix

    def __str__(self):
        return f"{self.text}: {self.command}"


def problems(vm, wanted):
    """Everything about `vm` that keeps its initial memory from being measured whole, or its owner from being asked."""
    name, out = vm.name, []

    def prefer(prop, value, why):
        out.append(Problem(f"{prop} is '{printable(getattr(vm, prop), 40)}', but {why}", f"qvm-prefs {name} {prop} {value}", ("property", prop, value)))

    if vm.virt_mode != "pvh":
        prefer("virt_mode", "pvh", "only a PVH qube's memory is measured whole")
    kernel = vm.kernel or ""
    if kernel == "" or kernel.startswith("pvgrub"):
        out.append(Problem(f"kernel is '{printable(kernel, 40)}', so that a boot loader would be measured and not the kernel",
                           f"qvm-prefs {name} kernel VERSION (a folder in /var/lib/qubes/vm-kernels)"))
    if vm.maxmem != 0:
        prefer("maxmem", "0", "memory balancing changes what is built")
    if vm.features.check_with_template("memory-hotplug", None):
        out.append(Problem("feature memory-hotplug is on, which changes what is built", f"qvm-features {name} memory-hotplug ''", ("feature", "memory-hotplug", "")))
    if vm.debug:
        prefer("debug", "False", "a debugged qube shows its memory")
    count = _pci_devices(vm)
    if count:
        out.append(Problem(f"it has {count} PCI device{'s' if count > 1 else ''}, which can write to its memory", f"qvm-pci detach {name} DEVICE"))
    if wanted.mode == "required" and not wanted.owner:
        out.append(Problem("sev.owner is not set, so that nobody would judge", f"qvm-features {name} sev.owner NAME (one of the owners in sevd.json)"))
    if wanted.mode == "required" and not wanted.policy:
        out.append(Problem("sev.policy is not set, so that the owner would not know by what to judge", f"qvm-features {name} sev.policy NAME (one of the owner's policies)"))
    if wanted.relay is not None and wanted.relay == name:
        out.append(Problem("sev.relay is the qube itself", f"qvm-features {name} sev.relay QUBE"))
    return out
