# SPDX-License-Identifier: Apache-2.0
"""bash, zsh and fish are run, and asked what they offer at every place of every command: what the table says, which parser_test holds against the parser."""
import os
import pty
import select
import shutil
import subprocess
import time
import unittest

from support import NAME, Case, is_option, spellings, table

GLOBALS = {"--quiet", "--help", "--version"}
FILE_KINDS = {"input", "input_or_text", "labelled_input", "placed_input", "output", "update", "output_prefix", "path"}


class Bash:
    """Calls the completion function as readline does."""

    def __init__(self, script, folder):
        code = f'. "{script}"; while read -ra words; do COMP_WORDS=({NAME} "${{words[@]}}"); [[ ${{words[-1]}} == . ]] && COMP_WORDS[-1]=; ' \
               f'COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _{NAME.replace("-", "_")}; printf "%s\\n" "${{COMPREPLY[@]}}" END; done'
        self.process = subprocess.Popen(["bash", "--norc", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder)

    def offers(self, *words):
        split = [part for word in words for part in (word.replace("=", " = ").split() or ["."])]
        if words[-1].endswith("="):
            split.append(".")
        self.process.stdin.write(" ".join(split) + "\n")
        self.process.stdin.flush()
        out = set()
        while (line := self.process.stdout.readline()) not in ("END\n", ""):
            out.add(line.rstrip("\n"))
        return out - {""}

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


class Fish:
    """Asks fish's own complete -C."""

    def __init__(self, script, folder):
        home = folder / "fish-home"
        home.mkdir()
        code = f'source "{script}"; while read -l line; complete -C "$line"; echo END; end'
        self.process = subprocess.Popen(["fish", "--no-config", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
                                        env=os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)})

    def offers(self, *words):
        self.process.stdin.write(" ".join([NAME, *words]) + "\n")
        self.process.stdin.flush()
        out = set()
        while (line := self.process.stdout.readline()) not in ("END\n", ""):
            out.add(line.rstrip("\n").split("\t")[0])
        return out

    close = Bash.close


