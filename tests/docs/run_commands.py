#!/usr/bin/env python3
"""Runs the commands that the documents show, and compares the tables in them with the program and the sources.

    run_commands.py --source ROOT --moira PROGRAM            checks; prints what is wrong and exits 1 then
    run_commands.py --source ROOT --moira PROGRAM --write    rewrites the tables that the program prints
    run_commands.py --self-test                              checks that every kind of mistake is found

A block of commands has a comment in the line before it:

    <!-- test: run -->           runs in ROOT and must end with 0
    <!-- test: run, exit 2 -->   must end with 2
    <!-- test: serve -->         a server; it runs beside the blocks after it and must end with 0 on SIGTERM
    <!-- test: client -->        talks to that server
    <!-- test: openai -->        is run by tests/end_to_end/openai_client_test.py, which has that package
    <!-- test: skip, WHY -->     is only shown
    <!-- test: same as FILE -->  the block is the text of a file that another test builds and runs
    <!-- test: prints -->        the text block is what the block of commands before it printed: a number stands for any
                                 number, cpu_NAME for any CPU plugin, `...` for any text
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

from doc_tables import check_constants, error_rows, replace_table, setting_rows

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
PROGRAM_SHOWN = "build/release/bin/moira"
ADDRESS_SHOWN = re.compile(r"127\.0\.0\.1[ :](?:7420|8080)")
HTTP_SHOWN = "--http 127.0.0.1:8080"
COMMAND_SECONDS_MAX = 300
MARK = re.compile(r"^<!-- test: (run|serve|client|openai|skip|prints|same as)(?:,? (.+))? -->$")

# Enough of nc for a client block where nc is not installed: sends standard input, prints what comes back until the peer
# has been still for a second.
NC_STANDIN = """#!/usr/bin/env python3
import socket, sys
host, port = sys.argv[-2:]
with socket.create_connection((host, int(port)), timeout=60) as peer:
    peer.sendall(sys.stdin.buffer.read())
    peer.settimeout(float(sys.argv[sys.argv.index("-q") + 1]) if "-q" in sys.argv else 5)
    try:
        while data := peer.recv(65536):
            sys.stdout.buffer.write(data)
    except TimeoutError:
        pass
