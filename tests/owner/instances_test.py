# SPDX-License-Identifier: Apache-2.0
"""Three instances of one owner over one real PostgreSQL: any answers any step, and killing one at any step releases nothing twice and loses no
audit record."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import host
import with_postgresql
import support
from support import OWNER, Case, Owner

SEED = int(os.environ.get("SEV_SEED", "20261122"))
ROUNDS = int(os.environ.get("SEV_ROUNDS", "24"))


class Instances(Case):
    @classmethod
    def setUpClass(cls):
        folder = with_postgresql.find_server()
        if not folder:
            raise unittest.SkipTest("SKIPPED: no PostgreSQL server is installed (package postgresql)")
        cls.server = with_postgresql.Server(folder)
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__)

    def setUp(self):
        super().setUp()
        schema = f"s{random.SystemRandom().randrange(10**9)}"
        store = {"postgresql": self.server.connection, "schema": schema}
        limits = {"requests_per_second": 100000, "burst": 100000, "workers": 4}
        first = self.owner("one", store=store, limits=limits)
        self.three = [first, *(self.owner(name, like=first, store=store, limits=limits) for name in ("two", "three"))]
        self.assertEqual(len({json.dumps(owner.jwk) for owner in self.three}), 1)
        for owner in self.three:
            owner.start()

    def verify(self):
        out = json.loads(self.three[0].command("audit", "verify", "--json"))
        self.assertTrue(out["intact"])
        return [json.loads(line) for line in self.three[1].command("audit", "show").splitlines()]

    def test_any_instance_answers_any_step(self):
        for i in range(6):
            answer, session = self.launch(self.three[i % 3].ask, self.three[(i + 1) % 3].ask)
            self.expect_trusted(answer, session)

    def test_the_same_step_at_once_on_three(self):
        for _ in range(6):
            session = host.Session(self.three[0].ask(host.session_request())["offer"])
            second = host.judgement_request(session.evidence())
            answers = []
            threads = [threading.Thread(target=lambda owner=owner: answers.append(owner.ask(second))) for owner in self.three for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len(answers), 9)
            released = [answer for answer in answers if "judgement" in answer]
            self.assertEqual(len(released), 1)
            self.expect_trusted(released[0], session)
            self.assertEqual({answer["trouble"]["message"] for answer in answers if "trouble" in answer}, {"the session was used already"})
        self.verify()

    def test_killing_an_instance_at_each_step(self):
        """The one that works on a step is killed before it is asked, when it has answered, and in most rounds while it works, after a time drawn from
        a fixed seed. Then another is asked the same."""
        print(f"seed {SEED}, {ROUNDS} rounds", file=sys.stderr)
        draw = random.Random(SEED)
        ends = {"before": 0, "lost": 0, "after": 0}
        plan = [(step, when) for step in (1, 2) for when in ("before", "after")]
        plan += [(draw.choice((1, 2)), "during") for _ in range(ROUNDS)]
        for number, (step, when) in enumerate(plan):
            victim, other = draw.sample(self.three, 2)
            first = host.session_request(launch=f"launch {number}")
            delay = draw.uniform(0, 0.025)
            got = []

            def ask(body, who=victim, into=got):
                try:
                    into.append(who.ask(body))
                except (OSError, AssertionError, ValueError):
                    pass  # killed under it: no answer, or half of one

            def ask_and_kill(body):
                thread = threading.Thread(target=ask, args=(body,))
                if when == "before":
                    victim.stop(signal.SIGKILL)
                    thread.start()
                else:
                    thread.start()
                    if when == "after":
                        thread.join(30)
                    else:
                        time.sleep(delay)
                    victim.stop(signal.SIGKILL)
                thread.join(30)
                self.assertFalse(thread.is_alive())
                if when != "during":
                    self.assertEqual(bool(got), when == "after")

            if step == 1:
                ask_and_kill(first)
                offer = (got.pop() if got else other.ask(host.session_request(launch=f"launch {number}")))["offer"]
                session = host.Session(offer)
                self.expect_trusted(other.ask(host.judgement_request(session.evidence())), session)
            else:
                session = host.Session(other.ask(first)["offer"])
                second = host.judgement_request(session.evidence())
                ask_and_kill(second)
                again = other.ask(second)
                released = [answer for answer in [*got, again] if "judgement" in answer]
                self.assertLessEqual(len(released), 1, "released twice")
                if got:
                    ends["after"] += 1
                elif "judgement" in again:
                    ends["before"] += 1
                else:
                    ends["lost"] += 1
                if not got or "judgement" not in got[0]:
                    self.assertTrue("judgement" in again or again["trouble"]["message"] == "the session was used already", again)
            victim.start()
            if number + 1 == len(plan) and not ends["lost"] and len(plan) < 10 * ROUNDS:
                plan.append((2, "during"))  # none was hit at work yet
        print(f"killed in step 2: {ends}", file=sys.stderr)
        for end, count in ends.items():
            self.assertGreater(count, 0, f"no instance was killed so that step 2 ended like this: {end}")
        records = self.verify()
        taken = [record["session"] for record in records if record["event"] == "session.taken"]
        self.assertEqual(len(taken), len(set(taken)), "a session was taken twice")
        judged = [record["session"] for record in records if record["event"] == "session.judged"]
        self.assertEqual(len(judged), len(set(judged)))
        self.assertLessEqual(set(judged), set(taken))
        sessions = json.loads(self.three[2].command("sessions", "list", "--limit", "1000", "--json"))["sessions"]
        self.assertLessEqual({session["state"] for session in sessions}, {"open", "taken", "trusted"})
        self.assertEqual(sum(session["state"] == "trusted" for session in sessions), len(judged))

    def test_a_server_that_goes_away_is_trouble_and_then_not(self):
        session = host.Session(self.three[0].ask(host.session_request())["offer"])
        self.server.stop()
        down = self.three[0].ask(host.session_request())  # still a signed answer
        self.assertIn("its log says why", down["trouble"]["message"])
        self.assertEqual(self.three[0].get("/health").status, 503)
        self.server.start()
        for owner in self.three:
            for _ in range(3):  # each connection notices by itself
                up = owner.ask(host.session_request())
            self.assertIn("offer", up)
        self.expect_trusted(self.three[1].ask(host.judgement_request(session.evidence())), session)
        self.verify()

    def test_another_owner_cannot_take_the_store(self):
        stranger = self.owner("stranger")
        stranger.change(store=json.loads(self.three[0].config.read_text())["store"])
        with self.assertRaisesRegex(AssertionError, "belongs to owner"):
            stranger.command("check")

    def copy_keys(self):
        for owner in self.three[1:]:
            shutil.copy(self.three[0].folder / "seal.keys", owner.folder / "seal.keys")

    def test_seal_keys_rotated_under_running_instances(self):
        sessions = [host.Session(self.three[0].ask(host.session_request())["offer"]) for _ in range(6)]
        judge = lambda owner, session: self.expect_trusted(owner.ask(host.judgement_request(session.evidence())), session)
        judge(self.three[0], sessions[0])
        prepared = self.three[0].command("key", "rotate", "--prepare").strip()
        judge(self.three[1], sessions[1])  # whose file has never heard of it
        self.copy_keys()
        judge(self.three[2], sessions[2])
        self.assertIn(f"new seal key {prepared}", self.three[0].command("key", "rotate", "--key", prepared))
        for owner, session in zip(self.three, sessions[3:]):
            judge(owner, session)  # nobody was reloaded: each met the key, and read its file again
        late = host.Session(self.three[1].ask(host.session_request())["offer"])
        self.copy_keys()
        for owner in self.three:
            owner.process.send_signal(signal.SIGHUP)
        time.sleep(1.5)
        judge(self.three[2], late)
        self.three[0].command("key", "rotate", "--retire")
        self.three[0].command("key", "rotate", "--prepare", "--retire", status=2)
        self.three[0].command("key", "rotate", "--key", "0123456789abcdef", status=2)
        answer, session = self.launch(self.three[0].ask, self.three[1].ask)
        self.expect_trusted(answer, session)

    def test_a_server_that_says_nothing_any_more_keeps_nobody_waiting_for_long(self):
        asked, idle, _ = self.three
        self.server.signal_all(signal.SIGSTOP)
        self.addCleanup(self.server.signal_all, signal.SIGCONT)
        got, took = [], []

        def timed(question):
            begun = time.monotonic()
            got.append(question())
            took.append(time.monotonic() - begun)

        # more than it has workers
        questions = [lambda: asked.get("/health").status] * 6 + [lambda: "trouble" in asked.ask(host.session_request())] * 2
        threads = [threading.Thread(target=timed, args=(question,)) for question in questions]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        self.assertEqual(idle.stop(), 0)
        self.assertLess(time.monotonic() - begun, 25)
        for thread in threads:
            thread.join(40)
        self.assertEqual((got.count(503), got.count(True)), (6, 2), got)
        self.assertLess(max(took), 25)
        begun = time.monotonic()
        self.assertEqual(asked.get("/health").status, 503)
        self.assertLess(time.monotonic() - begun, 8)  # nobody waits as long again
        self.server.signal_all(signal.SIGCONT)
        time.sleep(1.5)
        idle.start()
        for owner in self.three:
            answer, session = self.launch(owner.ask)
            self.expect_trusted(answer, session)
        self.verify()


class Silent(Case):
    def test_a_server_that_takes_connections_and_says_nothing(self):
        folder = self.dir / "silent"
        folder.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / ".s.PGSQL.5432"))
            listener.listen(16)
            for more, least, most in (("", 4, 15), (" connect_timeout=2", 1, 8)):
                owner = self.owner("one" + more.strip(), store={"postgresql": f"host={folder} user=tester dbname=postgres{more}", "schema": "s"})
                begun = time.monotonic()
                done = subprocess.run(
                    [OWNER, "exchange", "--config", str(owner.config), "--channel", "dom0", "--unlocked-memory"],
                    input=host.session_request(),
                    capture_output=True,
                    check=False,
                    timeout=120,
                )
                took = time.monotonic() - begun
                self.assertEqual((done.returncode, done.stdout), (2, b""), done.stderr)
                self.assertIn(b"store: PostgreSQL: ", done.stderr)
                self.assertIn(b"timeout expired", done.stderr)
                self.assertTrue(least <= took <= most, took)


if __name__ == "__main__":
    support.main()
