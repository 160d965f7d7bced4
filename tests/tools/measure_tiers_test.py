#!/usr/bin/env python3
"""tools/measure_tiers with a program that only pretends to measure; no cgroup is made."""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/measure_tiers")

# Writes down how it was called. Twice as fast with prefetching, and with skewed routes; a quarter per row of a batch.
PROGRAM_TEXT = r"""#!/usr/bin/env python3
import json, os, sys
words = sys.argv[1:]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "calls"), "a") as file:
    file.write(json.dumps(words) + "\n")
if "experts.policy=broken" in words:
    sys.exit("no such policy")
routes, mode = words[words.index("--routes") + 1], [word for word in words if word.startswith("experts.prefetch=")][0]
speed = (2 if "skewed" in routes else 1) * (1 if mode.endswith("off") else 2)
rows = []
for batch in words[words.index("--batch") + 1].split(","):
    tok_s = speed * (1 + int(batch)) / 2
    rows.append({
        "batch": int(batch), "decode_tok_s": tok_s, "decode_tok_s_spread": {"min": tok_s, "max": tok_s}, "steps": 10,
        "bounds": {"demand_only_tok_s": 2 * tok_s, "overlap_tok_s": 4 * tok_s, "share_of_demand_only": 0.5,
                   "share_of_overlap": 0.25},
        "experts": {"hit_rate": 0.5, "demand_loads": 20, "prefetch_loads": 0, "prefetch_wasted": 0, "slots": 7},
        "compute_s": 1, "stall_s": 1, "link_idle_s": 1, "wall_s": 2, "disk_gb_s": {"median": 1},
        "memory_gb_s": {"median": 30}, "logits_hash": "abc"})
print(json.dumps(rows))
"""


class Tiers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.program = os.path.join(self.folder.name, "moira")
        with open(self.program, "w", encoding="utf-8") as file:
            file.write(PROGRAM_TEXT)
        os.chmod(self.program, 0o755)
        with open(os.path.join(self.folder.name, "model.safetensors"), "wb") as file:
            file.write(bytes(1000))

    def command(self, *words):
        return [sys.executable, "-B", TOOL, "--moira", self.program, "--model", self.folder.name, "--limits", "0", *words]

    def measure(self, *words):
        return subprocess.run(self.command(*words), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    def calls(self):
        with open(os.path.join(self.folder.name, "calls"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def modes(self):
        return [[word for word in call if word.startswith("experts.prefetch=")][0].split("=")[1] for call in self.calls()]

    def test_one_call_measures_all_batches_and_recordings_and_shows_shares_of_their_bounds(self):
        rows = os.path.join(self.folder.name, "rows.json")
        done = self.measure("--routes", "/x/uniform.routes", "--routes", "/x/skewed.routes", "--batch", "1,4,16",
                            "--modes", "off,auto", "--json", rows)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.calls()), 4)
        self.assertTrue(all(("--predictor" in call) == (mode == "auto") for call, mode in zip(self.calls(), self.modes())))
        table = done.stdout[done.stdout.index("\n| "):].splitlines()
        self.assertIn("| uniform.routes, tokens/s (share of demand bound, of overlap bound) | no limit |", table)
        for line in ("| batch 1, bound, demand loads only | 3.00 |",  # the median of two modes
                     "| batch 1, prefetch off | 1.00 (50 %, 25 %) |", "| batch 4, prefetch auto | 5.00 (50 %, 25 %) |",
                     "| batch 16, prefetch auto | 34.00 (50 %, 25 %) |"):
            self.assertIn(line, table)
        with open(rows, encoding="utf-8") as file:
            found = json.load(file)
        self.assertEqual(len(found), 12)
        self.assertEqual({(row["routes"], row["batch"]) for row in found},
                         {(routes, batch) for routes in ("uniform.routes", "skewed.routes") for batch in (1, 4, 16)})

    def test_pairs_take_turns_and_are_compared(self):
        done = self.measure("--routes", "uniform.routes", "--batch", "1,4", "--modes", "off,auto", "--pairs", "4")
        self.assertEqual(done.returncode, 0, done.stderr)
        # A round that warms up, then A B, B A, ...
        self.assertEqual(self.modes()[2:], ["auto", "off", "off", "auto", "auto", "off", "off", "auto"])
        self.assertIn("batch  1  auto / off: 2.000 (2.000-2.000), 4 pairs", done.stdout)
        self.assertIn("| batch 4, auto / off | 2.000 (2.000-2.000) |", done.stdout)

    def test_a_tool_that_is_ended_ends_what_it_measures(self):
        with open(self.program, "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\necho $$ > "$0.tmp"\nmv "$0.tmp" "$0.pid"\nexec sleep 60\n')
        with subprocess.Popen(self.command("--routes", "a"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as tool:
            for _ in range(1000):
                if os.path.exists(self.program + ".pid"):
                    break
                time.sleep(0.02)
            tool.terminate()
            self.assertEqual(tool.wait(60), 130)
        with open(self.program + ".pid", encoding="ascii") as file:
            self.assertFalse(os.path.exists("/proc/" + file.read().strip()))

    def test_what_cannot_be_measured_is_said(self):
        self.assertEqual(self.measure("--routes", "a", "--set", "experts.policy=broken").returncode, 1)
        self.assertEqual(self.measure("--routes", "a", "--set", "experts.policy=broken", "--pairs", "2").returncode, 1)
        self.assertEqual(self.measure("--routes", "a", "--modes", "off", "--pairs", "2").returncode, 2)
        self.assertEqual(self.measure("--routes", "a", "--pairs", "0").returncode, 2)


if __name__ == "__main__":
    unittest.main()
