# SPDX-License-Identifier: Apache-2.0
"""What a qube was measured to be, kept in dom0 as a reference value in the form that an owner's policy takes (docs/schemas/owner-policy.schema.json, "references")."""
import json
import os
import pathlib
import re
import tempfile

from xen_sev_qubes import sevd, settings

FOLDER = "/var/lib/xen-sev/qubes/references"
FILE_LIMIT_BYTES = 4 << 20
REGION_LIMIT = 8192
DIFFERENCE_LIMIT = 100
DIGEST = re.compile(r"[0-9a-f]{64}")


class Malformed(Exception):
    """One printable sentence."""


def _digest(value):
    return value if isinstance(value, str) and DIGEST.fullmatch(value) else None


class Measured:
    """Of a launch: what sevd predicted, what it captured, and where they differ."""

    def __init__(self, predicted, captured, differences, regions):
        self.predicted, self.captured, self.differences, self.regions = predicted, captured, differences, regions

    def value(self, name):
        """A reference value. Throws Malformed when what was captured is not what was predicted: that is for no owner to expect."""
        if self.captured is None:
            raise Malformed("sevd gives no digest of what was built")
        if self.predicted != self.captured:
            raise Malformed(f"what was built is not what was predicted: 'qvm-sev measure {name}' shows where")
        return {"name": name, "digest": self.captured, "regions": self.regions}


def _regions(listed, what):
    if not isinstance(listed, list) or len(listed) > REGION_LIMIT:
        raise Malformed(f"{what}: regions are no list of at most {REGION_LIMIT}")
    out = []
    for number, region in enumerate(listed):
        if not isinstance(region, dict) or not isinstance(region.get("label"), str) or not isinstance(region.get("length"), int) or _digest(region.get("sha256")) is None:
            raise Malformed(f"{what}: region {number} has no label, length and sha256")
        out.append({"label": settings.printable(region["label"], 128), "length": region["length"], "sha256": region["sha256"]})
    return out


def measured(launch):
    """Reads sevd's launch. Throws Malformed."""
    differences = launch.get("differences", [])
    if not isinstance(differences, list):
        raise Malformed("sevd's launch: differences are no list")
    shown = [settings.printable(line, 200) for line in differences[:DIFFERENCE_LIMIT]]
    if len(differences) > DIFFERENCE_LIMIT:
        shown.append(f"and {len(differences) - DIFFERENCE_LIMIT} more")
    descriptor = launch.get("descriptor")
    regions = _regions(descriptor.get("regions", []) if isinstance(descriptor, dict) else [], "sevd's launch")
    return Measured(_digest(launch.get("predicted")), _digest(launch.get("digest")), shown, regions)


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


class Store:
    """A folder with one file a qube: written whole or not at all."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return self.folder / f"{name}.json"

    def read(self, name):
        """The kept value, or None. Throws Malformed."""
        try:
            with open(self.path(name), "rb") as file:
                raw = file.read(FILE_LIMIT_BYTES + 1)
        except FileNotFoundError:
            return None
        what = str(self.path(name))
        try:
            value = sevd.parse_json(raw[: FILE_LIMIT_BYTES + 1])
        except sevd.Trouble:
            raise Malformed(f"{what}: is no JSON") from None
        if len(raw) > FILE_LIMIT_BYTES or not isinstance(value, dict) or set(value) != {"name", "digest", "regions"} or _digest(value["digest"]) is None or value["name"] != name:
            raise Malformed(f"{what}: is no reference value of {name}")
        return dict(value, regions=_regions(value["regions"], what))

    def write(self, name, value):
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=f".{name}.", delete=False) as file:
            try:
                json.dump(value, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, self.path(name))
            except BaseException:
                pathlib.Path(file.name).unlink(missing_ok=True)
                raise
        return self.path(name)
