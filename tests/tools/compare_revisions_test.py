#!/usr/bin/env python3
"""tools/compare_revisions: its arithmetic, and a whole comparison in a small repository whose program only pretends."""

import importlib.machinery
import importlib.util
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/compare_revisions")


def load_tool():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("compare_revisions", TOOL)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare_revisions", loader))
    loader.exec_module(module)
    return module


tool = load_tool()
import paired_measurements as paired  # noqa: E402, found beside the tool


class Figures(unittest.TestCase):
    ROW = {"batch": 1, "decode_tok_s": 50.0, "itl_ms": {"p99": 4}, "hash": "a", "yes": True,
           "ops": {"decode": {"step_us": 9, "kinds": [{"op": "gemm", "us_per_step": 2}, {"op": "gemm", "us_per_step": 3}]}}}

    def test_paths(self):
        self.assertEqual(paired.value_of(self.ROW, "decode_tok_s"), 50)
        self.assertEqual(paired.value_of(self.ROW, "itl_ms.p99"), 4)
        self.assertEqual(paired.value_of(self.ROW, "ops.decode.kinds.gemm.us_per_step"), 5)
        for absent in ("hash", "yes", "itl_ms", "itl_ms.p50", "ops.decode.kinds.rope.us_per_step", "decode_tok_s.p"):
            self.assertIsNone(paired.value_of(self.ROW, absent), absent)

    def test_above_one_is_faster_whatever_the_figure_counts(self):
        slow = {"decode_tok_s": 50, "itl_ms": {"p99": 20}, "ops": {"decode": {"step_us": 8, "us_per_op": 2}}}
        fast = {"decode_tok_s": 100, "itl_ms": {"p99": 10}, "ops": {"decode": {"step_us": 4, "us_per_op": 1}}}
        for figure in ("decode_tok_s", "itl_ms.p99", "ops.decode.step_us", "ops.decode.us_per_op"):
            self.assertEqual(paired.speed_ratio(slow, fast, figure), 2, figure)
        self.assertIsNone(paired.speed_ratio({"decode_tok_s": 0}, fast, "decode_tok_s"))


class Intervals(unittest.TestCase):
    def test_without_spread_the_interval_is_the_ratio(self):
        for value in paired.bootstrap([0.9] * 7):
            self.assertAlmostEqual(value, 0.9, places=12)

    def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says(self):
        draw, held, rounds = random.Random(5), 0, 60
        resamplings, paired.RESAMPLINGS = paired.RESAMPLINGS, 1000
        for _ in range(rounds):
            ratios = [math.exp(draw.gauss(math.log(1.1), 0.1)) for _ in range(15)]
            _, low, high = paired.bootstrap(ratios)
            held += low <= 1.1 <= high
        paired.RESAMPLINGS = resamplings
        # Of 60 at 95 %: 57 expected, below 50 with a chance of about one in a thousand; the seed is fixed.
        self.assertGreaterEqual(held, 50)

    def test_pairs_cancel_what_disturbs_both(self):
        draw, pairs = random.Random(6), []
        for _ in range(15):
            machine = draw.uniform(0.2, 1)
            pairs.append(tuple([{"batch": 1, "decode_tok_s": speed * machine * draw.uniform(0.99, 1.01)}]
                               for speed in (100, 90)))
        found = paired.compare(pairs, ["decode_tok_s", "absent"], 0.02)
        self.assertEqual(len(found), 1)
        self.assertEqual(found[0]["verdict"], "slower")
        self.assertAlmostEqual(found[0]["ratio"], 0.9, delta=0.01)

    def test_verdicts(self):
        self.assertEqual(paired.verdict_of(0.90, 0.97, 0.02), "slower")
        self.assertEqual(paired.verdict_of(1.03, 1.20, 0.02), "faster")
        self.assertEqual(paired.verdict_of(0.99, 1.01, 0.02), "same")
        self.assertEqual(paired.verdict_of(0.90, 1.01, 0.02), "unclear")


CMAKE_TEXT = """cmake_minimum_required(VERSION 3.25)
project(pretended NONE)
option(MOIRA_TESTS "" ON)
configure_file(moira bin/moira COPYONLY)
"""
PRESETS_TEXT = json.dumps({
    "version": 6,
    "configurePresets": [{"name": "release", "generator": "Ninja", "binaryDir": "${sourceDir}/build/${presetName}"}],
    "buildPresets": [{"name": "release", "configurePreset": "release"}]})
PROGRAM_TEXT = """#!/bin/sh
case "$*" in
"bench --json -m "*" --batch 1") ;;
*) echo "unexpected: $*" >&2; exit 2 ;;
esac
echo '[{{"batch":1,"numerics_id":"n","logits_hash":"{hash}","decode_tok_s":{speed}}}]'
"""


class WholeComparison(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.repository = os.path.join(self.folder.name, "checkout")
        os.mkdir(self.repository)
        self.git("init", "-q")
        self.commit(speed=100, digest="a", tag="first")
        self.commit(speed=80, digest="a", tag="slow")
        self.commit(speed=101, digest="b", tag="other")
        self.commit(speed='"none"', digest="a", tag="broken")

    def git(self, *arguments):
        subprocess.run(["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-C", self.repository, *arguments],
                       check=True, stdout=subprocess.DEVNULL)

    def commit(self, speed, digest, tag):
        for name, text in (("CMakeLists.txt", CMAKE_TEXT), ("CMakePresets.json", PRESETS_TEXT), (".gitignore", "build/\n"),
                           ("moira", PROGRAM_TEXT.format(hash=digest, speed=speed))):
            with open(os.path.join(self.repository, name), "w", encoding="utf-8") as file:
                file.write(text)
        os.chmod(os.path.join(self.repository, "moira"), 0o755)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", tag)
        self.git("tag", tag)

    def compare(self, *arguments):
        work = os.path.join(self.folder.name, "work")
        return subprocess.run([sys.executable, "-B", TOOL, "--repository", self.repository, "--work", work,
                               "--model", self.folder.name, "--pairs", "3", *arguments, "--", "--batch", "1"],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    def test_a_slower_revision_is_exit_code_3(self):
        done = self.compare("first", "slow", "--json")
        self.assertEqual(done.returncode, 3, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual([each["figure"] for each in found["figures"]], ["decode_tok_s"])
        self.assertAlmostEqual(found["figures"][0]["ratio"], 0.8, places=9)
        self.assertEqual(found["logits_differ"], [])

    def test_a_revision_as_fast_is_exit_code_0_and_other_logits_are_named(self):
        done = self.compare("first", "other")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("same", done.stdout)
        self.assertIn("logits differ: batch 1", done.stdout)
        # The trees stay outside the checkout, and the next comparison uses them again.
        self.assertEqual(len(os.listdir(os.path.join(self.folder.name, "work"))), 2)
        self.assertEqual(self.compare("first", "other", "--remove").returncode, 0)
        self.assertEqual(os.listdir(os.path.join(self.folder.name, "work")), [])

    def test_what_cannot_be_compared_is_said(self):
        self.assertEqual(self.compare("first", "nowhere").returncode, 1)
        self.assertEqual(self.compare("first", "broken").returncode, 1)
        self.assertEqual(self.compare("first", "slow", "--pairs", "0").returncode, 2)
        self.assertEqual(self.compare("first", "slow", "--work", os.path.join(self.repository, "inside")).returncode, 2)


if __name__ == "__main__":
    unittest.main()
