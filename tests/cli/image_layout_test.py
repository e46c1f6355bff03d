# SPDX-License-Identifier: Apache-2.0
"""Image layouts: what the schema refuses, sevctl launch refuses too, and a good one passes both."""
import copy
import json
import os
import unittest

from support import ROOT, Case, sevctl

try:
    import jsonschema
except ImportError:
    jsonschema = None

GOOD = {"format": "xen-sev/image-layout", "version": 1,
        "parts": [{"label": "initrd", "gpa": "0x10000000", "file": "initrd", "length": 8192}, {"label": "firmware", "gpa": 4294959104, "file": "firmware"}],
        "slots": [{"name": "initrd", "gpa": "0x10000000", "length": 4096}],
        "vcpus": 2, "vmsa_profile": "kvm-legacy", "cpu": {"family": 23, "model": 1, "stepping": 2}, "sev_features": 0}


def bad_ones():
    """Each changed in one place."""
    def changed(*path, to=None, drop=False):
        layout = copy.deepcopy(GOOD)
        at = layout
        for key in path[:-1]:
            at = at[key]
        if drop:
            del at[path[-1]]
        else:
            at[path[-1]] = to
        return layout

    for key in ("format", "version", "parts"):
        yield changed(key, drop=True)
    for key in ("label", "gpa", "file"):
        yield changed("parts", 0, key, drop=True)
    for key in ("name", "gpa", "length"):
        yield changed("slots", 0, key, drop=True)
    yield changed("format", to="xen-sev/other")
    yield changed("version", to=2)
    yield changed("parts", to=[])
    yield changed("parts", to={})
    yield changed("surprise", to=1)
    yield changed("parts", 0, "surprise", to=1)
    yield changed("slots", 0, "surprise", to=1)
    yield changed("parts", 0, "label", to="")
    yield changed("parts", 0, "label", to="\u001b[31m")
    yield changed("parts", 0, "gpa", to=-16)
    yield changed("parts", 0, "gpa", to="sixteen")
    yield changed("parts", 0, "gpa", to=1.5)
    yield changed("vcpus", to="two")
    yield changed("vcpus", to=-1)
    yield changed("vmsa_profile", to="vmware")
    yield changed("cpu", to={"family": 23})
    yield changed("cpu", to=7)


class ImageLayout(Case):
    def launch(self, layout):
        return sevctl("launch", "--psp", "emulated", "--state", self.dir / "no-psp", "--owner", self.file("owner.json", b"{}"),
                      "--image", self.file("guest.json", json.dumps(layout).encode()), cwd=self.dir)

    @unittest.skipUnless(jsonschema, "SKIPPED: python3-jsonschema is not installed, no layout was held against the schema")
    def test_schema_and_program_agree(self):
        schema = json.loads((ROOT / "docs/schemas/image-layout.schema.json").read_text())
        validator = jsonschema.Draft202012Validator(schema)
        validator.check_schema(schema)
        self.assertTrue(validator.is_valid(GOOD))
        done = self.launch(GOOD)
        self.assertEqual(done.returncode, 2)
        self.assertIn("owner.json", done.stderr.decode())  # the layout was read; the next thing is what is wrong
        count = 0
        for layout in bad_ones():
            self.assertFalse(validator.is_valid(layout), layout)
            done = self.launch(layout)
            self.assertEqual(done.returncode, 2, layout)
            self.assertIn("guest.json", done.stderr.decode().splitlines()[0], layout)
            count += 1
        self.assertGreater(count, 20)


if __name__ == "__main__":
    unittest.main()
