"""`moira pack` from outside."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from packed_model import MODEL, command, pack
from server_process import ANSWER_S, executable

def hashes(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


class Packing(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="moira_pack_")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def moira(*arguments):
        return subprocess.run([executable(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=ANSWER_S, check=False)

    def packed(self, *options):
        done = pack(MODEL, self.path("packed"), *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.path("packed"), json.loads(done.stdout)

    def test_the_numbers_of_a_pack(self):
        _, kept = self.packed()
        self.assertIsNone(kept["max_relative_error"])
        self.assertIsNone(kept["quantized_from"])
        self.assertEqual(kept["expert_count"], 8 * 32)
        self.assertEqual(kept["expert_bytes"], 8 * 32 * 3 * 256 * 128 * 2)
        done = pack("moira-demo", self.path("rounded"), "--experts", "fp8", "--shard-bytes", "4MB")
        self.assertEqual(done.returncode, 0, done.stderr)
        rounded = json.loads(done.stdout)
        self.assertEqual(rounded["quantized_from"], "BF16")
        self.assertLess(0.01, rounded["max_relative_error"])
        self.assertLessEqual(rounded["max_relative_error"], 1 / 28 + 1e-6)
        self.assertEqual(rounded["expert_bytes"], 8 * 32 * 3 * (256 * 128 + 2 * 4))
        self.assertLess(rounded["bytes_after"], kept["bytes_after"])
        self.assertGreater(rounded["shards"], 1)

    def test_a_layout_of_kernels_is_said_refused_by_others_and_undone(self):
        native, made = self.packed("--layout", "cpu_reference")
        self.assertIn("cpu_reference", made["layout"])
        self.assertEqual(json.loads(self.moira("inspect", native, "--json").stdout)["expert_layout"], made["layout"])
        with open(os.path.join(native, "config.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["moira_pack"]["layout"]["plugin"], "cpu_reference")
        question = ("-p", "Once upon a time", "-n", "4", "--json", "--set", "experts.ram_budget=30%", "--set")
        answers = set()
        done = pack(native, self.path("plain"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIsNone(json.loads(done.stdout)["layout"])
        for model in (MODEL, native, self.path("plain")):
            run = self.moira("run", "-m", model, *question, "compute.plugin=cpu_reference")
            self.assertEqual(run.returncode, 0, run.stderr)
            answers.add(json.loads(run.stdout)["logits_hash"])
        self.assertEqual(len(answers), 1)
        other = self.moira("run", "-m", native, *question, "compute.plugin=cpu_avx2")
        if "not usable" not in other.stderr:
            self.assertNotEqual(other.returncode, 0)
            self.assertIn("moira pack", other.stdout + other.stderr)
        self.assertNotEqual(pack(MODEL, self.path("nowhere"), "--layout", "no_such_plugin").returncode, 0)
        self.assertFalse(os.path.exists(self.path("nowhere")))

    def test_what_cannot_be_packed_is_refused(self):
        for target in (MODEL, os.path.join(MODEL, "packed")):
            self.assertEqual(pack(MODEL, target).returncode, 2)
        os.mkdir(self.path("mine"))
        with open(self.path("mine/letters"), "w", encoding="ascii") as file:
            file.write("dear")
        self.assertEqual(pack(MODEL, self.path("mine")).returncode, 2)
        self.assertEqual(pack(self.path("nothing"), self.path("packed")).returncode, 2)
        self.assertEqual(pack(MODEL, self.path("packed"), "--experts", "int4").returncode, 2)
        self.assertEqual(pack(MODEL, self.path("packed"), "--shard-bytes", "many").returncode, 2)
        self.assertEqual(pack(MODEL, self.path("packed"), "--routes", self.path("nothing")).returncode, 2)
        self.assertEqual(os.listdir(self.folder), ["mine"])

    def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(self):
        dice = random.Random(5)
        expected = hashes(self.packed("--experts", "fp8")[0])
        kills, longest_s, target = 0, 0.02, self.path("killed")
        while not os.path.exists(target):
            child = subprocess.Popen(command(MODEL, target, "--experts", "fp8"), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                child.wait(dice.random() * longest_s)
                self.assertEqual(child.returncode, 0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                kills += 1
                longest_s *= 1.1
        self.assertGreater(kills, 3)
        self.assertEqual(hashes(target), expected)

    def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(self):
        for _ in range(50):
            child = subprocess.Popen(command(MODEL, self.path("stopped"), "--experts", "fp8"), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            while not os.path.exists(self.path("stopped.pack-journal")) and child.poll() is None:
                time.sleep(0.001)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=ANSWER_S)
            if child.returncode == 130:
                break
            self.assertEqual(child.returncode, 0, err)  # it was quicker
            shutil.rmtree(self.path("stopped"))
        self.assertEqual(child.returncode, 130)
        self.assertEqual(json.loads(out)["error"]["code"], "cancelled")
        self.assertIn("the same command goes on", err)
        self.assertFalse(os.path.exists(self.path("stopped")))
        self.assertEqual(pack(MODEL, self.path("stopped"), "--experts", "fp8").returncode, 0)

    def test_a_full_disk_leaves_the_source_usable(self):
        small = self.path("small")
        os.mkdir(small)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", small], capture_output=True,
                                 check=False)
        if mounted.returncode != 0:
            self.skipTest("no file system of a limited size can be mounted here")
        try:
            before = hashes(MODEL)
            refused = pack(MODEL, os.path.join(small, "packed"))
            self.assertEqual(refused.returncode, 1)
            self.assertEqual(json.loads(refused.stdout)["error"]["code"], "io_error")
            self.assertIn("bytes free", refused.stderr)
            self.assertIn("is as it was", refused.stderr)
            self.assertEqual(hashes(MODEL), before)
        finally:
            subprocess.run(["umount", small], check=True)

    def test_a_limit_on_file_sizes_is_a_failed_write(self):
        limited = ["bash", "-c", 'ulimit -f 4096; exec "$0" "$@"', *command(MODEL, self.path("packed"))]
        refused = subprocess.run(limited, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_S,
                                 check=False)
        self.assertEqual(refused.returncode, 1, refused.stderr)
        self.assertIn("is as it was", refused.stderr)
        self.assertEqual(pack(MODEL, self.path("packed")).returncode, 0)


if __name__ == "__main__":
    sys.exit(unittest.main())
