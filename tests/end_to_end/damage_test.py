"""What a server makes of a packed model that is damaged while it runs: one request fails, and it says why."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from packed_model import MODEL, flip, pack, place_of
from server_process import ANSWER_S, ServerProcess, executable

# Experts have room for little more than a layer of one token: all are read again and again.
TIGHT = ("experts.ram_budget=1MiB", "experts.prefetch=off")


def experts_of_sequences(path):
    """Which (layer, expert) each sequence of a recording (MOEROUT2) used."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"MOEROUT2"
    layers, _, top_k, hidden, sequences, _ = struct.unpack_from("<6I", data, 8)
    numbers = struct.unpack_from(f"<{layers}H", data, 32)
    at, found = 32 + 2 * layers, []
    for _ in range(sequences):
        tokens, _ = struct.unpack_from("<2I", data, at)
        count = tokens * layers * top_k
        ids = struct.unpack_from(f"<{count}H", data, at + 8)
        at += 8 + 4 * count + 2 * tokens * layers * hidden
        found.append({(numbers[place // top_k % layers], expert) for place, expert in enumerate(ids)})
    return found


class TwoClients(unittest.TestCase):
    """One of two clients needs an expert that is damaged."""

    BYSTANDER = {"prompt": "Once upon a time", "max_tokens": 40}
    VICTIM = {"prompt": "1 + 1 =", "max_tokens": 8}

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="moira_damage_")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def packed(self, layout):
        model = os.path.join(self.folder, "packed")
        done = pack(MODEL, model, "--layout", layout)
        self.assertEqual(done.returncode, 0, done.stderr)
        return model

    def experts_used(self, model, question):
        """By the router's own record of the same question."""
        path = os.path.join(self.folder, "trace.routes")
        done = subprocess.run([executable(), "trace", "record", "-m", model, "-p", question["prompt"], "-n",
                               str(question["max_tokens"]), "-o", path], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=ANSWER_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return experts_of_sequences(path)[0]

    def expert_of_victim_alone(self, model):
        alone = self.experts_used(model, self.VICTIM) - self.experts_used(model, self.BYSTANDER)
        self.assertTrue(alone, "both requests use the same experts")
        return min(alone)

    def ask_both(self, server):
        """The victim asks while the bystander's answer comes: both last lines, and whether they met."""
        with server.client() as bystander, server.client() as victim:
            bystander.send({"id": "bystander", "stream": True, **self.BYSTANDER})
            first = bystander.receive()
            self.assertIn("text", first)
            failed = victim.ask(**self.VICTIM)
            running = server.statistics()["running"]
            line, text = bystander.last_line("bystander")
            return failed, line, first["text"] + text, running

    def check(self, layout, tensor):
        model = self.packed(layout)
        layer, expert = self.expert_of_victim_alone(model)
        with ServerProcess(*TIGHT, arguments=("-m", model)) as server:
            with server.client() as client:
                usual = {name: client.ask(**question)
                         for name, question in (("bystander", self.BYSTANDER), ("victim", self.VICTIM))}
            path, begin = place_of(model, f"model.layers.{layer}.mlp.experts.{expert}.{tensor}")
            flip(path, begin + 1000)
            failed, line, text, running = self.ask_both(server)
            self.assertEqual(failed["error"]["code"], "corrupt_file")
            for part in (f"expert {expert} of layer {layer}", f"experts.{expert}.", os.path.basename(path)):
                self.assertIn(part, failed["error"]["message"])
            self.assertEqual(running, 1, "the bystander's answer was over before the other one failed")
            self.assertEqual(line["moira"]["logits_hash"], usual["bystander"]["moira"]["logits_hash"])
            self.assertEqual(text, usual["bystander"]["text"])
            flip(path, begin + 1000)
            with server.client() as client:
                again = client.ask(**self.VICTIM)
            self.assertEqual(again["moira"]["logits_hash"], usual["victim"]["moira"]["logits_hash"])
            self.assertTrue(server.alive())
            self.assertEqual(server.wait_until_idle()["failed"], 1)

    def test_a_pack_fails_the_request_that_needs_the_expert_and_no_other(self):
        self.check("plain", "up_proj.weight")

    def test_so_does_one_in_the_kernels_own_layout(self):
        self.check("native", "packed")


class Damage(unittest.TestCase):
    """A packed model whose experts are read again for every token."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="moira_pack_")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.model = os.path.join(self.folder, "packed")
        done = pack(MODEL, self.model)
        self.assertEqual(done.returncode, 0, done.stderr)

    def server(self, *settings):
        return ServerProcess(*settings, arguments=("-m", self.model))

    def test_damage_fails_one_request_and_not_the_server(self):
        questions = [{"prompt": prompt, "max_tokens": 1} for prompt in ("Once upon a time", "1 + 1 =", "The", "dog")]
        with self.server("experts.ram_budget=1MiB", "experts.prefetch=off") as server, server.client() as client:
            expected = [client.ask(**question) for question in questions]
            for line in expected:
                self.assertIn("done", line)
                self.assertEqual(line["moira"]["lossy"], [])
            found = False
            for expert in range(32):
                path, begin = place_of(self.model, f"model.layers.7.mlp.experts.{expert}.gate_proj.weight")
                flip(path, begin + 5)
                answers = [client.ask(**question) for question in questions]
                flip(path, begin + 5)
                failed = [line for line in answers if "error" in line]
                for line, good in zip(answers, expected):
                    if "error" in line:
                        self.assertEqual(line["error"]["code"], "corrupt_file")
                        self.assertIn(f"expert {expert} of layer 7", line["error"]["message"])
                        self.assertIn(os.path.basename(path), line["error"]["message"])
                    else:
                        self.assertEqual(line["text"], good["text"])
                if failed and len(failed) < len(questions):
                    found = True
                    break
            self.assertTrue(found, "no expert is needed by some of the requests and not by others")
            for question, good in zip(questions, expected):  # restored
                self.assertEqual(client.ask(**question)["moira"]["logits_hash"], good["moira"]["logits_hash"])
            self.assertTrue(server.alive())

    def test_damage_of_other_tensors_is_named_at_the_start(self):
        path, begin = place_of(self.model, "model.layers.3.self_attn.kv_b_proj.weight")
        flip(path, begin + 1000)
        done = subprocess.run([executable(), "run", "-m", self.model, "-p", "a", "-n", "1", "--json"],
                              capture_output=True, text=True, timeout=ANSWER_S, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(json.loads(done.stdout)["error"]["code"], "corrupt_file")
        self.assertIn("model.layers.3.self_attn.kv_b_proj.weight", done.stderr)

    def test_a_rounded_model_says_so_in_every_reply(self):
        rounded = os.path.join(self.folder, "rounded")
        self.assertEqual(pack(self.model, rounded, "--experts", "fp8").returncode, 0)
        question = {"prompt": "Once upon a time", "max_tokens": 8}
        with ServerProcess(arguments=("-m", rounded)) as server, server.client() as client:
            packed = client.ask(**question)
        with self.server("experts.precision=fp8") as server, server.client() as client:
            on_arrival = client.ask(**question)
        self.assertEqual(packed["moira"]["lossy"], ["experts.precision=fp8"])
        for field in ("lossy", "logits_hash", "numerics_id"):
            self.assertEqual(packed["moira"][field], on_arrival["moira"][field])


if __name__ == "__main__":
    sys.exit(unittest.main())
