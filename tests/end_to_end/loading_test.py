"""A server whose model takes a while to load: what clients, load balancers and operators see until it is warm.

The model is the bundled one with a vocabulary so large that reading it takes a second or more; its weights are a hole in a
file, zeros that use no disk.
"""

import http.client
import json
import os
import re
import select
import signal
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from server_process import ANSWER_S, START_S, LineClient, executable

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "config", "models", "moira-demo")
LISTENING = re.compile(rb"listening on (?:http://)?([0-9.]+):([0-9]+)")
VOCABULARY = 1 << 20  # embedding and head: 512 MiB each


def write_large_model(folder):
    with open(os.path.join(DEMO, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    with open(os.path.join(DEMO, "model.safetensors"), "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    small, config["vocab_size"] = config["vocab_size"], VOCABULARY
    header.pop("__metadata__", None)
    end = 0
    for tensor in header.values():
        size = tensor["data_offsets"][1] - tensor["data_offsets"][0]
        if tensor["shape"][0] == small:
            tensor["shape"][0], size = VOCABULARY, size // small * VOCABULARY
        tensor["data_offsets"] = [end, end + size]
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


class StartingServer:
    """`moira serve` that has not said `ready` yet: the addresses come from standard error."""

    def __init__(self, model, *arguments):
        command = [executable(), "serve", "--json", "-m", model, *arguments, "--set", "context.kv_budget=16MiB"]
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addresses, self._errors, self._arrived = [], b"", threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self._reader.join()
        self.child.stdout.close()
        self.child.stderr.close()

    def _read(self):
        for line in self.child.stderr:
            with self._arrived:
                self._errors += line
                if found := LISTENING.search(line):
                    self.addresses.append((found.group(1).decode(), int(found.group(2))))
                self._arrived.notify_all()

    def wait_for_addresses(self, count):
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.addresses) >= count, START_S):
                raise AssertionError(self._errors.decode())
        return self.addresses

    def is_ready(self):
        return bool(select.select([self.child.stdout], [], [], 0)[0])

    def ready(self):
        if not select.select([self.child.stdout], [], [], START_S)[0]:
            raise AssertionError(self._errors.decode())
        return json.loads(self.child.stdout.readline())


def get(connection, path):
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, dict(response.headers), json.loads(response.read())


class Loading(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory()
        write_large_model(cls._folder.name)
        cls.model = cls._folder.name

    @classmethod
    def tearDownClass(cls):
        cls._folder.cleanup()

    def test_health_is_503_until_warm_and_connections_live_on(self):
        with StartingServer(self.model, "--http", "127.0.0.1:0", "--tcp", "127.0.0.1:0") as server:
            tcp, web = server.wait_for_addresses(2)
            connection = http.client.HTTPConnection(*web, timeout=ANSWER_S)
            lines = LineClient(tcp)
            early = 0
            while not server.is_ready():
                status, fields, body = get(connection, "/health")
                if status == 200:
                    break  # warm; the ready line is on its way
                self.assertEqual((status, body["error"]["code"], fields["Retry-After"]), (503, "loading", "1"))
                last = lines.ask(ids=[5, 6], max_tokens=2, ignore_eos=True)
                self.assertTrue("done" in last or last["error"]["code"] == "loading", last)
                early += 1
                time.sleep(0.01)
            self.assertGreater(early, 0)
            ready = server.ready()
            self.assertEqual(ready, {"event": "ready", "http": "{}:{}".format(*web), "tcp": "{}:{}".format(*tcp)})
            self.assertEqual(get(connection, "/health")[0], 200)
            self.assertEqual(lines.ask(ids=[5, 6], max_tokens=2, ignore_eos=True)["finish_reason"], "length")
            connection.close()
            lines.close()
            server.child.send_signal(signal.SIGTERM)
            self.assertEqual(server.child.wait(ANSWER_S), 0)

    def test_a_signal_while_loading_ends_the_server_before_it_is_warm(self):
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
            with StartingServer(self.model, "--http", "127.0.0.1:0") as server:
                server.wait_for_addresses(1)
                server.child.send_signal(number)
                self.assertEqual(server.child.wait(ANSWER_S), code)
                self.assertEqual(server.child.stdout.read(), b"")

    def test_what_cannot_be_served_fails_before_the_model_is_read(self):
        with StartingServer(self.model, "--http", "127.0.0.1:0") as first:
            taken = "{}:{}".format(*first.wait_for_addresses(1)[0])
            for arguments, code in ((("--http", taken), 1), (("--tcp", "nowhere"), 2),
                                    (("--set", "server.api_key_file=/no/such"), 1)):
                done = subprocess.run([executable(), "serve", "-m", self.model, *arguments], capture_output=True,
                                      stdin=subprocess.DEVNULL, timeout=ANSWER_S)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertEqual(done.stdout, b"")


if __name__ == "__main__":
    unittest.main()
