# SPDX-License-Identifier: Apache-2.0
"""What the parser accepts is what the table says, and the help says so."""
import shlex
import unittest

from support import NAME, Case, is_option, spellings, table, with_required


class Parser(Case):
    def test_it_accepts_every_option_and_no_other(self):
        for name, command in table().items():
            words = name.split()
            for argument in filter(is_option, command["arguments"]):
                for spelling in spellings(argument):
                    value = [] if argument["kind"] == "flag" else [(argument["choices"] or "x").split("|")[0]]
                    # --help wins over what else is wrong, unless an option is unknown
                    self.assertIn(f"usage: {NAME}", self.ok(*words, spelling, *value, "--help"), (name, spelling))
                    if value:
                        self.trouble(*words, spelling, says=argument["name"])
                        self.ok(*words, f"{argument['name']}={value[0]}", "--help")
            self.trouble(*words, "--no-such-option", says=name)
            self.assertEqual(self.ok("-".join(words), "-h"), self.ok("help", *words))

    def test_required_arguments_are_required(self):
        for name, command in table().items():
            if any(argument["required"] for argument in command["arguments"]):
                self.trouble(*name.split(), says=name)

    def test_choices_are_the_only_values(self):
        for name, command in table().items():
            for argument in command["arguments"]:
                if argument["kind"] != "choice":
                    continue
                words = ([argument["name"]] if is_option(argument) else []) + ["no-such-choice"]
                self.trouble(*name.split(), *with_required(command, argument, *words), says="no-such-choice")

    def test_options_are_given_once(self):
        for name, command in table().items():
            for argument in filter(is_option, command["arguments"]):
                if argument["kind"] == "flag" or argument["repeated"]:
                    continue
                value = (argument["choices"] or "x").split("|")[0]
                self.trouble(*name.split(), *with_required(command, argument, argument["name"], value, argument["name"], value), says=argument["name"])

    def test_words(self):
        self.assertEqual(self.ok("help"), self.ok("--help"))
        for name in table():
            self.assertIn(name, self.ok("help"))
            if " " in name:
                family = self.ok(name.split()[0], "--help")
                self.assertIn(name, family)
                self.assertEqual(family, self.ok("help", name.split()[0]))
                self.trouble(name.split()[0], says=name)
                self.trouble(name.split()[0], "burn", says=name)
        self.assertRegex(self.ok("--version"), rf"^{NAME} \d+\.\d+\.\d+ \(xen-sev\)\n$")
        self.assertEqual(self.ok("--version"), self.ok("-V"))
        self.trouble(says="no command")
        self.trouble("everything", says="everything is no command")
        self.trouble("\x1b[31mred\nline", says="\\x1b")

    def test_help_names_everything_on_80_columns(self):
        for text in [self.ok("help")] + [self.ok("help", *name.split()) for name in table()]:
            for line in text.splitlines():
                self.assertTrue(len(line) <= 80 or line.startswith("example: "), line)
        for name, command in table().items():
            text = self.ok("help", *name.split())
            for argument in command["arguments"]:
                word = argument["metavar"] if argument["kind"] == "program" else argument["name"]
                self.assertEqual(word in text, not argument["hidden"], (name, argument["name"]))

    def test_examples_parse(self):
        for name, command in table().items():
            words = shlex.split(command["example"])
            self.assertEqual(words[0], NAME)
            self.assertEqual(words[1:1 + len(name.split())], name.split())
            at = words.index("--") if "--" in words else len(words)
            self.ok(*words[1:at], "--help", *words[at:])


if __name__ == "__main__":
    unittest.main()
