#!/usr/bin/env python3
"""tools/compare_settings with a program that only pretends to measure. The arithmetic: see compare_revisions_test.py."""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/compare_settings")

# Writes down how it was called, counts busy children of its parent, and is faster with experts.prefetch=auto.
PROGRAM_TEXT = r"""#!/usr/bin/env python3
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
beside = 0
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{process}/stat") as file:
            beside += int(file.read().rsplit(")", 1)[1].split()[1]) == os.getppid() and int(process) != os.getpid()
    except OSError:
        pass
with open(os.path.join(folder, "calls"), "a") as file:
    file.write(json.dumps({"words": sys.argv[1:], "beside": beside}) + "\n")
if "experts.policy=broken" in sys.argv:
    sys.exit("no such policy")
row = {"decode_tok_s": 110 if "experts.prefetch=auto" in sys.argv else 100, "numerics_id": "n",
       "logits_hash": "b" if "other.words=1" in sys.argv else "a"}
print(json.dumps(row if sys.argv[1] == "run" else [dict(row, batch=1)]))
"""


class Comparison(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.program = os.path.join(self.folder.name, "moira")
        with open(self.program, "w", encoding="utf-8") as file:
            file.write(PROGRAM_TEXT)
        os.chmod(self.program, 0o755)

    def command(self, *arguments):
        return [sys.executable, "-B", TOOL, "--moira", self.program, "--model", self.folder.name, *arguments]

    def compare(self, *arguments):
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    def calls(self):
        with open(os.path.join(self.folder.name, "calls"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def test_variants_measure_in_swapped_order_and_the_later_ones_are_compared_with_the_first(self):
        done = self.compare("--of", "off", "experts.prefetch=off", "--of", "auto", "experts.prefetch=auto", "--rounds", "2",
                            "--json", "--", "--batch", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)["comparisons"]
        self.assertEqual([each["name"] for each in found], ["auto"])
        self.assertAlmostEqual(found[0]["figures"][0]["ratio"], 1.1, places=9)
        self.assertEqual(found[0]["figures"][0]["verdict"], "faster")
        settings = [call["words"][call["words"].index("--set") + 1] for call in self.calls()]
        first, second = "experts.prefetch=off", "experts.prefetch=auto"
        self.assertEqual(settings, [first, second, second, first, first, second])
        self.assertEqual(self.calls()[0]["words"][:2] + self.calls()[0]["words"][-2:], ["bench", "--json", "--batch", "1"])

    def test_slower_is_exit_code_3_and_other_logits_are_named(self):
        done = self.compare("--of", "a", "experts.prefetch=auto", "--of", "b", "other.words=1", "--of", "c",
                            "experts.prefetch=auto", "--rounds", "1", "--", "run", "-p", "x")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("logits differ: run", done.stdout)
        self.assertIn("a -> c", done.stdout)
        self.assertIn("slower", done.stdout)

    def test_neighbours_run_beside_their_variant_only(self):
        done = self.compare("--of", "alone", "--of", "beside", "neighbours=2", "--rounds", "1", "--drop-cache")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([call["beside"] for call in self.calls()], [0, 2, 2, 0])

    def test_a_tool_that_is_killed_leaves_no_neighbour_behind(self):
        with open(self.program, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho $PPID > \"$(dirname \"$0\")/parent\"\nexec sleep 20\n")
        with subprocess.Popen(self.command("--of", "a", "--of", "b", "--neighbour", "1"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tool:
            for _ in range(400):
                children = self.children(tool.pid)
                if len(children) == 2 and os.path.exists(os.path.join(self.folder.name, "parent")):
                    break
                time.sleep(0.05)
            self.assertEqual(len(children), 2)
            tool.kill()
        for _ in range(400):
            left = [child for child in children if self.busy(child)]
            if not left:
                break
            time.sleep(0.05)
        self.assertEqual(left, [])

    @staticmethod
    def children(parent):
        with open(f"/proc/{parent}/task/{parent}/children", encoding="utf-8") as file:
            return file.read().split()

    @staticmethod
    def busy(process):
        try:
            with open(f"/proc/{process}/cmdline", encoding="utf-8") as file:
                return "getppid" in file.read()
        except OSError:
            return False

    def test_what_cannot_be_compared_is_said(self):
        self.assertEqual(self.compare("--of", "a", "--of", "b", "experts.policy=broken", "--rounds", "1").returncode, 1)
        for wrong in (["--of", "a"], ["--of", "a", "--of", "a"], ["--of", "a", "word", "--of", "b"],
                      ["--of", "a", "--of", "b", "neighbours=x"], ["--of", "a", "--of", "b", "--neighbour", "-1"]):
            self.assertEqual(self.compare(*wrong).returncode, 2, wrong)


if __name__ == "__main__":
    unittest.main()
