"""Kills parts of the runtime under the load of 32 clients: speed may suffer, requests only where the design says so."""

import subprocess
import threading
import time
import unittest

from client_threads import ClientThreads
from server_process import ANSWER_S, ServerProcess, executable

CLIENTS = 32
REQUESTS = 6
TOKENS = 24
PROMPT = "Once upon a time"

# A kill is not told of before it happened; clients run longer than this.
BETWEEN_KILLS_S = 0.15


class Load(ClientThreads):
    """Clients that ask one request after the other; every answer is kept."""

    def __init__(self, server, expected):
        self.server, self.expected = server, expected
        self.done, self.restarted, self.problems, self.longest_pause_s = 0, 0, [], 0.0
        self._lock = threading.Lock()
        super().__init__(CLIENTS, self._run)

    def _run(self, client_number):
        with self.server.client() as client:
            for number in range(REQUESTS):
                self._ask(client, f"c{client_number}-{number}")

    def _ask(self, client, name):
        client.send({"id": name, "prompt": PROMPT, "max_tokens": TOKENS, "ignore_eos": True})
        text, last = "", time.monotonic()
        while True:
            line = client.receive()
            now = time.monotonic()
            with self._lock:
                self.longest_pause_s = max(self.longest_pause_s, now - last)
            last = now
            if line is None:
                return self._count("closed", name)
            if "error" in line:
                return self._count(line["error"]["code"], name)
            if "done" in line:
                fine = line["finish_reason"] == "length" and line["text"] == text == self.expected
                return self._count("done" if fine else f"wrong: {line}", name)
            text += line["text"]

    def _count(self, what, name):
        with self._lock:
            if what == "done":
                self.done += 1
            elif what == "restarted":
                self.restarted += 1
            else:
                self.problems.append(f"{name}: {what}")


class Kills(unittest.TestCase):
    def kill_under_load(self, part, *settings, times=3):
        """The load's counts after `part` was killed `times` times, and the statistics."""
        with ServerProcess("server.fault_injection=true", *settings) as server:
            with server.client() as client:
                expected = client.ask(prompt=PROMPT, max_tokens=TOKENS, ignore_eos=True)["text"]
            with Load(server, expected) as load, server.client() as operator:
                for _ in range(times):
                    time.sleep(BETWEEN_KILLS_S)
                    if load.running():
                        operator.send({"fault": {"kill": part}})
                        self.assertEqual(operator.receive(), {"fault": {"killed": part}})
            found = server.wait_until_idle()
            with server.client() as client:
                self.assertEqual(client.ask(prompt=PROMPT, max_tokens=TOKENS, ignore_eos=True)["text"], expected)
            self.assertEqual(found["kv_pages_free"], found["kv_pages_total"])
            server.terminate()
            self.assertEqual(server.wait(), 0, server.errors())
        print(f"\n{part}: {load.done} done, {load.restarted} restarted, longest pause {load.longest_pause_s * 1e3:.0f} ms,"
              f" restarts {found['restarts']}", flush=True)
        self.assertEqual(load.problems, [])
        self.assertEqual(load.done + load.restarted, CLIENTS * REQUESTS)
        return load, found

    def test_losing_the_stream_costs_a_pause_and_no_request(self):
        load, found = self.kill_under_load("execution_stream")
        self.assertEqual(load.restarted, 0)
        self.assertGreaterEqual(found["restarts"].get("execution_stream", 0), 1)

    def test_losing_the_expert_cache_costs_nothing(self):
        load, found = self.kill_under_load("expert_cache")
        self.assertEqual(load.restarted, 0)
        self.assertGreaterEqual(found["restarts"].get("expert_cache", 0), 1)

    def test_losing_the_verifier_costs_no_request_and_no_token(self):
        with ServerProcess() as server, server.client() as client:
            expected = client.ask(prompt=PROMPT, max_tokens=TOKENS, ignore_eos=True)["text"]
        for mode in ("ngram", "mtp", "auto"):
            with self.subTest(mode=mode):
                load, found = self.kill_under_load("speculative_verifier", f"speculation.mode={mode}")
                self.assertEqual(load.expected, expected)
                self.assertEqual(load.restarted, 0)
                self.assertGreaterEqual(found["restarts"].get("speculative_verifier", 0), 1)
                if mode != "auto":
                    self.assertGreater(found["speculation"]["drafted"], 0)

    def test_without_speculation_there_is_no_verifier_to_lose(self):
        with ServerProcess("server.fault_injection=true") as server, server.client() as client:
            client.send({"fault": {"kill": "speculative_verifier"}})
            client.receive()
            self.assertEqual(server.wait_until_idle()["restarts"], {})

    def test_losing_the_batcher_fails_what_runs_with_a_code(self):
        load, found = self.kill_under_load("batcher", times=1)
        self.assertGreaterEqual(load.restarted, 1)
        self.assertEqual(found["restarts"], {"batcher": 1})

    def test_losing_the_intake_fails_what_runs_with_a_code(self):
        load, found = self.kill_under_load("intake", times=1)
        self.assertEqual(found["restarts"], {"intake": 1})

    def test_losing_the_tokenize_worker_is_losing_the_intake(self):
        load, found = self.kill_under_load("tokenize_worker", times=1)
        self.assertEqual(found["restarts"], {"intake": 1})

    def test_losing_the_gateway_closes_its_connections_and_listens_again(self):
        with ServerProcess("server.fault_injection=true") as server:
            with server.client() as client:
                client.send({"id": "a", "prompt": PROMPT, "max_tokens": 400, "ignore_eos": True})
                client.send({"fault": {"kill": "tcp_gateway"}})
                while client.receive() is not None:
                    pass
            deadline = time.monotonic() + 60
            while True:
                try:
                    with server.client() as client:
                        client.send({"ping": 1})
                        self.assertEqual(client.receive(), {"pong": 1})
                    break
                except OSError:
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.05)
            found = server.wait_until_idle()
            self.assertEqual(found["cancelled"], 1)

    def test_losing_the_supervisor_ends_the_server_with_an_error(self):
        with ServerProcess("server.fault_injection=true") as server:
            with server.client() as client:
                client.send({"fault": {"kill": "supervisor"}})
            self.assertEqual(server.wait(), 1)

    def test_a_part_that_keeps_ending_ends_the_server(self):
        with ServerProcess("server.fault_injection=true") as server:
            with server.client() as client:
                for _ in range(6):
                    client.send({"fault": {"kill": "expert_cache"}})
                    client.receive()
                    time.sleep(0.2)
            self.assertEqual(server.wait(), 1)

    def test_faults_are_for_loopback_only_however_the_address_is_named(self):
        for arguments in (("--tcp", "0.0.0.0:0"), ("--http", "0.0.0.0:0"), ("--http", "[::]:0")):
            done = subprocess.run([executable(), "serve", *arguments, "--set", "server.fault_injection=true"],
                                  capture_output=True, stdin=subprocess.DEVNULL, timeout=ANSWER_S)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertEqual(done.stdout, b"")

    def test_faults_are_refused_without_the_setting(self):
        with ServerProcess() as server, server.client() as client:
            client.send({"fault": {"kill": "batcher"}})
            self.assertEqual(client.receive()["error"]["code"], "unsupported")

    def test_a_fault_names_a_part(self):
        with ServerProcess("server.fault_injection=true") as server, server.client() as client:
            for fault, code in (({"kill": "nobody"}, "not_found"), ({"kill": 1}, "invalid_argument"), ("kill", "invalid_argument")):
                client.send({"fault": fault})
                self.assertEqual(client.receive()["error"]["code"], code)


if __name__ == "__main__":
    unittest.main()
