# SPDX-License-Identifier: Apache-2.0
"""What a qube was measured to be, kept in dom0 as a reference value in the form that an owner's policy takes (docs/schemas/owner-policy.schema.json, "references")."""
import json
import os
import pathlib
import re
import tempfile

from xen_sev_qubes import sevd, settings

FOLDER = "/var/lib/xen-sev/qubes/references"
ACCOUNTS = "/run/xen-sev/qubes"
FILE_LIMIT_BYTES = 4 << 20
REGION_LIMIT = 8192
DIFFERENCE_LIMIT = 100
DIGEST = re.compile(r"[0-9a-f]{64}")


class Malformed(Exception):
    """One printable sentence."""


def _digest(value):
    return value if isinstance(value, str) and DIGEST.fullmatch(value) else None


class Measured:
    """What sevctl's capture found in a paused domain, and whether that is what its configuration says. `builds` are its digest and regions as the first PVH guest of its libvirtd
    and as a later one, which differ in five bytes that Xen's toolstack writes: {"first": (digest, regions), "later": …}; None when it is not as its configuration says."""

    def __init__(self, digest, equal, differences, regions, builds=None):
        self.digest, self.equal, self.differences, self.regions, self.builds = digest, equal, differences, regions, builds

    def __str__(self):
        return "as its configuration says, byte for byte" if self.equal else "NOT what its configuration says: " + "; ".join(self.differences[:3])

    def value(self, name):
        """A reference value, the same whichever of its libvirtd's guests was measured. Throws Malformed when what was built is not what its configuration says: that is for no owner to
        expect."""
        if not self.equal:
            raise Malformed(f"what was built is not what its configuration says: 'qvm-sev measure {name}' shows where")
        (first, first_regions), (later, later_regions) = self.builds["first"], self.builds["later"]
        return {"name": name, "digest": later, "regions": later_regions, "first": {"digest": first, "regions": first_regions}}


def for_policy(value):
    """A reference value as the list that "references" of an owner's policy takes: the qube as it is nearly always, and as the first PVH guest that its libvirtd builds."""
    name, first = value["name"], value["first"]
    return [{"name": name, "digest": value["digest"], "regions": value["regions"]}, {"name": f"{name}-first", "digest": first["digest"], "regions": first["regions"]}]


def _regions(listed, what):
    if not isinstance(listed, list) or not listed or len(listed) > REGION_LIMIT:
        raise Malformed(f"{what}: regions are no list of 1 to {REGION_LIMIT}")
    out = []
    for number, region in enumerate(listed):
        length = region.get("length") if isinstance(region, dict) else None
        if not isinstance(length, int) or isinstance(length, bool) or length <= 0 or not isinstance(region.get("label"), str) or _digest(region.get("sha256")) is None:
            raise Malformed(f"{what}: region {number} has no label, length and sha256")
        out.append({"label": settings.printable(region["label"], 128), "length": length, "sha256": region["sha256"]})
    return out


def measured(account):
    """Reads the account of `sevctl capture --json` (docs/schemas/sevctl-capture.schema.json). Throws Malformed."""
    what = "sevctl capture"
    differences = account.get("differences")
    if not isinstance(differences, list) or not isinstance(account.get("equal"), bool) or account["equal"] != (not differences):
        raise Malformed(f"{what}: does not say whether they are equal")
    digest = _digest(account.get("launch_digest"))
    if digest is None:
        raise Malformed(f"{what}: gives no launch digest")
    shown = [settings.printable(line, 200) for line in differences[:DIFFERENCE_LIMIT]]
    if len(differences) > DIFFERENCE_LIMIT:
        shown.append(f"and {len(differences) - DIFFERENCE_LIMIT} more")
    regions, builds = _regions(account.get("regions"), what), None
    if account["equal"]:
        other = account.get("other_build")
        kinds = (account.get("build"), other.get("build") if isinstance(other, dict) else None)
        if kinds not in (("first", "later"), ("later", "first")) or _digest(other.get("launch_digest")) is None:
            raise Malformed(f"{what}: does not say which PVH guest of its toolstack process it is, and what it is as another")
        builds = {kinds[0]: (digest, regions), kinds[1]: (other["launch_digest"], _regions(other.get("regions"), what))}
    return Measured(digest, account["equal"], shown, regions, builds)


def changes(old, new):
    """Lines that say what is different, region by region."""
    if old is None:
        return [f"first reference value of {new['name']}: {new['digest']}"] + [f"  {r['label']}: {r['length']} bytes" for r in new["regions"]]
    if old["digest"] == new["digest"]:
        return []
    out = [f"digest {old['digest']} -> {new['digest']}"]
    before, after = ({r["label"]: r for r in value["regions"]} for value in (old, new))
    for label in dict.fromkeys(list(before) + list(after)):
        if label not in after:
            out.append(f"  {label}: gone ({before[label]['length']} bytes)")
        elif label not in before:
            out.append(f"  {label}: new ({after[label]['length']} bytes)")
        elif before[label] != after[label]:
            out.append(f"  {label}: {before[label]['length']} -> {after[label]['length']} bytes, sha256 {before[label]['sha256'][:16]}... -> {after[label]['sha256'][:16]}...")
    return out


def _write(path, value):
    """Whole or not at all."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            json.dump(value, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            pathlib.Path(file.name).unlink(missing_ok=True)
            raise


def _read(path):
    """A JSON object, or None when there is no such file. Throws Malformed."""
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        value = sevd.parse_json(raw) if len(raw) <= FILE_LIMIT_BYTES else None
    except sevd.Trouble:
        value = None
    if not isinstance(value, dict):
        raise Malformed(f"{path}: is no JSON object of at most {FILE_LIMIT_BYTES} bytes")
    return value


class Account:
    """Where qubesd's extension leaves what sevctl said of a qube for qvm-sev, one file a qube, until the next reboot."""

    def __init__(self, folder=None):
        self.folder = pathlib.Path(ACCOUNTS if folder is None else folder)

    def write(self, name, xid, account):
        _write(self.folder / f"{name}.json", {"qube": name, "xid": xid, "capture": account})

    def read(self, name):
        """(xid, account), or None. Throws Malformed."""
        value = _read(self.folder / f"{name}.json")
        if value is None:
            return None
        if set(value) != {"qube", "xid", "capture"} or value["qube"] != name or not isinstance(value["xid"], int) or not isinstance(value["capture"], dict):
            raise Malformed(f"{self.folder / name}.json: is no account of {name}")
        return value["xid"], value["capture"]


class Store:
    """A folder with one reference value a qube."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def path(self, name):
        return self.folder / f"{name}.json"

    def read(self, name):
        """The kept value, or None. Throws Malformed."""
        value, what = _read(self.path(name)), str(self.path(name))
        if value is None:
            return None
        first = value.get("first")
        if (set(value) != {"name", "digest", "regions", "first"} or _digest(value["digest"]) is None or value["name"] != name or not isinstance(first, dict) or
                set(first) != {"digest", "regions"} or _digest(first["digest"]) is None):
            raise Malformed(f"{what}: is no reference value of {name}: 'qvm-sev reference update {name}' makes one")
        return dict(value, regions=_regions(value["regions"], what), first=dict(first, regions=_regions(first["regions"], what)))

    def write(self, name, value):
        _write(self.path(name), value)
        return self.path(name)
