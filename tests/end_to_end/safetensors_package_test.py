"""What `moira pack` writes, read by the PyPI package `safetensors`.

Where the package cannot be imported it is installed into a virtual environment in the build folder (MOIRA_VENV); where
that fails too, as without a network, the test is skipped: exit code 77.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from python_package import find_package

find_package("safetensors", "safetensors>=0.4,<1", "numpy>=1.24,<3")

from safetensors import safe_open  # noqa: E402  (after the interpreter was chosen)
from server_process import ANSWER_S, executable  # noqa: E402

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def header_of(path):
    """Name -> (type, shape, bytes) of every tensor but padding."""
    with open(path, "rb") as file:
        from safetensors import deserialize
        return {name: (tensor["dtype"], tensor["shape"], bytes(tensor["data"]))
                for name, tensor in deserialize(file.read()) if not name.startswith("moira.padding.")}


class WhatThePackageReads(unittest.TestCase):
    def test_a_packed_model_opens_with_the_same_tensors(self):
        with tempfile.TemporaryDirectory(prefix="moira_pack_") as folder:
            for name in ("deepseek_v3", "olmoe", "qwen3_moe"):
                source = os.path.join(ROOT, "tests", "data", "golden", name)
                for experts in ("keep", "fp8"):
                    target = os.path.join(folder, name + experts)
                    subprocess.run([executable(), "pack", source, target, "--experts", experts, "--shard-bytes", "300kB"],
                                   check=True, timeout=ANSWER_S, stdout=subprocess.DEVNULL)
                    self.compare(source, target, experts)

    def compare(self, source, target, experts):
        def tensors(folder):
            found = {}
            for file in sorted(os.listdir(folder)):
                if file.startswith("model") and file.endswith(".safetensors"):
                    with safe_open(os.path.join(folder, file), framework="np") as opened:
                        self.assertTrue(opened.keys())
                    found.update(header_of(os.path.join(folder, file)))
            return found

        before, after = tensors(source), tensors(target)
        self.assertGreater(len([f for f in os.listdir(target) if f.endswith(".safetensors")]), 1)
        if experts == "keep":
            self.assertEqual(before, after)
            return
        for name, tensor in before.items():
            if ".mlp.experts." in name:
                self.assertEqual(after[name][0], "F8_E4M3")
                self.assertEqual(after[name][1], tensor[1])
                self.assertEqual(after[name + "_scale_inv"][0], "F32")
            else:
                self.assertEqual(after[name], tensor)


if __name__ == "__main__":
    sys.exit(unittest.main())
