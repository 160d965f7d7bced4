"""Starts `moira serve` as a child and talks to it. Standard library only."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time

# Waits only end a test that has already failed; a loaded machine must not reach them.
START_S = 180.0
ANSWER_S = 120.0


def executable():
    path = os.environ.get("MOIRA_BIN")
    if not path or not os.access(path, os.X_OK):
        raise RuntimeError("set MOIRA_BIN to the program under test")
    return path


def _address(text):
    if text is None:
        return None
    host, port = text.rsplit(":", 1)
    return host, int(port)


class ServerProcess:
    """One server on a free port. Use as a context manager; the child is always gone afterwards."""

    def __init__(self, *settings, arguments=(), tcp="127.0.0.1:0"):
        self._errors, self._last_errors = tempfile.TemporaryFile(), ""
        command = [executable(), "serve", "--json", *arguments]
        if tcp:
            command += ["--tcp", tcp]
        for setting in settings:
            command += ["--set", setting]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=self._errors)
        try:
            ready = json.loads(self._first_line())
            if ready.get("event") != "ready":
                raise RuntimeError(f"the server did not start: {ready}")
            self.address, self.http_address = _address(ready["tcp"]), _address(ready["http"])
        except BaseException:
            self.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def _first_line(self):
        line, deadline = b"", time.monotonic() + START_S
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                raise RuntimeError("the server was not ready in time: " + self.errors())
            byte = os.read(self._child.stdout.fileno(), 1)
            if not byte:
                raise RuntimeError("the server ended before it was ready: " + self.errors())
            line += byte
        return line

    def errors(self):
        """What the server wrote to standard error, its last part."""
        if not self._errors.closed:
            self._errors.seek(0)
            self._last_errors = self._errors.read()[-4000:].decode("utf-8", "replace")
        return self._last_errors

    @property
    def pid(self):
        return self._child.pid

    def alive(self):
        return self._child.poll() is None

    def terminate(self):
        self._child.send_signal(signal.SIGTERM)

    def wait(self, seconds=ANSWER_S):
        """The exit code."""
        return self._child.wait(timeout=seconds)

    def kill(self):
        if self.alive():
            self._child.kill()
        self._child.wait()
        self._child.stdout.close()
        self.errors()
        self._errors.close()

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def client(self, **options):
        return LineClient(self.address, **options)

    def statistics(self):
        with self.client() as client:
            client.send({"stats": True})
            return client.receive()["stats"]

    def wait_until_idle(self, seconds=ANSWER_S):
        """The statistics of the first moment at which nothing waits or runs."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.statistics()
            if found["running"] == 0 and found["waiting"] == 0:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"still busy: {found}")
            time.sleep(0.05)


class LineClient:
    """One connection of the line protocol."""

    def __init__(self, address, receive_buffer_bytes=None, timeout_s=ANSWER_S):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect(address)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Leaves with RST, as a crashed client's machine does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, value):
        self.send_bytes(json.dumps(value).encode() + b"\n")

    def receive(self):
        """The next line decoded; None when the server has closed."""
        while b"\n" not in self._buffer:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def last_line(self, name):
        """Reads until request `name` has ended: (its last line, its streamed text). The line is None on close."""
        text = ""
        while True:
            line = self.receive()
            if line is None:
                return None, text
            if line.get("id") != name:
                continue
            if "done" in line or "error" in line:
                return line, text
            text += line["text"]

    def ask(self, **fields):
        """One request from beginning to end: its last line."""
        request = {"id": "ask", "stream": False, **fields}
        self.send(request)
        return self.last_line(request["id"])[0]
