"""The TCP line protocol against the real program: what a client gets, and what bad input gets."""

import os
import socket
import tempfile
import time
import unittest

from server_process import ANSWER_S, ServerProcess

PROMPT = "Once upon a time"
GOOD = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "seed": 1, "ignore_eos": True}
LONG = {"prompt": PROMPT, "max_tokens": 100000, "ignore_eos": True}


class Shared(unittest.TestCase):
    """One server for everything that a well-set server must survive."""

    @classmethod
    def setUpClass(cls):
        cls.server = ServerProcess()
        cls.statistics = cls.server.statistics()
        with cls.server.client() as client:
            cls.reference = client.ask(**GOOD)
        assert cls.reference.get("done"), cls.reference

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def tearDown(self):
        """Whatever a test did: the server lives, nothing keeps running, and others get the same answer."""
        self.assertTrue(self.server.alive(), self.server.errors())
        self.server.wait_until_idle()
        with self.server.client() as client:
            answer = client.ask(**GOOD)
        self.assertEqual(answer["text"], self.reference["text"])
        self.assertEqual(answer["moira"]["logits_hash"], self.reference["moira"]["logits_hash"])

    def refusal(self, data):
        """The error of one bad line; the connection must live on."""
        with self.server.client() as client:
            client.send_bytes(data + b"\n")
            line = client.receive()
            self.assertIsNotNone(line, data[:100])
            client.send({"ping": 7})
            self.assertEqual(client.receive(), {"pong": 7}, data[:100])
        self.assertIn("error", line, data[:100])
        self.assertTrue(line["error"]["message"])
        return line


class WhatAClientGets(Shared):
    def test_tokens_stream_and_their_texts_are_the_text(self):
        with self.server.client() as client:
            client.send({"id": "s", **GOOD})
            tokens, texts = [], []
            while True:
                line = client.receive()
                self.assertEqual(line["id"], "s")
                if line.get("done"):
                    break
                if line["token"] is not None:
                    tokens.append(line["token"])
                texts.append(line["text"])
        self.assertEqual("".join(texts), line["text"])
        self.assertEqual(tokens, line["token_ids"])
        self.assertEqual(line["text"], self.reference["text"])
        self.assertEqual(line["finish_reason"], "length")
        self.assertEqual(line["usage"]["completion_tokens"], 12)
        self.assertEqual(set(line["usage"]), {"prompt_tokens", "completion_tokens", "cached_tokens"})

    def test_the_last_line_says_how_it_was_computed(self):
        moira = self.reference["moira"]
        for key in ("logits_hash", "numerics_id", "seed", "lossy", "plugins", "experts", "speculation", "ignored"):
            self.assertIn(key, moira)
        self.assertEqual(len(moira["logits_hash"]), 16)
        self.assertEqual(moira["seed"], 1)
        for key in ("budget_bytes", "slots", "resident", "hit_rate", "demand_loads", "demand_bytes", "prefetch_loads",
                    "prefetch_useful", "prefetch_wasted_bytes", "stall_s", "recall", "precision"):
            self.assertIn(key, moira["experts"])
        for key in ("mode", "drafted", "accepted", "acceptance", "mean_draft", "steps"):
            self.assertIn(key, moira["speculation"])

    def test_many_requests_on_one_connection_equal_the_one_alone(self):
        with self.server.client() as client:
            for number in range(16):
                client.send({"id": f"r{number}", "stream": number % 2 == 0, **GOOD})
            left = {f"r{number}" for number in range(16)}
            while left:
                line = client.receive()
                if line.get("done"):
                    left.remove(line["id"])
                    self.assertEqual(line["text"], self.reference["text"])
                    self.assertEqual(line["moira"]["logits_hash"], self.reference["moira"]["logits_hash"])

    def test_a_cancelled_request_gets_its_last_line(self):
        with self.server.client() as client:
            client.send({"id": "c", **LONG})
            first = client.receive()
            self.assertIn("token", first)
            client.send({"cancel": "c"})
            line, _ = client.last_line("c")
        self.assertTrue(line["done"])
        self.assertEqual(line["finish_reason"], "cancelled")

    def test_ping_and_statistics(self):
        with self.server.client() as client:
            client.send({"ping": 1})
            self.assertEqual(client.receive(), {"pong": 1})
        for key in ("running", "waiting", "steps", "experts", "overhead_us", "vocabulary", "context_max"):
            self.assertIn(key, self.statistics)


