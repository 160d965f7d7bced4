"""HTTP against the real program: what a client gets, and what bad input gets. Standard library only."""

import http.client
import json
import socket
import tempfile
import time
import unittest

from server_process import ANSWER_S, ServerProcess

PROMPT = "Once upon a time"
GOOD = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "seed": 1, "ignore_eos": True}
LONG = {"prompt": PROMPT, "max_tokens": 100000, "ignore_eos": True}
CHAT = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 12, "temperature": 0}


def start(*settings):
    return ServerProcess(*settings, arguments=("--http", "127.0.0.1:0"))


class Reply:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self):
        return json.loads(self.body)

    def code(self):
        return self.json()["error"]["code"]

    def events(self):
        """Decoded data of the events; the last must be [DONE]."""
        lines = [line[6:] for line in self.body.decode().split("\n\n") if line.startswith("data: ")]
        assert lines[-1] == "[DONE]", lines[-1]
        return [json.loads(line) for line in lines[:-1]]


def ask(server, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(*server.http_address, timeout=ANSWER_S)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, data, {**fields, **(headers or {})})
        return Reply(connection.getresponse())
    finally:
        connection.close()


class Shared(unittest.TestCase):
    """One server for everything that a well-set server must survive."""

    @classmethod
    def setUpClass(cls):
        cls.server = start()
        with cls.server.client() as client:
            cls.reference = client.ask(**GOOD)
        assert cls.reference.get("done"), cls.reference

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def tearDown(self):
        self.assertTrue(self.server.alive(), self.server.errors())
        self.server.wait_until_idle()

    def ask(self, *arguments, **named):
        return ask(self.server, *arguments, **named)

    def raw(self, data):
        """A socket on which `data` was sent."""
        connection = socket.create_connection(self.server.http_address, timeout=ANSWER_S)
        connection.sendall(data)
        return connection


class WhatAClientGets(Shared):
    def test_a_completion_equals_the_one_over_lines(self):
        reply = self.ask("POST", "/v1/completions", GOOD)
        self.assertEqual(reply.status, 200, reply.body)
        body = reply.json()
        self.assertEqual(body["choices"][0]["text"], self.reference["text"])
        self.assertEqual(body["choices"][0]["finish_reason"], "length")
        self.assertEqual(body["moira"]["logits_hash"], self.reference["moira"]["logits_hash"])
        self.assertEqual(set(body["moira"]), set(self.reference["moira"]))
        self.assertEqual(body["usage"]["completion_tokens"], 12)
        self.assertEqual(body["usage"]["total_tokens"], 12 + body["usage"]["prompt_tokens"])

    def test_a_stream_concatenates_to_the_text_and_ends_with_moira(self):
        for usage in (False, True):
            fields = {**GOOD, "stream": True}
            if usage:
                fields["stream_options"] = {"include_usage": True}
            reply = self.ask("POST", "/v1/completions", fields)
            self.assertEqual(reply.headers["Content-Type"], "text/event-stream")
            events = reply.events()
            text = "".join(event["choices"][0]["text"] for event in events if event["choices"])
            self.assertEqual(text, self.reference["text"])
            self.assertEqual(events[-1]["moira"]["logits_hash"], self.reference["moira"]["logits_hash"])
            self.assertEqual(bool(events[-1].get("usage")), usage)

    def test_a_chat_streamed_and_not(self):
        whole = self.ask("POST", "/v1/chat/completions", CHAT)
        self.assertEqual(whole.status, 200, whole.body)
        message = whole.json()["choices"][0]["message"]
        self.assertEqual(message["role"], "assistant")
        events = self.ask("POST", "/v1/chat/completions", {**CHAT, "stream": True}).events()
        self.assertEqual(events[0]["choices"][0]["delta"]["role"], "assistant")
        text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
        self.assertEqual(text, message["content"])
        self.assertEqual(events[-1]["moira"]["logits_hash"], whole.json()["moira"]["logits_hash"])

    def test_ids_there_and_back(self):
        ids = self.ask("POST", "/tokenize", {"prompt": PROMPT}).json()["token_ids"]
        same = self.ask("POST", "/v1/completions", {**GOOD, "prompt": ids})
        self.assertEqual(same.json()["moira"]["logits_hash"], self.reference["moira"]["logits_hash"])
        plain = self.ask("POST", "/tokenize", {"prompt": PROMPT, "add_special_tokens": False}).json()
        self.assertEqual(plain["count"], len(plain["token_ids"]))
        self.assertEqual(self.ask("POST", "/detokenize", {"token_ids": plain["token_ids"]}).json()["text"], PROMPT)
        self.assertEqual(self.ask("POST", "/detokenize", {"tokens": [10**6]}).code(), "token_out_of_range")

    def test_models_health_and_metrics(self):
        model = self.ask("GET", "/v1/models").json()["data"][0]
        self.assertEqual(model["context_length"], self.server.statistics()["context_max"])
        self.assertEqual(self.ask("GET", "/v1/models/" + model["id"]).json(), model)
        self.assertEqual(self.ask("GET", "/health").json(), {"status": "ok"})
        metrics = self.ask("GET", "/metrics")
        self.assertTrue(metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        values = {}
        for line in metrics.body.decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                self.assertTrue(name.startswith("moira_"), line)
                values[name] = float(value)
        self.assertGreaterEqual(values["moira_finished_requests"], 1)
        self.assertEqual(values["moira_http_connections"], 1)
        layers = [name for name in values if name.startswith("moira_layer_expert_hits{layer=")]
        self.assertEqual(sum(values[name] for name in layers), values["moira_expert_hits"])
        told = self.server.statistics()["experts"]["layers"]
        self.assertEqual(len(told), len(layers))
        self.assertTrue(all(0 <= layer["hit_rate"] <= 1 and layer["stall_s"] >= 0 for layer in told))

    def test_many_requests_on_one_connection(self):
        connection = http.client.HTTPConnection(*self.server.http_address, timeout=ANSWER_S)
        for number in range(5):
            connection.request("POST", "/v1/completions", json.dumps(GOOD), {"X-Request-Id": f"r{number}"})
            reply = Reply(connection.getresponse())
            self.assertEqual(reply.json()["choices"][0]["text"], self.reference["text"])
            self.assertEqual(reply.headers["X-Request-Id"], f"r{number}")
        connection.close()

    def test_unknown_fields_are_listed(self):
        reply = self.ask("POST", "/v1/completions", {**GOOD, "temprature": 1})
        self.assertEqual(reply.json()["moira"]["ignored"], ["temprature"])


class WhatBadInputGets(Shared):
    def test_statuses(self):
        body = json.dumps(GOOD).encode()
        for expected, method, path, data, headers in (
                (400, "POST", "/v1/completions", b"{", {}),
                (400, "POST", "/v1/completions", b"", {}),
                (400, "POST", "/v1/completions", {**GOOD, "logprobs": 1}, {}),
                (400, "POST", "/v1/completions", {**GOOD, "n": 2}, {}),
                (400, "POST", "/v1/completions", {**GOOD, "max_tokens": -1}, {}),
                (400, "POST", "/v1/completions", {**GOOD, "prompt": [5] * 100000}, {}),
                (400, "POST", "/v1/completions", {**GOOD, "prompt": [10**8]}, {}),
                (404, "POST", "/v1/completions", {**GOOD, "model": "another"}, {}),
                (404, "GET", "/v1/engines", None, {}),
                (405, "GET", "/v1/completions", None, {}),
                (405, "POST", "/health", b"{}", {}),
                (413, "POST", "/v1/completions", b"x" * (2 << 20), {}),
                (414, "GET", "/" + "x" * 9000, None, {}),
                (415, "POST", "/v1/completions", body, {"Content-Type": "application/x-www-form-urlencoded"}),
                (431, "GET", "/health", None, {"Odd": "x" * 20000})):
            reply = self.ask(method, path, data, headers)
            self.assertEqual(reply.status, expected, (path[:30], reply.body))
            self.assertEqual(set(reply.json()["error"]), {"message", "type", "param", "code"})

    def test_a_client_that_vanishes_ends_its_request(self):
        for stream in (False, True):
            for leave in ("close", "half"):
                data = json.dumps({**LONG, "stream": stream}).encode()
                connection = self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" %
                                      len(data) + data)
                deadline = time.monotonic() + ANSWER_S
                while self.server.statistics()["running"] == 0:
                    self.assertLess(time.monotonic(), deadline)
                if leave == "half":
                    connection.shutdown(socket.SHUT_WR)
                else:
                    connection.close()
                self.server.wait_until_idle()
                connection.close()

    def test_a_tls_hello_gets_an_answer(self):
        with self.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") as connection:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


