"""A program on a terminal of its own, as a person would see it. Standard library only."""

import os
import pty
import re
import select
import signal
import subprocess
import time

from server_process import ANSWER_S, executable

CONTROLS = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")


class Terminal:
    """`moira ARGUMENTS` with standard input, output and error on a pseudo-terminal. Use as a context manager."""

    def __init__(self, *arguments, environment=None):
        self._ours, theirs = pty.openpty()
        self.raw = b""
        self._read_to = 0

        def own_terminal():
            os.setsid()
            import fcntl
            import termios
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self._child = subprocess.Popen([executable(), *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
                                       preexec_fn=own_terminal, env={**os.environ, **(environment or {})})
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        os.close(self._ours)

    def type(self, text):
        os.write(self._ours, text.encode())

    def press_ctrl_c(self):
        self.type("\x03")

    def _more(self, seconds):
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            data = b""
        self.raw += data
        return bool(data)

    def text(self):
        """All that was shown so far, without colours."""
        return CONTROLS.sub(b"", self.raw).decode("utf-8", "replace").replace("\r\n", "\n")

    def wait_for(self, wanted, seconds=ANSWER_S):
        """Reads until `wanted` appears after what earlier calls waited for; returns what came before it."""
        deadline = time.monotonic() + seconds
        while (place := self.text().find(wanted, self._read_to)) < 0:
            open_end = self._more(1.0) or self._child.poll() is None
            if time.monotonic() > deadline or not open_end:
                raise AssertionError(f"{wanted!r} was not shown; all: {self.text()!r}")
        before = self.text()[self._read_to:place]
        self._read_to = place + len(wanted)
        return before

    def wait_for_any(self, seconds=ANSWER_S):
        """Reads until something visible follows what earlier calls waited for."""
        deadline = time.monotonic() + seconds
        while not self.text()[self._read_to:].strip():
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing more was shown; all: {self.text()!r}")
            self._more(0.1)

    def exit_code(self, seconds=ANSWER_S):
        deadline = time.monotonic() + seconds
        while self._child.poll() is None and time.monotonic() < deadline:
            self._more(0.05)
        while self._more(0.05):
            pass
        return self._child.wait(timeout=1)

    def send_signal(self, number=signal.SIGINT):
        self._child.send_signal(number)
