"""`moira bench serve` against the real server, and against one that speaks OpenAI's HTTP and misbehaves."""

import http.server
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from server_process import ANSWER_S, ServerProcess, executable

TRACE = os.path.join(os.path.dirname(__file__), "..", "data", "workload", "azure-2023-conv-40.csv")


def load(target, *arguments):
    """(exit code, the report, standard error)."""
    done = subprocess.run([executable(), "bench", "serve", "--target", target, "--json", *arguments], capture_output=True,
                          text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


class Lines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ServerProcess()
        cls.target = "tcp://{}:{}".format(*cls.server.address)

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def test_all_requests_are_answered_with_the_promised_fields(self):
        before = self.server.statistics()
        code, report, err = load(self.target, "--clients", "4", "--requests", "12", "--max-tokens", "5",
                                 "--prompt-tokens", "20")
        self.assertEqual(code, 0, err)
        self.assertEqual((report["completed"], report["failed"], report["cancelled"]), (12, 0, 0))
        self.assertEqual(report["tokens"], 60)
        for name in ("ttft_ms", "itl_ms"):
            self.assertTrue(0 <= report[name]["p50"] <= report[name]["p99"], report)
        self.assertGreater(report["ttft_ms"]["p50"], 0)
        self.assertAlmostEqual(report["tok_s"], report["tokens"] / report["elapsed_s"])
        after = self.server.statistics()
        self.assertEqual(after["prompt_tokens"] - before["prompt_tokens"], 12 * 20)
        self.assertRegex(report["verdict"], "waited for experts|all experts fit")
        experts = after["experts"]
        self.assertGreater(experts["regret"]["uses"], 0)
        self.assertEqual(sum(layer["regret_loads"] for layer in experts["layers"]),
                         experts["regret"]["loads"] - experts["regret"]["optimal_loads"])

    def test_a_recorded_workload_is_replayed_and_cut_to_the_context(self):
        code, report, err = load(self.target, "--clients", "8", "--workload", TRACE, "--requests", "10", "--speedup", "50",
                                 "--max-tokens", "6")
        self.assertEqual(code, 0, err)
        self.assertEqual(report["completed"], 10)
        self.assertEqual(report["tokens"], 60)
        self.assertGreater(report["rows_cut"], 0)
        self.assertIsNotNone(report["late_ms"]["p50"])

    def test_the_table_is_for_people(self):
        done = subprocess.run([executable(), "bench", "serve", "--target", self.target, "--requests", "2", "--prompt",
                               "Once upon a time", "--max-tokens", "3", "--no-stream"], capture_output=True, text=True,
                              timeout=ANSWER_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 completed, 0 failed", done.stdout)
        self.assertNotIn("between tokens", done.stdout)
        self.assertRegex(done.stdout, "(?m)^verdict: .")
        self.assertEqual(done.stderr, "")

    def test_ctrl_c_prints_what_was_measured(self):
        child = subprocess.Popen([executable(), "bench", "serve", "--target", self.target, "--json", "--requests", "100000",
                                  "--max-tokens", "4", "--prompt-tokens", "4"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        deadline = time.monotonic() + ANSWER_S
        first = self.server.statistics()["finished"]
        while self.server.statistics()["finished"] < first + 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=ANSWER_S)
        self.assertEqual(child.returncode, 130, err)
        report = json.loads(out)
        self.assertTrue(report["interrupted"])
        self.assertGreater(report["completed"], 0)
        self.assertEqual(report["completed"] + report["failed"] + report["cancelled"] + report["not_sent"], 100000)
        self.server.wait_until_idle()

    def test_refused_requests_are_counted_and_the_exit_code_says_so(self):
        code, report, _ = load(self.target, "--requests", "3", "--prompt-tokens", "5000")
        self.assertEqual(code, 1)
        self.assertEqual(report["failed"], 3)
        self.assertEqual(report["failures"], {"prompt_too_long": 3})

    def test_wrong_command_lines_end_with_2_and_dead_servers_with_1(self):
        self.assertEqual(load("127.0.0.1:1")[0], 2)
        self.assertEqual(load("tcp://127.0.0.1:1")[0], 1)
        self.assertEqual(load(self.target, "--clients", "0")[0], 2)
        self.assertEqual(load(self.target, "--workload", __file__)[0], 2)
        self.assertEqual(load(self.target, "--workload", "/no/such.csv")[0], 2)
        # The line server answers HTTP with an error line: no answer that HTTP knows.
        self.assertEqual(load(self.target.replace("tcp:", "http:"))[0], 1)


class Keys(unittest.TestCase):
    def test_a_key_is_shown(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = os.path.join(folder, "keys")
            with open(keys, "w", encoding="ascii") as file:
                file.write("a-key-for-the-test\n")
            with ServerProcess(f"server.api_key_file={keys}") as server:
                target = "tcp://{}:{}".format(*server.address)
                code, report, err = load(target, "--requests", "2", "--max-tokens", "2", "--api-key-file", keys)
                self.assertEqual(code, 0, err)
                self.assertEqual(report["completed"], 2)


class OpenAi(http.server.BaseHTTPRequestHandler):
    """Just enough of OpenAI's interface: words as events in chunks, a refusal for the third request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, {"object": "list", "data": [{"id": "some-model", "max_model_len": 100}]})

    def chunk(self, text):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
            number = len(self.server.requests)
        if number == 3:
            return self.answer(429, {"error": {"message": "wait", "code": "queue_full"}})
        if not request["stream"]:
            return self.answer(200, {"choices": [{"text": "w w", "finish_reason": "length"}],
                                     "usage": {"completion_tokens": request["max_tokens"]}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(request["max_tokens"]):
            self.chunk(b'data: {"choices":[{"text":" w"}]}\n\n')
        self.chunk(b'data: {"choices":[],"usage":{"completion_tokens":%d}}\n\n' % request["max_tokens"])
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")


class Http(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OpenAi)
        self.server.daemon_threads = True
        self.server.lock, self.server.requests = threading.Lock(), []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.target = f"http://127.0.0.1:{self.server.server_address[1]}"

    def test_streams_are_measured_and_refusals_counted(self):
        code, report, err = load(self.target, "--clients", "2", "--requests", "8", "--max-tokens", "4")
        self.assertEqual(code, 1, err)
        self.assertEqual((report["completed"], report["failed"]), (7, 1))
        self.assertEqual(report["failures"], {"queue_full": 1})
        self.assertEqual(report["tokens"], 28)
        self.assertIsNone(report["verdict"])  # that server tells no counters
        self.assertEqual(report["model"], "some-model")
        self.assertEqual({request["model"] for request in self.server.requests}, {"some-model"})

    def test_answers_in_one_piece_and_lengths_of_a_workload(self):
        code, report, err = load(self.target, "--clients", "4", "--workload", TRACE, "--requests", "2", "--speedup", "1000",
                                 "--no-stream")
        self.assertEqual(code, 0, err)
        self.assertEqual(report["completed"], 2)
        self.assertEqual(report["rows_cut"], 2)
        for request in self.server.requests:
            self.assertEqual(len(request["prompt"]) + request["max_tokens"], 100)
        self.assertIsNone(report["itl_ms"]["p50"])


if __name__ == "__main__":
    unittest.main()
