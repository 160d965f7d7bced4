"""`moira run` and `moira chat` as a person sees them: prompts, streaming, Ctrl-C, colours; and as a script sees them."""

import json
import signal
import subprocess
import time
import unittest

from server_process import ANSWER_S, executable
from terminal import Terminal

QUIET = ("--set", "log.level=error")
ENDLESS = ("-n", "500", "--ignore-eos", *QUIET)


def moira(*arguments, text="", environment=None):
    """The finished process of a run without a terminal."""
    return subprocess.run([executable(), *arguments, *QUIET], input=text, capture_output=True, text=True,
                          timeout=ANSWER_S, env=environment)


def interrupted_run(*arguments):
    """Presses Ctrl-C once text has arrived: (exit code, standard output, standard error)."""
    child = subprocess.Popen([executable(), "run", "-p", "Once upon a time", *arguments], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=ANSWER_S)
    return child.returncode, (first + out).decode(), err.decode()


class Run(unittest.TestCase):
    def test_ctrl_c_keeps_the_text_and_says_so(self):
        code, out, err = interrupted_run(*ENDLESS, "--set", "compute.plugin=cpu_reference")
        self.assertEqual(code, 130, err)
        self.assertTrue(out)
        self.assertEqual(len(err.strip().splitlines()), 2, err)  # the summary and its verdict
        self.assertIn("ended by Ctrl-C", err.strip().splitlines()[0])

    def test_standard_input_is_the_prompt(self):
        piped = moira("run", "-n", "5", "--json", text="Once upon a time")
        given = moira("run", "-n", "5", "--json", "-p", "Once upon a time")
        self.assertEqual(piped.returncode, 0, piped.stderr)
        self.assertEqual(json.loads(piped.stdout)["logits_hash"], json.loads(given.stdout)["logits_hash"])

    def test_a_pipe_gets_text_only_and_a_summary_with_its_verdict(self):
        done = moira("run", "-n", "5", "-p", "Once upon a time")
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("\x1b", done.stdout + done.stderr)
        self.assertNotIn("loading", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 2, done.stderr)
        self.assertRegex(done.stderr.strip().splitlines()[1], r"^verdict: .")
        self.assertRegex(done.stderr, r"limited by (computing|reading experts); ended by the limit of 5 tokens")

    def test_a_reader_that_leaves_ends_the_run(self):
        child = subprocess.Popen([executable(), "run", "-p", "Once upon a time", *ENDLESS], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.read(1)
        child.stdout.close()
        err = child.stderr.read().decode()
        child.stderr.close()
        self.assertEqual(child.wait(timeout=ANSWER_S), 1, err)
        self.assertIn("io_error", err)

    def test_a_terminal_is_told_to_type(self):
        with Terminal("run", "-n", "3", *QUIET) as terminal:
            terminal.wait_for("type the prompt")
            terminal.type("Once upon a time\n\x04")
            terminal.wait_for("ended by the limit of 3 tokens")
            self.assertEqual(terminal.exit_code(), 0)


class Chat(unittest.TestCase):
    def test_a_conversation_on_a_terminal(self):
        with Terminal("chat", "-n", "8", "--ignore-eos", *QUIET) as terminal:
            terminal.wait_for(">>> ")
            terminal.type("What is 24 + 20?\n")
            answer = terminal.wait_for(">>> ")
            self.assertGreater(len(answer.replace("What is 24 + 20?", "").strip()), 0)
            self.assertIn("cut after 8 tokens", answer)
            terminal.type("/help\n")
            self.assertIn("/reset", terminal.wait_for(">>> "))
            terminal.type("/nonsense\n")
            self.assertIn("no command /nonsense", terminal.wait_for(">>> "))
            terminal.type("/reset\n")
            self.assertIn("forgotten", terminal.wait_for(">>> "))
            terminal.type("/quit\n")
            self.assertEqual(terminal.exit_code(), 0)
            self.assertIn(b"\x1b[", terminal.raw)

    def test_ctrl_d_leaves_and_colours_can_be_refused(self):
        with Terminal("chat", *QUIET, environment={"NO_COLOR": "1"}) as terminal:
            terminal.wait_for(">>> ")
            terminal.type("\x04")
            self.assertEqual(terminal.exit_code(), 0)
            self.assertNotIn(b"\x1b[1m", terminal.raw)
            self.assertNotIn(b"\x1b[2m", terminal.raw)

    def test_ctrl_c_stops_the_answer_and_a_second_one_leaves(self):
        with Terminal("chat", "-n", "400", "--ignore-eos", *QUIET, "--set", "compute.plugin=cpu_reference") as terminal:
            terminal.wait_for(">>> ")
            terminal.type("Repeat: one two three\n")
            terminal.wait_for("three\n")
            terminal.wait_for_any()
            terminal.press_ctrl_c()
            terminal.wait_for("stopped; what was said is kept")
            terminal.wait_for(">>> ")
            terminal.press_ctrl_c()
            self.assertEqual(terminal.exit_code(), 130)

    def test_an_overlong_text_is_refused_and_the_talk_goes_on(self):
        with Terminal("chat", "-n", "4", *QUIET) as terminal:
            terminal.wait_for(">>> ")
            terminal.type("word " * 700 + "\n")
            self.assertIn("context", terminal.wait_for(">>> "))
            terminal.type("What is 1 + 1?\n")
            terminal.wait_for(">>> ")
            terminal.type("\x04")
            self.assertEqual(terminal.exit_code(), 0)

    def test_a_line_is_a_turn_and_the_conversation_is_kept(self):
        done = moira("chat", "-n", "6", "--ignore-eos", "--json", text="What is 24 + 20?\n\n//and this\nlast")
        self.assertEqual(done.returncode, 0, done.stderr)
        turns = json.loads(done.stdout)["turns"]
        self.assertEqual([turn["user"] for turn in turns], ["What is 24 + 20?", "/and this", "last"])
        sizes = [turn["prompt_tokens"] for turn in turns]
        self.assertTrue(sizes[0] < sizes[1] < sizes[2], sizes)
        self.assertTrue(turns[1]["cached_tokens"] > 0, turns)
        plain = moira("chat", "-n", "6", "--ignore-eos", text="What is 24 + 20?\n")
        self.assertEqual(plain.stdout, turns[0]["text"] + "\n")
        self.assertNotIn(">>>", plain.stdout + plain.stderr)
        self.assertNotIn("\x1b", plain.stdout + plain.stderr)

    def test_the_oldest_turns_leave_a_full_context_with_a_note(self):
        lines = "\n".join(f"Repeat: number {n}" for n in range(12))
        done = moira("chat", "-n", "60", "--ignore-eos", "--json", text=lines)
        self.assertEqual(done.returncode, 0, done.stderr)
        turns = json.loads(done.stdout)["turns"]
        self.assertEqual(len(turns), 12)
        self.assertGreater(sum(turn["dropped_turns"] for turn in turns), 0)
        self.assertTrue(all(turn["completion_tokens"] == 60 for turn in turns), turns)
        self.assertIn("left the context of 512 tokens", done.stderr)

    def test_a_script_learns_that_a_line_was_refused(self):
        done = moira("chat", "-n", "4", text="word " * 700 + "\nnever said\n")
        self.assertEqual(done.returncode, 2)
        self.assertIn("prompt_too_long", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_the_first_turn_is_what_run_generates(self):
        talked = moira("chat", "-n", "8", "--ignore-eos", "--json", text="What is 24 + 20?\n")
        ran = moira("run", "--chat", "-n", "8", "--ignore-eos", "--json", "-p", "What is 24 + 20?")
        self.assertEqual(json.loads(talked.stdout)["turns"][0]["logits_hash"], json.loads(ran.stdout)["logits_hash"])


if __name__ == "__main__":
    unittest.main()