class WhatBadInputGets(Shared):
    def test_malformed_json(self):
        for data in (b"", b"hello", b"[]", b"{", b'{"id":"a","prompt":}', b"{} {}", b"[" * 100000):
            self.assertEqual(self.refusal(data)["error"]["code"], "invalid_json", data[:40])

    def test_invalid_utf8(self):
        line = self.refusal(b'{"id":"u","prompt":"\xff\xfe"}')
        self.assertEqual(line["error"]["code"], "invalid_utf8")
        self.assertEqual(line["id"], "u")

    def test_unknown_fields(self):
        line = self.refusal(b'{"id":"u","prompt":"x","temperatur":1}')
        self.assertEqual(line["error"]["code"], "unknown_field")
        self.assertIn("temperatur", line["error"]["message"])

    def test_a_key_twice(self):
        self.assertEqual(self.refusal(b'{"id":"u","prompt":"x","prompt":"y"}')["error"]["code"], "invalid_json")

    def test_wrong_types_negative_and_huge_numbers(self):
        for member in ('"max_tokens":"5"', '"max_tokens":1.5', '"max_tokens":-1', '"max_tokens":0',
                       '"max_tokens":99999999999999999999999', '"temperature":"hot"', '"temperature":-1',
                       '"temperature":1e300', '"temperature":1e999', '"top_p":2', '"top_p":0', '"min_p":-0.5',
                       '"top_k":-2', '"seed":-1', '"seed":1.5', '"seed":18446744073709551616', '"stop":5',
                       '"stop":[""]', '"stop":[1]', '"stream":1', '"ignore_eos":"no"', '"timeout_ms":0',
                       '"repetition_penalty":-1'):
            line = self.refusal(('{"id":"w","prompt":"x",' + member + "}").encode())
            self.assertEqual(line["error"]["code"], "invalid_argument", member)
            self.assertIn(member.split('"')[1], line["error"]["message"], member)
            self.assertEqual(line["id"], "w")

    def test_not_a_number(self):
        for text in ("NaN", "Infinity", "-Infinity"):
            line = self.refusal(('{"id":"n","prompt":"x","temperature":' + text + "}").encode())
            self.assertEqual(line["error"]["code"], "invalid_json", text)

    def test_prompt_over_the_context(self):
        ids = ",".join(["5"] * (self.statistics["context_max"] + 1))
        line = self.refusal(('{"id":"p","ids":[' + ids + "]}").encode())
        self.assertEqual(line["error"]["code"], "prompt_too_long")
        self.assertNotIn("done", line)

    def test_ids_outside_the_vocabulary(self):
        for token in (-1, self.statistics["vocabulary"], 2**31 - 1, 2**31, 2**64):
            line = self.refusal(('{"id":"v","ids":[1,' + str(token) + "]}").encode())
            expected = "invalid_argument" if token == 2**64 else "token_out_of_range"
            self.assertEqual(line["error"]["code"], expected, token)

    def test_no_prompt_or_two(self):
        for data in (b'{"id":"x"}', b'{"id":"x","prompt":"a","ids":[1]}'):
            self.assertEqual(self.refusal(data)["error"]["code"], "invalid_argument")

    def test_duplicate_ids(self):
        with self.server.client() as client:
            client.send({"id": "d", **LONG})
            self.assertIn("token", client.receive())
            client.send({"id": "d", **GOOD})
            while "error" not in (line := client.receive()):
                pass
            self.assertEqual(line["error"]["code"], "duplicate_id")
            client.send({"cancel": "d"})
            while not (line := client.receive()).get("done"):
                pass
            client.send({"id": "d", **GOOD})
            self.assertEqual(client.last_line("d")[0]["text"], self.reference["text"])

    def test_cancel_of_nobody(self):
        line = self.refusal(b'{"cancel":"nobody"}')
        self.assertEqual((line["id"], line["error"]["code"]), ("nobody", "not_found"))

    def test_a_client_that_vanishes(self):
        for leave in ("close", "reset", "half"):
            client = self.server.client()
            for number in range(4):
                client.send({"id": str(number), **LONG})
            self.assertIn("token", client.receive())
            if leave == "half":
                client.socket.shutdown(socket.SHUT_WR)
            else:
                getattr(client, leave)()
            self.server.wait_until_idle()
            client.close()

    def test_a_line_over_the_limit(self):
        with self.server.client() as client:
            try:
                client.send_bytes(b"x" * (3 << 20))
            except OSError:
                pass  # the server may close while we still send
            line = client.receive()
            self.assertEqual(line["error"]["code"], "line_too_long")
            self.assertIsNone(client.receive())

    def test_too_many_requests_on_one_connection(self):
        with self.server.client() as client:
            for number in range(65):
                client.send({"id": str(number), **LONG, "stream": False})
            line, _ = client.last_line("64")
            self.assertEqual(line["error"]["code"], "queue_full")


