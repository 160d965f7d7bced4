"""The `openai` Python client against the real program, unchanged.

Where the package cannot be imported it is installed into a virtual environment in the build folder (MOIRA_VENV); where
that fails too, as without a network, the test is skipped: exit code 77.
"""

import os
import subprocess
import sys
import unittest

from python_package import find_package

openai = find_package("openai", "openai>=1,<3")

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.append(os.path.join(ROOT, "tests", "docs"))

import run_commands  # noqa: E402  (after the interpreter was chosen)
from server_process import ANSWER_S, ServerProcess  # noqa: E402

README_ADDRESS = "127.0.0.1:8080"

PROMPT = "Once upon a time"
GOOD = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "seed": 1}
MESSAGES = [{"role": "user", "content": "Tell me a story."}]


class WhatTheClientGets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ServerProcess(arguments=("--http", "127.0.0.1:0"))
        host, port = cls.server.http_address
        cls.client = openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key="any", timeout=ANSWER_S, max_retries=0)
        cls.model = cls.client.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.kill()

    def test_models(self):
        self.assertGreater(self.client.models.retrieve(self.model).context_length, 0)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("another")

    def test_completions(self):
        whole = self.client.completions.create(model=self.model, **GOOD)
        self.assertEqual(whole.usage.completion_tokens, 12)
        self.assertEqual(whole.choices[0].finish_reason, "length")
        self.assertEqual(len(whole.moira["logits_hash"]), 16)
        chunks = list(self.client.completions.create(model=self.model, stream=True, **GOOD))
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), whole.choices[0].text)
        self.assertEqual(chunks[-1].moira["logits_hash"], whole.moira["logits_hash"])

    def test_chat(self):
        fields = {"model": self.model, "messages": MESSAGES, "max_completion_tokens": 12, "temperature": 0}
        whole = self.client.chat.completions.create(**fields)
        self.assertEqual(whole.choices[0].message.role, "assistant")
        chunks = list(self.client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **fields))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.total_tokens, whole.usage.total_tokens)

    def test_the_program_in_the_readme_prints_what_is_shown_there(self):
        """The very text of the README, with this server's address."""
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            blocks = run_commands.blocks_of("README.md", file.read())
        shown = [(block, blocks[i + 1]) for i, block in enumerate(blocks) if block.mark == "openai"]
        self.assertTrue(shown)
        for block, prints in shown:
            self.assertEqual((block.language, prints.mark), ("python", "prints"))
            self.assertIn(README_ADDRESS, block.text)
            program = block.text.replace(README_ADDRESS, "{}:{}".format(*self.server.http_address))
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=ANSWER_S)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(run_commands.printed_as_shown(prints.text, done.stdout), done.stdout)

    def test_stop_and_extra_fields(self):
        text = self.client.completions.create(model=self.model, **GOOD).choices[0].text
        stop = text.split()[-1]
        cut = self.client.completions.create(model=self.model, stop=[stop], **GOOD)
        self.assertEqual(cut.choices[0].text, text[:text.index(stop)])
        self.assertEqual(cut.choices[0].finish_reason, "stop")
        extra = self.client.completions.create(model=self.model, extra_body={"top_k": 1, "odd": 2}, **GOOD)
        self.assertEqual(extra.choices[0].text, text)
        self.assertEqual(extra.moira["ignored"], ["odd"])

    def test_what_cannot_be_served_is_an_error_with_its_field(self):
        for field, value in (("n", 2), ("logprobs", 3), ("echo", True)):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.client.completions.create(model=self.model, **GOOD, **{field: value})
            self.assertEqual(caught.exception.code, "unsupported")
            self.assertEqual(caught.exception.param, field)

    def test_a_stream_that_is_left_ends_its_request(self):
        stream = self.client.completions.create(model=self.model, stream=True, prompt=PROMPT, max_tokens=100000,
                                                extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        self.server.wait_until_idle()


if __name__ == "__main__":
    unittest.main()
