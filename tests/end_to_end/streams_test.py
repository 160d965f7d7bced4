"""512 clients stream at once through all actors: every one gets every token, and memory stays within what the settings say.

Asserts on counts and bytes, never on time; the speeds are printed for people.
"""

import json
import subprocess
import threading
import unittest

from server_process import ANSWER_S, ServerProcess, executable

CLIENTS = 512
TOKENS = 32
MIB = 1 << 20
KV_BYTES = 128 * MIB

# One connection while its client reads: buffers of reading and writing (16 KiB and a few lines), the sockets' objects, the
# request in batcher and intake. Measured: 14 to 19 KiB idle, up to 44 KiB with a stream; the bound leaves room for the
# allocator.
CONNECTION_BYTES_MAX = 128 << 10

# Arenas of threads and a step's working memory that the first large step touches.
STEP_BYTES_MAX = 128 * MIB


class Watch:
    """The highest memory, and the most requests at once, while something runs."""

    def __init__(self, server):
        self.server, self.resident_bytes, self.requests = server, 0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _run(self):
        while not self._ended.wait(0.02):
            self.resident_bytes = max(self.resident_bytes, self.server.resident_bytes())
            found = self.server.statistics()
            self.requests = max(self.requests, found["running"] + found["waiting"])


class Streams(unittest.TestCase):
    def load(self, server, protocol):
        address = server.http_address if protocol == "http" else server.address
        done = subprocess.run([executable(), "bench", "serve", "--target", "{}://{}:{}".format(protocol, *address),
                               "--clients", str(CLIENTS), "--requests", str(CLIENTS), "--max-tokens", str(TOKENS),
                               "--prompt-tokens", "6", "--json"], capture_output=True, text=True, timeout=ANSWER_S * 2,
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def stream_all(self, protocol):
        settings = ("server.max_connections=600", "server.max_queue=600", f"batch.max_sequences={CLIENTS}",
                    "batch.max_step_tokens=1024", f"context.kv_budget={KV_BYTES // MIB}MiB")
        with ServerProcess(*settings, arguments=("--http", "127.0.0.1:0")) as server:
            with server.client() as client:
                client.ask(prompt="Once", max_tokens=4)
            before = server.resident_bytes()
            peaks = []
            for _ in range(2):
                with Watch(server) as seen:
                    report = self.load(server, protocol)
                peaks.append(seen.resident_bytes)
                self.assertEqual((report["completed"], report["failed"], report["cancelled"]), (CLIENTS, 0, 0))
                self.assertEqual(report["tokens"], CLIENTS * TOKENS)
                self.assertGreater(seen.requests, CLIENTS // 2)
                found = server.wait_until_idle()
                print(f"\n{protocol}: {report['tok_s']:.0f} tokens/s, first after {report['ttft_ms']['p99']:.0f} ms (p99), "
                      f"{seen.requests} requests at once, memory {before / MIB:.0f} MiB, then {peaks[-1] / MIB:.0f} MiB",
                      flush=True)
            self.assertEqual(found["kv_pages_free"], found["kv_pages_total"])
            self.assertLess(peaks[0] - before, KV_BYTES + STEP_BYTES_MAX + CLIENTS * CONNECTION_BYTES_MAX)
            # The same load again needs no more, apart from pages of the KV cache that were not used before.
            self.assertLess(peaks[1] - peaks[0], KV_BYTES + CLIENTS * CONNECTION_BYTES_MAX // 4)

    def test_http_streams(self):
        self.stream_all("http")

    def test_lines(self):
        self.stream_all("tcp")


if __name__ == "__main__":
    unittest.main()