class Impatient(unittest.TestCase):
    """Servers with short limits, so that time can be tested."""

    def test_half_a_line_then_silence(self):
        with ServerProcess("server.line_timeout_s=1") as server, server.client() as other:
            with server.client() as client:
                client.send_bytes(b'{"id":"half","pro')
                self.assertEqual(client.receive()["error"]["code"], "too_slow")
                self.assertIsNone(client.receive())
            self.assertTrue(other.ask(**GOOD)["done"])

    def test_a_client_that_stops_reading(self):
        # Long ids make every token's line long: the output outgrows all buffers in between soon.
        with ServerProcess("server.write_timeout_s=1") as server, server.client() as other:
            reference = other.ask(**GOOD)
            stalled = server.client(receive_buffer_bytes=4096)
            for number in range(32):
                stalled.send({"id": f"{number:0>250}", **LONG})
            self.assertEqual(other.ask(**GOOD)["text"], reference["text"])
            server.wait_until_idle()
            stalled.close()
            self.assertEqual(other.ask(**GOOD)["text"], reference["text"])

    def test_too_many_connections(self):
        with ServerProcess("server.max_connections=2") as server:
            with server.client() as first, server.client() as second:
                for client in (first, second):
                    client.send({"ping": 1})
                    self.assertEqual(client.receive(), {"pong": 1})
                with server.client() as third:
                    self.assertEqual(third.receive()["error"]["code"], "too_many_connections")
                    self.assertIsNone(third.receive())
                first.send({"ping": 2})
                self.assertEqual(first.receive(), {"pong": 2})

    def test_keys(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("# ours\nsecret-1\nsecret-2\n")
            keys.flush()
            with ServerProcess(f"server.api_key_file={keys.name}") as server:
                for first in (b'{"ping":1}\n', b'{"auth":"wrong"}\n', b"junk\n"):
                    with server.client() as client:
                        client.send_bytes(first)
                        self.assertEqual(client.receive()["error"]["code"], "unauthorized", first)
                        self.assertIsNone(client.receive())
                with server.client() as client:
                    client.send({"auth": "secret-2"})
                    self.assertTrue(client.ask(**GOOD)["done"])

    def test_a_deadline(self):
        with ServerProcess() as server, server.client() as client:
            line = client.ask(**LONG, timeout_ms=1)
            self.assertEqual(line["error"]["code"], "deadline_exceeded")

    def test_sigterm_finishes_what_runs_and_exits_0(self):
        with ServerProcess() as server, server.client() as client:
            alone = client.ask(**{**GOOD, "max_tokens": 60})
            client.send({"id": "last", **GOOD, "max_tokens": 60})
            self.assertIn("token", client.receive())
            server.terminate()
            line, _ = client.last_line("last")
            self.assertEqual(line["text"], alone["text"])
            self.assertEqual(server.wait(), 0, server.errors())

    def test_sigterm_without_clients(self):
        with ServerProcess() as server:
            began = time.monotonic()
            server.terminate()
            self.assertEqual(server.wait(), 0, server.errors())
            self.assertLess(time.monotonic() - began, ANSWER_S)

    def test_a_key_file_without_keys_does_not_open_the_server(self):
        with tempfile.NamedTemporaryFile("w") as keys:
            with self.assertRaises(RuntimeError):
                ServerProcess(f"server.api_key_file={keys.name}").kill()
            self.assertTrue(os.path.exists(keys.name))


if __name__ == "__main__":
    unittest.main()
