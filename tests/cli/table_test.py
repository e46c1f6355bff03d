# SPDX-License-Identifier: Apache-2.0
"""The manual, the help and the completions say what the parser accepts: all of it, and nothing else."""
import re
import shutil
import subprocess
import unittest

from support import ROOT, Case, sevctl, table


class Table(Case):
    def test_the_parser_accepts_every_option_and_no_other(self):
        for name, command in table().items():
            words = name.split()
            for argument in command["arguments"]:
                if not argument["name"].startswith("-"):
                    continue
                for spelling in [argument["name"]] + ([f"-{argument['letter']}"] if argument["letter"] else []):
                    value = [] if argument["kind"] == "flag" else [(argument["choices"] or "x").split("|")[0]]
                    # --help wins over what else is wrong, unless an option is unknown
                    self.assertIn("usage: sevctl", self.ok(*words, spelling, *value, "--help"), (name, spelling))
                    if value:
                        self.trouble(*words, spelling)
            self.trouble(*words, "--no-such-option", says=name)
            self.assertEqual(self.ok("-".join(words), "-h"), self.ok("help", *words))

    def test_required_arguments_are_required(self):
        for name, command in table().items():
            if any(argument["required"] for argument in command["arguments"]):
                self.trouble(*name.split(), says=name)

    def test_options_are_given_once(self):
        self.trouble("verify", "--sev", "a", "--sev", "b", says="--sev")

    def test_words(self):
        self.assertIn("vmsa build", self.ok("help"))
        self.assertEqual(self.ok("help"), self.ok("--help"))
        self.assertRegex(self.ok("--version"), r"^sevctl \d+\.\d+\.\d+ \(xen-sev\)\n$")
        self.trouble(says="no command")
        self.trouble("vmsa", says="vmsa show")
        self.trouble("vmsa", "burn", says="vmsa build")
        self.trouble("export-everything", says="export-everything")
        self.trouble("\x1b[31mred\nline", says="\\x1b")

    def test_help_names_everything_on_80_columns(self):
        for name, command in table().items():
            text = self.ok("help", *name.split())
            for argument in command["arguments"]:
                self.assertEqual(argument["name"] in text, not argument["hidden"], (name, argument["name"]))
            for line in text.splitlines():
                self.assertTrue(len(line) <= 80 or line.startswith("example: "), line)

    def test_examples_parse(self):
        for name, command in table().items():
            words = command["example"].split()
            self.assertEqual(words[0], "sevctl")
            self.assertEqual(words[1:1 + len(name.split())], name.split())
            self.ok(*words[1:], "--help")


class Manual(Case):
    def setUp(self):
        super().setUp()
        self.page = (ROOT / "sevctl/sevctl.1").read_text()

    def test_it_is_the_one_the_table_makes(self):
        self.assertEqual(self.page, self.ok("--print-man"), "make it again: sevctl --print-man > sevctl/sevctl.1")

    def test_it_has_every_command_and_option_in_its_section(self):
        sections = {name.replace("\\-", "-"): text for name, text in re.findall(r'^\.Ss "(.*?)"\n(.*?)(?=^\.S[sh] |\Z)', self.page, re.S | re.M)}
        commands = table()
        self.assertEqual(list(sections), list(commands))
        for name, command in commands.items():
            tags = re.findall(r"^\.It (.*)$", sections[name], re.M)
            self.assertEqual(len(tags), sum(not argument["hidden"] for argument in command["arguments"]))
            for argument in command["arguments"]:
                word = argument["name"][1:].replace("-", "\\-") if argument["name"].startswith("-") else argument["name"]
                self.assertEqual(any(f'"{word}"' in tag for tag in tags), not argument["hidden"], (name, argument["name"]))

    def test_mandoc_has_nothing_to_say(self):
        if not shutil.which("mandoc"):
            self.skipTest("SKIPPED: mandoc is not installed")
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", ROOT / "sevctl/sevctl.1"], capture_output=True, text=True)
        self.assertEqual(done.stdout + done.stderr, "")
        text = subprocess.run(["mandoc", "-T", "ascii", ROOT / "sevctl/sevctl.1"], capture_output=True, text=True).stdout
        for section in ("EXIT STATUS", "EXAMPLES", "COMPATIBILITY", "SECURITY CONSIDERATIONS"):
            self.assertIn(section, re.sub(r".\x08", "", text))


class Completion(Case):
    def bash(self, *words):
        """What bash offers for the last of these words."""
        script = self.file("completion", self.ok("--print-completion", "bash").encode())
        code = f'. "{script}"; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _sevctl; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", code, "bash", "sevctl", *words], capture_output=True, text=True, cwd=self.dir)
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def test_bash_offers_what_the_parser_accepts(self):
        commands = table()
        self.assertEqual(self.bash("") - {"help", "--quiet", "--help", "--version"}, {name.split()[0] for name in commands})
        for name, command in commands.items():
            first, *second = name.split()
            if second:
                self.assertIn(second[0], self.bash(first, ""))
            wanted = {argument["name"] for argument in command["arguments"] if argument["name"].startswith("-") and not argument["hidden"]}
            letters = {f"-{argument['letter']}" for argument in command["arguments"] if argument["letter"]}
            for words in ([first, *second], ["-".join([first, *second])], ["-q", first, *second]):
                self.assertEqual(self.bash(*words, "-"), wanted | letters | {"--help"}, words)
            for argument in command["arguments"]:
                if argument["kind"] == "choice":
                    option = [argument["name"]] if argument["name"].startswith("-") else []
                    self.assertEqual(self.bash(*name.split(), *option, ""), set(argument["choices"].split("|")))

    def test_bash_offers_files(self):
        self.file("chain.bin", b"")
        self.assertIn("chain.bin", self.bash("verify", "--sev", "ch"))
        self.assertIn("chain.bin", self.bash("session", "ch"))
        self.assertEqual(self.bash("session", "--json", "--no-such"), set())

    def test_zsh_and_fish_name_everything(self):
        zsh, fish = self.ok("--print-completion", "zsh"), self.ok("--print-completion", "fish")
        for name, command in table().items():
            self.assertIn(f"'{name.replace(' ', '-')}:", zsh)
            section = re.search(rf"^        {name.replace(' ', '-')}\)\n(.*?);;$", zsh, re.S | re.M).group(1)
            lines = [line for line in fish.splitlines() if f"from {name.split()[-1]}'" in line or (" " not in name and f"from {name}'" in line)]
            for argument in command["arguments"]:
                if not argument["name"].startswith("-"):
                    continue
                self.assertEqual(f"{argument['name']}[" in section, not argument["hidden"], (name, argument["name"]))
                self.assertEqual(any(f" -l {argument['name'][2:]} " in line for line in lines), not argument["hidden"], (name, argument["name"]))

    def test_the_shells_can_read_them(self):
        for shell, check in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])):
            if not shutil.which(shell):
                print(f"SKIPPED: {shell} is not installed, its completion was not read by it")
                continue
            done = subprocess.run([*check, self.file(shell, self.ok("--print-completion", shell).encode())], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.trouble("--print-completion", "csh", says="csh")


if __name__ == "__main__":
    unittest.main()
