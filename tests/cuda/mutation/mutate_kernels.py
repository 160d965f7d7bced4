#!/usr/bin/env python3
"""Plants one mistake after another in device code and counts how many the tests on the host executor catch.

    mutate_kernels.py --build DIR                    all mutants of every suite: minutes
    mutate_kernels.py --build DIR --suite smxx       of one suite
    mutate_kernels.py --build DIR --file gemm        of the files whose names hold a text
    mutate_kernels.py --build DIR --sample 8         a fixed sample, as ctest runs it; --seed draws another one
    mutate_kernels.py --list                         what would be planted, without a build
    mutate_kernels.py --self-test                    checks that mutants are found in code and nowhere else

A mutant deletes a barrier, a wait or an early return, or turns one operator or index into another. DIR is a configured
Ninja build with the suites' programs built; their object files are linked again with the mutated kernels. One build
holds most mutants of a suite behind switches (plant.py), and each is judged by a run; those in what the compiler
evaluates are built one by one. A mutant is caught when the tests fail, crash or run over the time limit. One that does
not compile is no mutant. Survivors that survivors.txt explains are counted apart. Exit status: 1 when fewer than 95 %
are caught or a survivor is unexplained.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import shlex
import subprocess
import sys
import tempfile
import time

import plant

ROOT = pathlib.Path(__file__).resolve().parents[3]
SWITCHES = pathlib.Path(__file__).with_name("mutant_switch.hpp")
CAUGHT_SHARE_MIN = 0.95
RUN_SECONDS_MIN = 60  # a suite takes a few; spinning mutants end at the executor's caps
INVALID = 99          # exit status of mutant_switch.hpp

# Name: the files that compile the kernels for the host, the headers to mutate, the program and its tests that must
# notice.
SUITES = {
    "layer": (["tests/cuda/planted_faults.cpp"], ["kernels/cuda/device/simt.hpp"], "test_cuda", "*executor_test.cpp"),
    "smxx": (["tests/cuda/smxx_on_host.cpp"], ["kernels/cuda/smxx/*.hpp"], "test_cuda", "*smxx*"),
    "sm80": (["tests/cuda/sm80_on_host.cpp", "kernels/cuda/sm80/limits.cpp", "kernels/cuda/sm80/weight_packing.cpp",
              "tests/cuda/sm80_expert_test.cpp", "tests/cuda/sm80_plan_test.cpp",
              "tests/cuda/kernel_arithmetic_test.cpp"],
             ["kernels/cuda/sm80/*_kernels.hpp", "kernels/cuda/sm80/tile_product.hpp",
              "kernels/cuda/sm80/weight_fragments.hpp", "kernels/cuda/sm80/*_plan.hpp"], "test_cuda_sm80",
             "*sm80_*,*arithmetic*"),
    "operands": (["tests/cuda/sm90/layer_test.cpp"], ["kernels/cuda/device/wgmma_operands.hpp"], "test_cuda_sm90",
                 "*layer_test.cpp"),
    "sm90": (["tests/cuda/sm90/sm90_on_host.cpp"], ["kernels/cuda/sm90/*.hpp"], "test_cuda_sm90", "*sm80_*"),
}
# The tests that run a file's code, where that is not all of the suite's.
TESTS_OF_FILES = [("sm80/attention_", "*sm80_attention*,*sm80_plan*,*arithmetic*"),
                  ("sm80/expert_", "*sm80_expert*,*sm80_plan*,*arithmetic*"),
                  ("sm80/tile_product", "*sm80_gemm*,*sm80_expert*,*sm80_plan*,*arithmetic*"),
                  ("sm80/weight_fragments", "*sm80_gemm*,*sm80_expert*"),
                  ("sm80/gemm_", "*sm80_gemm*,*sm80_attention*,*sm80_plan*,*arithmetic*")]


def suite_mutants(name, part=""):
    found = []
    for pattern in SUITES[name][1]:
        for file in sorted(ROOT.glob(pattern)):
            if part in file.name:
                found += plant.mutants_of(str(file.relative_to(ROOT)), file.read_text())
    return found


class Build:
    """How the build compiles a suite's files and links its program."""

    def __init__(self, folder, sources, program):
        self.program = program
        self.folder = pathlib.Path(folder).resolve()
        self.link = self.ninja("-t", "commands", program).strip().split("\n")[-1]
        self.files = {}  # object file: (command, the files that it is made of)
        for entry in json.loads((self.folder / "compile_commands.json").read_text()):
            if any(entry["file"].endswith(source) for source in sources):
                command = shlex.split(entry["command"])
                command = command[1:] if pathlib.Path(command[0]).name == "ccache" else command
                made = command[command.index("-o") + 1]
                if made in self.link or self.library(made) in self.link:
                    self.files[made] = (command, self.ninja("-t", "deps", made))
        if len(self.files) != len(sources):
            sys.exit(f"{program} does not link all of {', '.join(sources)}: kernels without mutants would be judged")

    @staticmethod
    def library(made):
        target = next(part for part in pathlib.Path(made).parts if part.endswith(".dir"))
        return f"lib{target.removesuffix('.dir')}.a"

    def ninja(self, *words):
        return subprocess.run(["ninja", "-C", str(self.folder), *words], text=True, check=True,
                              capture_output=True).stdout

    def make(self, overlay, paths, words, pool=None):
        """The program with the overlay's headers, or None and what the compiler says."""
        link, commands = self.link, []
        for made, (command, inputs) in self.files.items():
            if not any(path in inputs for path in paths):
                continue
            here = overlay / made.replace("/", "_")
            command = list(command)
            command[command.index("-o") + 1] = str(here)
            command[1:1] = [f"-I{overlay}", "-w", *words]
            commands.append(command)
            link = self.with_object(link, made, here)
        compiled = (pool.map if pool else map)(
            lambda each: subprocess.run(each, cwd=self.folder, capture_output=True, text=True), commands)
        errors = [each.stderr for each in compiled if each.returncode != 0]
        if errors:
            return None, errors[0]
        program = overlay / self.program
        link = link.replace(f"-o bin/{self.program}", f"-o {program}")
        subprocess.run(link, shell=True, cwd=self.folder, capture_output=True, check=True)
        return program, ""

    def with_object(self, link, made, here):
        """What a library holds is linked before it and so instead of the library's own."""
        if made in link:
            return link.replace(made, str(here))
        return link.replace(f"-o bin/{self.program}", f"{here} -o bin/{self.program}")


