"""64 clients x 20 requests with random cancels and disconnects: nothing lost, nothing wrong, no memory kept; then
SIGTERM under the same load."""

import random
import threading
import time
import unittest

from server_process import ANSWER_S, ServerProcess

CLIENTS = 64
REQUESTS = 20

# Allocator slack of 64 connections and their threads; a leak of one KV page a request would be far above it.
GROWTH_BYTES_MAX = 64 << 20

PROMPTS = ("Once upon a time", "The quick brown fox", "1 + 1 =", "Hello", "def main():", "A", "In the beginning",
           "Dear reader,")


def shapes():
    """Every request that the clients may send: greedy and sampled, short and longer."""
    for number, prompt in enumerate(PROMPTS):
        yield {"prompt": prompt, "max_tokens": 4 + 3 * number, "temperature": 0}
        yield {"prompt": prompt, "max_tokens": 20, "temperature": 0.8, "top_p": 0.9, "seed": number}


class Tally:
    """What became of the requests, counted by all clients together."""

    def __init__(self):
        self._lock = threading.Lock()
        self.counts, self.problems = {}, []

    def count(self, what):
        with self._lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def problem(self, text):
        with self._lock:
            self.problems.append(text)


class Client(threading.Thread):
    """One client with its own random choices. `stopping` is set when the server has been told to end."""

    def __init__(self, number, server, references, tally, stopping=None, mischief=True):
        super().__init__()
        self.random = random.Random(number)
        self.number, self.server, self.references, self.tally = number, server, references, tally
        self.stopping, self.mischief = stopping, mischief
        self.connection = None

    def run(self):
        try:
            self.run_requests()
        finally:
            if self.connection:
                self.connection.close()

    def run_requests(self):
        for number in range(REQUESTS):
            try:
                if not self.one(f"c{self.number}-{number}"):
                    return
            except Exception as failure:  # noqa: BLE001 - every failure must reach the test's report
                if self.ending():
                    return self.tally.count("refused")
                self.tally.problem(f"client {self.number} request {number}: {failure!r}")
                self.forget()

    def forget(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def ending(self):
        return self.stopping is not None and self.stopping.is_set()

    def one(self, name):
        """One request. False when the server is going and takes nothing more."""
        if self.connection is None:
            self.connection = self.server.client()
        shape, expected = self.random.choice(self.references)
        fate = self.random.random() if self.mischief else 1.0
        after = self.random.randrange(4)
        self.connection.send({"id": name, **shape})
        if fate < 0.15:
            return self.leave(after)
        text, tokens = "", 0
        while True:
            if tokens == after and 0.15 <= fate < 0.3:
                self.connection.send({"cancel": name})
            line = self.connection.receive()
            if line is None:
                return self.cut_off(name, tokens)
            if line.get("id") != name or (line.get("error") and not line.get("done")):
                if line.get("error", {}).get("code") == "not_found":
                    continue  # it ended before our cancel arrived
                return self.refused(name, line)
            if line.get("done"):
                return self.ended(name, line, text, expected, 0.15 <= fate < 0.3)
            text += line["text"]
            tokens += 1

    def leave(self, after):
        for _ in range(after):
            if self.connection.receive() is None:
                break
        self.connection.reset() if after % 2 else self.connection.close()
        self.connection = None
        self.tally.count("left")
        return True

    def cut_off(self, name, tokens):
        if self.ending() and tokens == 0:
            self.tally.count("refused")
        else:
            self.tally.problem(f"{name}: the connection was closed after {tokens} tokens")
        self.forget()
        return False

    def refused(self, name, line):
        if self.ending() and line["error"]["code"] == "draining":
            self.tally.count("refused")
            return False
        self.tally.problem(f"{name}: {line}")
        return True

    def ended(self, name, line, text, expected, cancelled):
        right = line["text"] == text
        if line["finish_reason"] == "cancelled" and cancelled:
            right &= expected["text"].startswith(text)
            self.tally.count("cancelled")
        else:
            right &= line["text"] == expected["text"]
            right &= line["moira"]["logits_hash"] == expected["moira"]["logits_hash"]
            right &= line["finish_reason"] == expected["finish_reason"]
            self.tally.count("completed")
        if not right:
            self.tally.problem(f"{name}: got {line!r}, streamed {text!r}, expected {expected['text']!r}")
        return True


def run_clients(server, references, tally, count=CLIENTS, stopping=None, mischief=True):
    clients = [Client(number, server, references, tally, stopping, mischief) for number in range(count)]
    for client in clients:
        client.start()
    return clients


class Load(unittest.TestCase):
    def setUp(self):
        # On a loaded machine what runs may take longer than the default time for draining, and would be cancelled.
        self.server = ServerProcess("server.max_queue=1024", "server.drain_timeout_s=100")
        self.addCleanup(self.server.kill)
        with self.server.client() as client:
            self.references = [(shape, client.ask(**shape)) for shape in shapes()]
        for shape, answer in self.references:
            self.assertTrue(answer.get("done"), (shape, answer))

    def test_nothing_lost_nothing_wrong_no_memory_kept(self):
        # The first round fills caches and the allocator's arenas; the second must not add to them.
        warm_up = Tally()
        for client in run_clients(self.server, self.references, warm_up):
            client.join()
        self.assertEqual(warm_up.problems, [])
        self.server.wait_until_idle()
        before = self.server.resident_bytes()
        tally = Tally()
        began = time.monotonic()
        for client in run_clients(self.server, self.references, tally):
            client.join()
        seconds = time.monotonic() - began
        statistics = self.server.wait_until_idle()
        grown = self.server.resident_bytes() - before
        print(f"\n{CLIENTS} clients x {REQUESTS} requests in {seconds:.1f} s: {tally.counts}, "
              f"resident {before >> 20} MiB {grown / 2**20:+.1f}, steps {statistics['steps']}")
        self.assertEqual(tally.problems, [])
        self.assertEqual(sum(tally.counts.values()), CLIENTS * REQUESTS)
        self.assertLess(grown, GROWTH_BYTES_MAX)
        with self.server.client() as client:
            shape, expected = self.references[0]
            self.assertEqual(client.ask(**shape)["text"], expected["text"])

    def test_sigterm_under_load_drains_and_exits_0(self):
        tally, stopping = Tally(), threading.Event()
        clients = run_clients(self.server, self.references, tally, stopping=stopping, mischief=False)
        deadline = time.monotonic() + ANSWER_S
        while tally.counts.get("completed", 0) < CLIENTS and time.monotonic() < deadline:
            time.sleep(0.01)
        stopping.set()
        self.server.terminate()
        for client in clients:
            client.join()
        self.assertEqual(self.server.wait(), 0, self.server.errors())
        print(f"\nSIGTERM under load: {tally.counts}")
        self.assertEqual(tally.problems, [])


if __name__ == "__main__":
    unittest.main()