class Impatient(unittest.TestCase):
    """Servers of their own."""

    def test_keys(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("secret\n")
            keys.flush()
            with start(f"server.api_key_file={keys.name}") as server:
                self.assertEqual(ask(server, "GET", "/health").status, 200)
                refused = ask(server, "POST", "/v1/completions", GOOD)
                self.assertEqual((refused.status, refused.code()), (401, "unauthorized"))
                self.assertEqual(ask(server, "GET", "/metrics", headers={"Authorization": "Bearer no"}).status, 401)
                self.assertEqual(
                    ask(server, "POST", "/v1/completions", GOOD, {"Authorization": "Bearer secret"}).status, 200)

    def test_half_a_request(self):
        with start("server.line_timeout_s=1") as server:
            with socket.create_connection(server.http_address, timeout=ANSWER_S) as connection:
                connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
                self.assertTrue(connection.recv(4096).startswith(b"HTTP/1.1 408 "))

    def test_too_many_connections(self):
        with start("server.max_connections=1") as server:
            with socket.create_connection(server.http_address, timeout=ANSWER_S) as first:
                first.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertTrue(first.recv(4096).startswith(b"HTTP/1.1 200 "))
                with socket.create_connection(server.http_address, timeout=ANSWER_S) as second:
                    self.assertTrue(second.recv(4096).startswith(b"HTTP/1.1 503 "))

    def test_sigterm_ends_streams_in_order(self):
        with start() as server:
            connection = http.client.HTTPConnection(*server.http_address, timeout=ANSWER_S)
            connection.request("POST", "/v1/completions", json.dumps({**GOOD, "max_tokens": 60, "stream": True}))
            response = connection.getresponse()
            server.terminate()
            events = Reply(response).events()
            connection.close()
            self.assertEqual(events[-1]["choices"][0]["finish_reason"], "length")
            self.assertEqual(server.wait(), 0, server.errors())

    def test_http_alone(self):
        with ServerProcess(tcp=None, arguments=("--http", "127.0.0.1:0")) as server:
            self.assertIsNone(server.address)
            self.assertEqual(ask(server, "GET", "/health").status, 200)


if __name__ == "__main__":
    unittest.main()
