"""Kills parts of the runtime under the load of 32 HTTP clients, half of them streaming: the parts whose loss costs no
request over lines cost none over HTTP, and a lost gateway costs its connections and no server."""

import http.client
import json
import threading
import time
import unittest

from client_threads import ClientThreads
from server_process import ANSWER_S, ServerProcess

CLIENTS = 32
REQUESTS = 6
REQUEST = {"prompt": "Once upon a time", "max_tokens": 24, "ignore_eos": True, "temperature": 0}

# A kill is not told of before it happened; clients run longer than this.
BETWEEN_KILLS_S = 0.15


class HttpLoad(ClientThreads):
    """Clients that ask one request after the other on connections that they keep; every answer is kept.

    A connection that is closed is opened again and the request asked anew, as clients do; how often is counted.
    """

    def __init__(self, server, expected):
        self.server, self.expected = server, expected
        self.done, self.closed, self.problems, self.longest_pause_s = 0, 0, [], 0.0  # the pause: between events
        self._lock = threading.Lock()
        super().__init__(CLIENTS, self._run)

    def _run(self, number):
        connection = http.client.HTTPConnection(*self.server.http_address, timeout=ANSWER_S)
        for _ in range(REQUESTS):
            self._ask(connection, number % 2 == 0)
        connection.close()

    def _ask(self, connection, stream):
        deadline, begin = time.monotonic() + ANSWER_S, time.monotonic()
        while True:
            try:
                connection.request("POST", "/v1/completions", json.dumps({**REQUEST, "stream": stream}),
                                   {"Content-Type": "application/json"})
                return self._read(connection.getresponse(), stream, begin)
            except (OSError, http.client.HTTPException) as why:
                connection.close()
                with self._lock:
                    self.closed += 1
                    if time.monotonic() > deadline:
                        self.problems.append(repr(why))
                        return None
                time.sleep(0.01)

    def _read(self, response, stream, begin):
        """Raises when the connection ends before the answer does."""
        if not stream or response.status != 200:
            answer = json.loads(response.read())  # a whole generation: no pause that anybody could name
            if "error" in answer:
                return self._problem(answer)
            return self._judge(answer["choices"][0], answer["choices"][0]["text"])
        text, last, choice = "", begin, None
        for line in response:
            if not line.startswith(b"data: "):
                continue
            last = self._pause(last)
            if line == b"data: [DONE]\n":
                response.read()
                return self._judge(choice, text)
            event = json.loads(line[6:])
            if "error" in event:
                response.read()
                return self._problem(event)
            choice = event["choices"][0]
            text += choice["text"]
        raise http.client.IncompleteRead(text.encode())

    def _pause(self, since):
        now = time.monotonic()
        with self._lock:
            self.longest_pause_s = max(self.longest_pause_s, now - since)
        return now

    def _judge(self, choice, text):
        if choice["finish_reason"] != "length" or text != self.expected:
            return self._problem((choice, text))
        with self._lock:
            self.done += 1

    def _problem(self, what):
        with self._lock:
            self.problems.append(what)


class Kills(unittest.TestCase):
    def kill_under_load(self, part, *settings, times=3):
        with ServerProcess("server.fault_injection=true", *settings, arguments=("--http", "127.0.0.1:0")) as server:
            with server.client() as client:
                expected = client.ask(**REQUEST)["text"]
            with HttpLoad(server, expected) as load, server.client() as operator:
                for _ in range(times):
                    time.sleep(BETWEEN_KILLS_S)
                    if load.running():
                        operator.send({"fault": {"kill": part}})
                        self.assertEqual(operator.receive(), {"fault": {"killed": part}})
            found = server.wait_until_idle()
            self.assertEqual(found["kv_pages_free"], found["kv_pages_total"])
            server.terminate()
            self.assertEqual(server.wait(), 0, server.errors())
        print(f"\n{part}: {load.done} done, {load.closed} connections closed and opened again, longest pause "
              f"{load.longest_pause_s * 1e3:.0f} ms, restarts {found['restarts']}", flush=True)
        self.assertEqual(load.problems, [])
        self.assertEqual(load.done, CLIENTS * REQUESTS)
        self.assertGreaterEqual(found["restarts"].get(part, 0), 1)
        return load

    def test_losing_the_stream_costs_no_request(self):
        self.assertEqual(self.kill_under_load("execution_stream").closed, 0)

    def test_losing_the_expert_cache_costs_no_request(self):
        self.assertEqual(self.kill_under_load("expert_cache", "experts.prefetch=always").closed, 0)

    def test_losing_the_predictor_costs_no_request(self):
        self.assertEqual(self.kill_under_load("route_predictor", "experts.prefetch=always").closed, 0)

    def test_losing_the_gateway_costs_connections_and_clients_that_come_back_are_served(self):
        load = self.kill_under_load("http_gateway", times=2)
        self.assertGreaterEqual(load.closed, 1)


if __name__ == "__main__":
    unittest.main()