"""


class Block:
    def __init__(self, document, line, language, mark, detail, text):
        self.place = f"{document}:{line}"
        self.language, self.mark, self.detail, self.text = language, mark, detail, text


def blocks_of(document, text):
    """Fenced blocks with the mark in the last line before them that is not empty."""
    lines = text.splitlines()
    found, number, before = [], 0, ""
    while number < len(lines):
        if lines[number].startswith("```"):
            begin = number
            language = lines[number][3:].strip()
            number += 1
            while number < len(lines) and not lines[number].startswith("```"):
                number += 1
            mark = MARK.match(before)
            found.append(Block(document, begin + 1, language, mark.group(1) if mark else None,
                               mark.group(2) if mark else None, "\n".join(lines[begin + 1:number]) + "\n"))
            before = ""
        elif lines[number].strip():
            before = lines[number].strip()
        number += 1
    return found


def machine_hidden(text):
    """What differs between machines and runs: numbers, and which plugin won."""
    return re.sub(r"\d+(?:[.,]\d+)*", "#", re.sub(r"\bcpu_(?:avx2|avx512|reference)\b", "cpu_#", text))


def printed_as_shown(shown, printed):
    """Compares line by line without trailing blanks; in `shown` a number is any number and `...` any text."""
    def normal(text):
        return "\n".join(line.rstrip() for line in machine_hidden(text).strip().splitlines())
    whole_lines = r"(?:.*\n)?".join(
        ".*".join(re.escape(part) for part in lines.split("..."))
        for lines in re.split(r"(?m)^\.\.\.\n", normal(shown)))
    return re.fullmatch(whole_lines, normal(printed), re.DOTALL) is not None


class Runner:
    def __init__(self, source, moira):
        self.source, self.moira = source, os.path.abspath(moira)
        self.problems, self.ran = [], 0
        self.server, self.address = None, None
        self.folder = tempfile.TemporaryDirectory()
        self.environment = dict(os.environ, HF_HUB_CACHE=os.path.join(self.folder.name, "no_cache"),
                                TMPDIR=self.folder.name)
        if not any(os.access(os.path.join(p, "nc"), os.X_OK) for p in os.environ.get("PATH", "").split(":")):
            standin = os.path.join(self.folder.name, "bin")
            os.mkdir(standin)
            with open(os.path.join(standin, "nc"), "w", encoding="utf-8") as file:
                file.write(NC_STANDIN)
            os.chmod(os.path.join(standin, "nc"), 0o755)
            self.environment["PATH"] = standin + ":" + self.environment["PATH"]

    def wrong(self, block, why):
        self.problems.append(f"{block.place}: {why}")

    def command(self, block):
        return "set -euo pipefail\n" + block.text.replace(PROGRAM_SHOWN, f"'{self.moira}'")

    def run(self, block):
        text = self.command(block)
        if block.mark == "client":
            if not self.address:
                self.wrong(block, "a client block without a server before it")
                return None
            host, port = self.address.rsplit(":", 1)
            text = ADDRESS_SHOWN.sub(lambda shown: host + shown.group(0)[9] + port, text)
        wanted = int(block.detail.split()[1]) if block.detail and block.detail.startswith("exit ") else 0
        try:
            done = subprocess.run(["bash", "-c", text], cwd=self.source, env=self.environment, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=COMMAND_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.wrong(block, f"did not end within {COMMAND_SECONDS_MAX} s")
            return None
        printed = done.stdout.decode("utf-8", errors="replace")
        self.ran += 1
        if done.returncode != wanted:
            self.wrong(block, f"exit code {done.returncode}, expected {wanted}; it printed:\n{printed}")
        return printed

    def serve(self, block):
        self.stop()
        text = self.command(block).rstrip().rstrip("&").rstrip()
        # exec: the signal at the end must reach the program and not the shell.
        protocol = "http" if HTTP_SHOWN in text else "tcp"
        text = text.replace(f"'{self.moira}'", f"exec '{self.moira}'").replace(" " + HTTP_SHOWN, "")
        text += f" --{protocol} 127.0.0.1:0\n"
        log = open(os.path.join(self.folder.name, "server.log"), "wb")
        self.server = subprocess.Popen(["bash", "-c", text], cwd=self.source, env=self.environment,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        self.server_block = block
        line = self.server.stdout.readline().decode()
        self.ran += 1
        try:
            self.address = json.loads(line)[protocol]
        except (ValueError, KeyError, TypeError):
            self.wrong(block, f"the first line of the server is no ready line: {line!r}")
        return line

    def stop(self):
        if not self.server:
            return
        self.server.send_signal(signal.SIGTERM)
        try:
            code = self.server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.server.kill()
            code = self.server.wait()
        self.server.stdout.close()
        if code != 0:
            self.wrong(self.server_block, f"the server ended with {code} on SIGTERM, expected 0")
        self.server, self.address = None, None

    def document(self, name, text):
        printed = None
        for block in blocks_of(name, text):
            if block.mark == "prints":
                if printed is not None and not printed_as_shown(block.text, printed):
                    self.wrong(block, f"shown:\n{block.text}printed:\n{printed}")
                printed = None
            elif block.language == "sh" and block.mark is None:
                self.wrong(block, "a block of commands without a line such as <!-- test: run --> before it")
            elif block.mark == "same as":
                if block.text != read(os.path.join(self.source, block.detail)):
                    self.wrong(block, f"differs from {block.detail}")
            elif block.mark == "serve":
                printed = self.serve(block)
            elif block.mark in ("run", "client"):
                printed = self.run(block)
            elif block.mark == "openai":
                printed = None
        self.stop()


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def program_json(moira, *arguments):
    return json.loads(subprocess.run([moira, *arguments, "--json"], check=True, stdout=subprocess.PIPE).stdout)


def generated_tables(moira):
    return {"settings": setting_rows(program_json(moira, "config")), "errors": error_rows(program_json(moira, "errors"))}


def check_tables(source, moira, write):
    path = os.path.join(source, "ARCHITECTURE.md")
    text, problems = read(path), []
    for name, rows in generated_tables(moira).items():
        renewed = replace_table(text, name, rows)
        if renewed is None:
            problems.append(f"ARCHITECTURE.md: no table between the comments `{name}: begin` and `{name}: end`")
        elif renewed != text and not write:
            problems.append(f"ARCHITECTURE.md: the table `{name}` differs from what the program says; renew it with "
                            "tests/docs/run_commands.py --source . --moira build/release/bin/moira --write")
        text = renewed or text
    if write:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return problems + check_constants(source, text)


def self_test():
    failures = []

    def expect(what, holds):
        if not holds:
            failures.append(what)

    expect("numbers stand for any number", printed_as_shown("6 tokens, 1.5 s\n", "7 tokens, 12.25 s  \n"))
    expect("other words are found", not printed_as_shown("6 tokens\n", "6 words\n"))
    expect("missing lines are found", not printed_as_shown("a\n", "a\nb\n"))
    expect("a line of dots may stand for nothing", printed_as_shown("a\n...\nz\n", "a\nz\n"))
    expect("a plugin stands for any", printed_as_shown("on cpu_avx2; 1\n", "on cpu_avx512; 2\n"))
    expect("dots stand for any text", printed_as_shown("a\n...\nz\n", "a\nb\nc\nz\n"))
    runner = Runner(os.getcwd(), "/bin/true")
    runner.document("bad.md", "```sh\ntrue\n```\n<!-- test: run -->\n```sh\nfalse\n```\n"
                              "<!-- test: run -->\n```sh\necho a\n```\n<!-- test: prints -->\n```text\nb\n```\n"
                              "<!-- test: client -->\n```sh\ntrue\n```\n")
    expect(f"four mistakes are found, not {runner.problems}", len(runner.problems) == 4)
    runner = Runner(os.getcwd(), "/bin/true")
    runner.document("good.md", "<!-- test: run, exit 3 -->\n```sh\necho 5 of x; exit 3\n```\n\nIt prints:\n\n"
                               "<!-- test: prints -->\n```text\n8 of ...\n```\n<!-- test: skip, slow -->\n```sh\nno\n```\n")
    expect(f"no false alarm: {runner.problems}", not runner.problems and runner.ran == 1)
    with tempfile.TemporaryDirectory() as source:
        with open(os.path.join(source, "a.cpp"), "w", encoding="utf-8") as file:
            file.write("int a;\n")
        runner = Runner(source, "/bin/true")
        runner.document("same.md", "<!-- test: same as a.cpp -->\n```cpp\nint a;\n```\n")
        expect(f"an equal file is no false alarm: {runner.problems}", not runner.problems)
        runner.document("same.md", "<!-- test: same as a.cpp -->\n```cpp\nint b;\n```\n")
        expect("a block that differs from its file is found", len(runner.problems) == 1)
    table_self_test(expect)
    print("\n".join(failures) if failures else "every planted mistake was found, no false alarm")
    return 1 if failures else 0


def table_self_test(expect):
    with tempfile.TemporaryDirectory() as source:
        with open(os.path.join(source, "limits.hpp"), "w", encoding="utf-8") as file:
            file.write("constexpr std::size_t line_bytes_max = std::size_t{1} << 20;\nmilliseconds patience{5'000};\n"
                       "constexpr integer_range rows_range{1, 1 << 10};\n")
        good = ("| line | 1 MiB | `line_bytes_max` in `limits.hpp` | | |\n| wait | 5 s | `patience` in `limits.hpp` | | |\n"
                "| rows | 1,024 | `rows_range` in `limits.hpp` | | |\n")
        found = check_constants(source, good)
        expect(f"no false alarm about limits: {found}", not found)
        for right, wrong in (("1 MiB", "2 MiB"), ("5 s", "6 s"), ("1,024", "1,025"), ("patience", "absent"),
                             ("in `limits", "in `absent")):
            expect(f"a limit that says {wrong} is found", check_constants(source, good.replace(right, wrong)))
        expect("a table without limits is found", check_constants(source, ""))
    text = "<!-- t: begin -->\n\n| a |\n\n<!-- t: end -->\n"
    expect("an equal table is kept", replace_table(text, "t", ["| a |"]) == text)
    expect("another table differs", replace_table(text, "t", ["| b |"]) != text)
    expect("a missing table is found", replace_table("", "t", ["| a |"]) is None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=".")
    parser.add_argument("--moira")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.moira:
        parser.error("--moira is needed")
    problems = check_tables(options.source, options.moira, options.write)
    if options.write:
        print("\n".join(problems) if problems else "tables written")
        return 1 if problems else 0
    runner = Runner(options.source, options.moira)
    for name in DOCUMENTS:
        runner.document(name, read(os.path.join(options.source, name)))
    problems += runner.problems
    print("\n".join(problems) if problems else f"{runner.ran} blocks of commands ran, tables agree")
    return 1 if problems or runner.ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
