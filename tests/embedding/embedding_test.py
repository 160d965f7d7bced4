#!/usr/bin/env python3
"""Installs a build, moves the installation, builds host programs against it, runs them and shows what they print."""

import argparse
import json
import os
import shutil
import subprocess
import sys

PROMPT, TOKENS = "Once upon a time", 40


# Of any one command; the longest is the build of the host programs, half a minute on a free machine.
COMMAND_S_MAX = 400


def run(*command, **options):
    print("$", *command, flush=True)
    return subprocess.run(command, check=True, text=True, stdin=subprocess.DEVNULL, timeout=COMMAND_S_MAX, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument("--compiler", default="c++")
    arguments = parser.parse_args()
    host = os.path.join(os.path.dirname(os.path.abspath(__file__)), "host")
    # A fixed place, so that a compiler cache knows the host programs again.
    work = os.path.join(os.path.abspath(arguments.build), "embedding")
    shutil.rmtree(work, ignore_errors=True)
    made, prefix, programs = (os.path.join(work, name) for name in ("made", "moved", "host"))
    run(arguments.cmake, "--install", arguments.build, "--prefix", made, stdout=subprocess.DEVNULL)
    os.rename(made, prefix)

    launcher = shutil.which("ccache")
    run(arguments.cmake, "-S", host, "-B", programs, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DCMAKE_CXX_COMPILER={arguments.compiler}", "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher or ''}", stdout=subprocess.DEVNULL)
    run(arguments.cmake, "--build", programs)

    answer = json.loads(run(os.path.join(prefix, "bin", "moira"), "run", "-p", PROMPT, "-n", str(TOKENS), "--json",
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    shown = run(os.path.join(programs, "first_text"), stdout=subprocess.PIPE).stdout
    print(shown, flush=True)
    if shown != f"{answer['text']}\nlength {answer['logits_hash']}\n":
        sys.exit("first_text does not say what `moira run` says")
    run(os.path.join(programs, "in_process"), answer["logits_hash"], answer["text"])
    run(os.path.join(programs, "two_processes"), answer["logits_hash"])


if __name__ == "__main__":
    main()
