# SPDX-License-Identifier: Apache-2.0
"""The man page is the table's, has exactly what the parser accepts, and mandoc has nothing to say about it."""
import re
import shutil
import subprocess
import unittest

from support import MANUAL, NAME, Case, is_option, table


class Manual(Case):
    def setUp(self):
        super().setUp()
        self.page = MANUAL.read_text()

    def test_it_is_the_one_the_table_makes(self):
        self.assertEqual(self.page, self.ok("--print-man"), f"make it again: {NAME} --print-man > {MANUAL}")

    def test_it_has_every_command_and_option_in_its_section_and_no_other(self):
        sections = {name.replace("\\-", "-"): text for name, text in re.findall(r'^\.Ss "(.*?)"\n(.*?)(?=^\.S[sh] |\Z)', self.page, re.S | re.M)}
        commands = table()
        self.assertEqual(list(sections), list(commands))
        for name, command in commands.items():
            tags = re.findall(r"^\.It (.*)$", sections[name], re.M)
            shown = [argument for argument in command["arguments"] if not argument["hidden"]]
            self.assertEqual(len(tags), len(shown))
            for tag, argument in zip(tags, shown):
                word = argument["name"]
                if argument["kind"] == "program":
                    want = f'Fl \\- Ar "{argument["metavar"]}"'
                elif is_option(argument):
                    letter = f"Fl {argument['letter']} , " if argument["letter"] else ""
                    value = "" if argument["kind"] == "flag" else f' Ar "{argument["metavar"]}"'
                    want = f'{letter}Fl "{word[1:]}"{value}'
                else:
                    want = f'Ar "{word}"'
                self.assertEqual(tag.replace("\\-", "-"), want.replace("\\-", "-"), name)

    def test_mandoc_has_nothing_to_say(self):
        if not shutil.which("mandoc"):
            self.skipTest("SKIPPED: mandoc is not installed")
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", MANUAL], capture_output=True, text=True)
        self.assertEqual(done.stdout + done.stderr, "")
        text = subprocess.run(["mandoc", "-T", "ascii", MANUAL], capture_output=True, text=True).stdout
        for section in ("EXIT STATUS", "EXAMPLES", "SECURITY CONSIDERATIONS"):
            self.assertIn(section, re.sub(r".\x08", "", text))


if __name__ == "__main__":
    unittest.main()