class Zsh:
    """An interactive zsh on a terminal of its own, whose compadd tells what it is given."""

    def __init__(self, script, folder):
        self.functions = folder / "zsh-functions"
        self.functions.mkdir()
        shutil.copy(script, self.functions / f"_{NAME}")
        self.told = folder / "told"
        os.mkfifo(self.told)
        (folder / "zsh-start").write_text(f'''
fpath=("{self.functions}" $fpath)
autoload -Uz compinit && compinit -D -u
compadd() {{
    if [[ " ${{(j: :)@[1,(i)(-|--)]}}" == *' '-[a-zA-Z]#[OAD]\\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    (($#hits)) && print -rl -- $hits >&$told
    builtin compadd "$@"
}}
setopt extended_glob
exec {{told}}<>"{self.told}"
_offers() {{ _main_complete; compstate[insert]=; compstate[list]= }}
zle -C offers complete-word _offers
ask() {{ zle offers; BUFFER=; print -r -- END >&$told }}
zle -N ask
bindkey '^T' ask
PROMPT=
print -r -- END >&$told
''')
        self.reader = os.fdopen(os.open(self.told, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe("zsh", ["zsh", "-f", "-i"], os.environ | {"TERM": "dumb", "COLUMNS": "200"})
        self.pending = b""
        os.write(self.terminal, b"source ./zsh-start\n")
        self.lines()

    def lines(self):
        """What is told until END."""
        deadline = time.monotonic() + 30
        while not self.pending.endswith(b"END\n"):
            ready, _, _ = select.select([self.reader, self.terminal], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"zsh says nothing: {self.pending}"
            if self.terminal in ready:
                os.read(self.terminal, 65536)  # the echo
            if self.reader in ready:
                self.pending += self.reader.read(65536) or b""
        out, self.pending = self.pending.decode().splitlines()[:-1], b""
        return out

    def offers(self, *words):
        os.write(self.terminal, " ".join([NAME, *words]).encode() + b"\x14")
        return {line.rstrip("=") if line.startswith("-") else line for line in self.lines()}

    def close(self):
        os.write(self.terminal, b"\x15exit\n")
        os.close(self.terminal)
        os.waitpid(self.pid, 0)
        self.reader.close()


class Completion:
    """The same questions to each shell."""

    def setUp(self):
        super().setUp()
        if not shutil.which(self.shell):
            self.skipTest(f"SKIPPED: {self.shell} is not installed, so its completion was not tried")
        (self.dir / "chain.bin").write_bytes(b"")
        (self.dir / "chips").mkdir()
        script = self.dir / "completion"
        script.write_text(self.ok("--print-completion", self.shell))
        self.asked = self.ask(script, self.dir)
        self.addCleanup(self.asked.close)

    def offers(self, *words):
        return {word.rstrip("/") for word in self.asked.offers(*words)}

    def test_first_words(self):
        firsts = {name.split()[0] for name in table()}
        self.assertEqual(self.offers("") - GLOBALS, firsts | {"help"})
        self.assertEqual(self.offers("-q", "") - GLOBALS, firsts | {"help"})
        self.assertEqual(self.offers("help", ""), firsts)
        self.assertLessEqual(GLOBALS, self.offers("-") | self.offers("--"))
        for name in firsts:
            self.assertIn(name, self.offers(name[:-1]))

    def test_second_words(self):
        families = {}
        for name in table():
            if " " in name:
                families.setdefault(name.split()[0], set()).add(name.split()[1])
        for first, seconds in families.items():
            self.assertEqual(self.offers(first, ""), seconds)
            self.assertEqual(self.offers("help", first, ""), seconds)

    def test_options(self):
        for name, command in table().items():
            options = [argument for argument in command["arguments"] if is_option(argument) and not argument["hidden"]]
            for words in (name.split(), [name.replace(" ", "-")], ["-q", *name.split()]):
                offered = {word for word in self.offers(*words, "--")} | {word for word in self.offers(*words, "-")}
                wanted = {spelling for option in options for spelling in spellings(option)} | {"--help"}
                if self.shell == "fish" and len(offered) < len(wanted):
                    # fish names the long spelling of an option alone
                    wanted = {word for word in wanted if word.startswith("--")}
                self.assertEqual(offered, wanted, words)

    def check_value(self, argument, *words):
        what = (words, argument["name"])
        if argument["kind"] == "choice":
            choices = set(argument["choices"].split("|"))
            self.assertEqual(self.offers(*words, ""), choices, what)
            for choice in choices:
                self.assertIn(choice, self.offers(*words, choice[:1]), what)
        elif argument["kind"] in FILE_KINDS:
            self.assertEqual(self.offers(*words, "ch"), {"chain.bin", "chips"}, what)
        elif argument["kind"] == "directory":
            self.assertEqual(self.offers(*words, "ch"), {"chips"}, what)
        else:
            self.assertEqual(self.offers(*words, "ch"), set(), what)

    def test_values_of_options(self):
        for name, command in table().items():
            for argument in command["arguments"]:
                if is_option(argument) and not argument["hidden"] and argument["kind"] != "flag":
                    for spelling in spellings(argument):
                        self.check_value(argument, *name.split(), spelling)
                    if argument["kind"] == "choice":
                        offered = {word.removeprefix(argument["name"] + "=") for word in self.offers(*name.split(), argument["name"] + "=")}
                        self.assertEqual(offered, set(argument["choices"].split("|")), (name, argument["name"]))

    def test_what_stands_alone(self):
        for name, command in table().items():
            positional = [argument for argument in command["arguments"] if not is_option(argument)]
            if any(argument["kind"] == "program" for argument in positional):
                self.assertIn("true", self.offers(*name.split(), "--", "tru"))
                self.assertEqual(self.offers(*name.split(), "--", "ls", "chai"), {"chain.bin"})
            elif not positional:
                self.assertEqual(self.offers(*name.split(), "ch"), set(), name)
            else:
                self.check_value(positional[0], *name.split())


class InBash(Completion, Case):
    shell, ask = "bash", Bash


class InZsh(Completion, Case):
    shell, ask = "zsh", Zsh


class InFish(Completion, Case):
    shell, ask = "fish", Fish


class Shells(Case):
    def test_the_shells_can_read_them(self):
        for shell, check in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])):
            if not shutil.which(shell):
                print(f"SKIPPED: {shell} is not installed, its completion was not read by it")
                continue
            script = self.dir / shell
            script.write_text(self.ok("--print-completion", shell))
            done = subprocess.run([*check, script], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.trouble("--print-completion", "csh", says="csh")


if __name__ == "__main__":
    unittest.main()
