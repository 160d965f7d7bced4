"""Clients that run beside a test, each in a thread of its own."""

import threading


class ClientThreads:
    """Runs `run(number)` for `count` clients while the `with` block lives; leaving it waits for all of them."""

    def __init__(self, count, run):
        self._threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in self._threads:
            thread.join()

    def running(self):
        return any(thread.is_alive() for thread in self._threads)