def outcome_of(program, tests, seconds_max, environment=None):
    try:
        done = subprocess.run([str(program), f"-sf={tests}", "--abort-after=1"], capture_output=True,
                              timeout=seconds_max, env={**os.environ, **(environment or {})})
    except subprocess.TimeoutExpired:
        return "caught"
    return {0: "survived", INVALID: "invalid"}.get(done.returncode, "caught")


def write_overlay(folder, texts):
    for path, text in texts.items():
        file = pathlib.Path(folder) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


class Judge:
    def __init__(self, options, name):
        sources, _, self.program, self.tests = SUITES[name]
        self.build = Build(options.build, sources, self.program)
        self.jobs = options.jobs
        self.seconds_max = RUN_SECONDS_MIN

    def outcomes(self, mutants):
        """Yields (mutant, outcome)."""
        numbered = dict(enumerate(mutants, 1))
        with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            program, reached = self.build_switched(pathlib.Path(folder), numbered, pool)
            switched = [number for number in numbered if number in reached]
            yield from zip((numbered[number] for number in switched),
                           pool.map(lambda number: outcome_of(program, self.tests_of(numbered[number]),
                                                              self.seconds_max, {"MOIRA_MUTANT": str(number)}),
                                    switched))
            alone = [mutant for number, mutant in numbered.items() if number not in reached]
            yield from zip(alone, pool.map(self.judge_alone, alone))

    def tests_of(self, mutant):
        return next((tests for part, tests in TESTS_OF_FILES if part in mutant.path), self.tests)

    def build_switched(self, folder, numbered, pool):
        """The program with all mutants, and the numbers of those that its tests come by."""
        paths = sorted({mutant.path for mutant in numbered.values()})
        write_overlay(folder, {path: plant.switched((ROOT / path).read_text(),
                                                    {n: m for n, m in numbered.items() if m.path == path})
                               for path in paths})
        program, errors = self.build.make(folder, paths, [f"-include{SWITCHES}"], pool)
        if program is None:
            sys.exit(f"the mutants do not compile behind switches:\n{errors[:4000]}")
        reached = folder / "reached"
        begin = time.monotonic()
        if outcome_of(program, self.tests, 3600, {"MOIRA_MUTANTS_REACHED": str(reached)}) != "survived":
            sys.exit("the tests fail without any mutant")
        self.seconds_max = max(RUN_SECONDS_MIN, 10 * (time.monotonic() - begin))
        return program, {int(line) for line in reached.read_text().split()}

    def judge_alone(self, mutant):
        with tempfile.TemporaryDirectory() as folder:
            text = plant.planted((ROOT / mutant.path).read_text(), mutant)
            write_overlay(folder, {mutant.path: text})
            program, _ = self.build.make(pathlib.Path(folder), [mutant.path], [])
            return "invalid" if program is None else outcome_of(program, self.tests_of(mutant), self.seconds_max)


