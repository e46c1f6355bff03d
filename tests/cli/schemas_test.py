# SPDX-License-Identifier: Apache-2.0
"""Every --json output fits its schema in docs/schemas, and the schemas refuse what is not such an output."""
import copy
import itertools
import json
import os
import unittest

from bad_input_test import invocations, words_of
from support import ROOT, Case, sevctl, table

try:
    import jsonschema
except ImportError:
    jsonschema = None


OF_XEN = {"capture", "reference capture"}  # tests/xen/dom0 looks at these
# held against their schemas where the services run: tests/daemon
OF_A_SERVICE = {"launches list", "launches show", "launches cancel", "bundle", "owner status", "owner sessions", "owner session"}
OF_A_PLATFORM = {"launch", "export", "pek-csr", "provision", "reset", "rotate", "show flags", "show guests", "show identifier", "show version"}


def schema_of(name):
    return json.loads((ROOT / "docs/schemas" / f"sevctl-{name.replace(' ', '-')}.schema.json").read_text())


class Schemas(Case):
    def test_every_command_with_json_has_a_schema_and_no_schema_is_left_over(self):
        names = {f"sevctl-{name.replace(' ', '-')}.schema.json" for name, command in table().items() if any(a["name"] == "--json" for a in command["arguments"])}
        self.assertEqual(names, {path.name for path in (ROOT / "docs/schemas").glob("sevctl-*.schema.json")})

    @unittest.skipUnless(jsonschema, "SKIPPED: python3-jsonschema is not installed, no output was held against its schema")
    def test_outputs(self):
        commands = table()
        more = [("explain", [word], 0) for word in ("BAD_MEASUREMENT", "launch.digest", "CVE-2019-9836", "bios-smee")]
        seen = set()
        speaking = {name for name, command in commands.items() if any(argument["name"] == "--json" for argument in command["arguments"])}
        for name, words, status in itertools.chain(invocations(self), more):
            if name not in speaking:
                continue
            line = words_of(commands[name], words)
            # files that the invocation before this one left
            for path in self.dir.glob("out*"):
                path.unlink()
            done = sevctl(*line, "--json", cwd=self.dir)
            self.assertEqual(done.returncode, status, done.stderr.decode())
            result = json.loads(done.stdout)
            validator = jsonschema.Draft202012Validator(schema_of(name))
            jsonschema.Draft202012Validator.check_schema(validator.schema)
            self.assertEqual([f"{error.json_path}: {error.message}" for error in validator.iter_errors(result)], [], name)
            for key in result:
                lacking = copy.deepcopy(result)
                del lacking[key]
                if key in validator.schema["required"]:
                    self.assertFalse(validator.is_valid(lacking), f"{name}: the schema does not miss {key}")
            self.assertFalse(validator.is_valid({**result, "surprise": 1}), f"{name}: the schema lets unknown keys pass")
            self.assertFalse(validator.is_valid({**result, "format": "xen-sev/other"}))
            seen.add(name)
        wanted = speaking - OF_XEN - OF_A_SERVICE - (set() if os.environ.get("SEV_EMULATOR") else OF_A_PLATFORM)
        self.assertEqual(wanted - seen, set(), "these commands' outputs were not looked at")


if __name__ == "__main__":
    unittest.main()