def explained():
    """Survivors that are known to change nothing: one per line of survivors.txt, `name  # why`."""
    file = pathlib.Path(__file__).with_name("survivors.txt")
    return {line.split("  # ")[0].strip() for line in file.read_text().split("\n") if line and not line.startswith("#")}


def drawn(options, mutants):
    """A sample leaves index mutants out: nearly all of them are caught at once."""
    if not options.sample:
        return mutants
    telling = [mutant for mutant in mutants if mutant.kind != "index"]
    return random.Random(options.seed).sample(telling, min(len(telling), options.sample))


def run(options):
    known = explained()
    rows = []
    for name in suites_of(options):
        mutants = drawn(options, suite_mutants(name, options.file))
        totals = dict.fromkeys(("caught", "explained", "survived", "invalid"), 0)
        for mutant, outcome in Judge(options, name).outcomes(mutants) if mutants else ():
            if outcome == "survived" and mutant.name() in known:
                outcome = "explained"
            totals[outcome] += 1
            if outcome == "survived" or options.verbose:
                print(f"{outcome}: {mutant.place()}", flush=True)
        rows.append((name, totals))
    return report(rows)


def report(rows):
    print("| suite | mutants | caught | change nothing (survivors.txt) | survived | do not compile |\n"
          "| --- | --- | --- | --- | --- | --- |")
    good = True
    for name, totals in rows:
        judged = totals["caught"] + totals["survived"]
        print(f"| {name} | {judged + totals['explained']} | {totals['caught']} | {totals['explained']} | "
              f"{totals['survived']} | {totals['invalid']} |")
        good &= totals["survived"] == 0 and totals["caught"] >= CAUGHT_SHARE_MIN * judged
    return 0 if good else 1


# A sample judges suites whose survivors are all judged; of sm_90's mutants only some were ever planted.
NOT_SAMPLED = {"sm90"}


def suites_of(options):
    if options.suite:
        return [options.suite]
    return [name for name in SUITES if not options.sample or name not in NOT_SAMPLED]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build")
    parser.add_argument("--suite", choices=sorted(SUITES))
    parser.add_argument("--file", default="")
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return plant.self_test()
    if options.list:
        for name in suites_of(options):
            for mutant in drawn(options, suite_mutants(name, options.file)):
                print(mutant.place())
        return 0
    if not options.build:
        parser.error("--build is missing")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
