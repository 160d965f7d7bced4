#!/usr/bin/env python3
"""Plants one mistake after another in device code and counts how many the tests on the host executor catch.

    mutate_kernels.py --build DIR                    all mutants of every suite: minutes
    mutate_kernels.py --build DIR --suite smxx       of one suite
    mutate_kernels.py --build DIR --sample 8         a fixed sample, as ctest runs it
    mutate_kernels.py --list                         what would be planted, without a build
    mutate_kernels.py --self-test                    checks that mutants are found in code and nowhere else

A mutant deletes a barrier, a wait or an early return, or turns one operator or index into another. DIR is a configured
Ninja build with test_cuda and test_cuda_sm80 built; its object files are linked again with the mutated kernels. A mutant is caught when
the tests fail, crash or run over the time limit. One that does not compile is no mutant. Survivors that survivors.txt
explains are counted apart. Exit status: 1 when fewer than 95 % are caught or a survivor is unexplained.
"""

import argparse
import concurrent.futures
import json
import pathlib
import random
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
CAUGHT_SHARE_MIN = 0.95
RUN_SECONDS_MAX = 60  # a suite takes one; spinning mutants end at the executor's caps

# Name: the file that compiles the kernels for the host, the headers to mutate, the program and its tests that must notice.
SUITES = {
    "layer": ("tests/cuda/planted_faults.cpp", ["kernels/cuda/device/simt.hpp"], "test_cuda",
              "*executor_test.cpp"),
    "smxx": ("tests/cuda/smxx_on_host.cpp", ["kernels/cuda/smxx/*.hpp"], "test_cuda", "*smxx_test.cpp"),
    "sm80": ("tests/cuda/sm80_on_host.cpp", ["kernels/cuda/sm80/*_kernels.hpp", "kernels/cuda/sm80/tile_product.hpp",
             "kernels/cuda/sm80/weight_fragments.hpp", "kernels/cuda/sm80/*_plan.hpp"], "test_cuda_sm80", "*sm80_*"),
}

# What a sample is drawn from: the suites that have reached the bar. sm80 has not: of 40 drawn mutants its tests catch 28,
# and not every survivor is explained yet.
SAMPLED = ["layer", "smxx"]

# (kind, pattern, replacement). Operators stand between spaces: the formatter sees to that.
RULES = [
    ("barrier", re.compile(r"__syncthreads\(\);"), ";"),
    ("barrier", re.compile(r"__syncwarp\(\);"), ";"),
    ("wait", re.compile(r"cp_async_wait<[^>]+>\(\);"), ";"),
    ("wait", re.compile(r"cp_async_wait<([^>]+)>\(\);"), r"cp_async_wait<(\1) + 1>();"),
    ("wait", re.compile(r"cp_async_commit\(\);"), ";"),
    ("predicate", re.compile(r"\breturn;"), ";"),
    ("predicate", re.compile(r" < "), " <= "),
    ("predicate", re.compile(r" <= "), " < "),
    ("predicate", re.compile(r" >= "), " > "),
    ("predicate", re.compile(r" > "), " < "),
    ("predicate", re.compile(r" == "), " != "),
    ("predicate", re.compile(r" != "), " == "),
    ("predicate", re.compile(r" && "), " || "),
    ("predicate", re.compile(r" \|\| "), " && "),
    ("index", re.compile(r" \+ "), " - "),
    ("index", re.compile(r" - "), " + "),
    ("index", re.compile(r" \* "), " + "),
    ("index", re.compile(r" / "), " * "),
    ("index", re.compile(r" % "), " / "),
    ("index", re.compile(r" \+= "), " = "),
    ("index", re.compile(r"(threadIdx\.x|lane_of_thread\(\)|warp_of_thread\(\))(?! \{)"), r"(\1 + 1)"),
    ("index", re.compile(r"(blockIdx\.[xy])"), r"(\1 + 1)"),
]
# Not code of a kernel: preprocessor, declarations of shapes and arrays, and the functions' own names.
SKIPPED = re.compile(r"^\s*(#|//|template|SIMT_KERNEL|SIMT_SHARED|SIMT_FN|static_assert|constexpr|inline constexpr)")


def mutants_of(path, text):
    """(file, line number, kind, old line, new line) of every mutant of a source text."""
    for number, line in enumerate(text.split("\n"), 1):
        code = line.split("//")[0]
        if SKIPPED.match(code):
            continue
        for kind, pattern, replacement in RULES:
            for match in pattern.finditer(code):
                new = code[:match.start()] + match.expand(replacement) + code[match.end():]
                yield path, number, kind, line, new


def suite_mutants(name):
    found = []
    for pattern in SUITES[name][1]:
        for file in sorted(ROOT.glob(pattern)):
            found += mutants_of(str(file.relative_to(ROOT)), file.read_text())
    return found


def name_of(mutant):
    path, number, _, old, new = mutant
    return f"{path}:{number}: {old.split('//')[0].strip()}  ->  {new.strip()}"


class Build:
    """How the build compiles one file and links the tests."""

    def __init__(self, folder, source, program):
        self.program = program
        self.folder = pathlib.Path(folder).resolve()
        for entry in json.loads((self.folder / "compile_commands.json").read_text()):
            if entry["file"].endswith(source):
                self.compile = shlex.split(entry["command"])
        if pathlib.Path(self.compile[0]).name == "ccache":
            self.compile = self.compile[1:]
        self.object = self.compile[self.compile.index("-o") + 1]
        lines = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", program], text=True,
                               check=True, capture_output=True).stdout.strip().split("\n")
        self.link = lines[-1]
        if self.object not in self.link:
            sys.exit(f"{program} does not link {source}: its tests would judge kernels that were not mutated")

    def run(self, overlay, tests):
        """'invalid', 'caught' or 'survived'."""
        compiled, program = overlay / "kernels.o", overlay / self.program
        command = [word for word in self.compile]
        command[command.index("-o") + 1] = str(compiled)
        command[1:1] = [f"-I{overlay}", "-w"]
        if subprocess.run(command, cwd=self.folder, capture_output=True).returncode != 0:
            return "invalid"
        link = self.link.replace(self.object, str(compiled)).replace(f"-o bin/{self.program}", f"-o {program}")
        subprocess.run(link, shell=True, cwd=self.folder, capture_output=True, check=True)
        try:
            done = subprocess.run([str(program), f"-sf={tests}", "--abort-after=1"], capture_output=True,
                                  timeout=RUN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return "caught"
        return "survived" if done.returncode == 0 else "caught"


def judge(build, tests, mutant):
    path, number, _, _, new = mutant
    with tempfile.TemporaryDirectory() as folder:
        overlay = pathlib.Path(folder)
        file = overlay / path
        file.parent.mkdir(parents=True)
        lines = (ROOT / path).read_text().split("\n")
        lines[number - 1] = new
        file.write_text("\n".join(lines))
        return build.run(overlay, tests)


def explained():
    """Survivors that are known to change nothing: one per line of survivors.txt, `name  # why`."""
    file = pathlib.Path(__file__).with_name("survivors.txt")
    names = set()
    for line in file.read_text().split("\n"):
        if line and not line.startswith("#"):
            names.add(line.split("  # ")[0].strip())
    return names


def without_number(name):
    return re.sub(r":\d+: ", ": ", name, count=1)


def run(options):
    names = [options.suite] if options.suite else list(SAMPLED if options.sample else SUITES)
    known = explained()
    totals = {"caught": 0, "survived": 0, "invalid": 0, "explained": 0}
    for name in names:
        source, _, program, tests = SUITES[name]
        mutants = suite_mutants(name)
        if options.sample:
            barriers = [m for m in mutants if m[2] != "index"]
            mutants = random.Random(1).sample(barriers, min(len(barriers), options.sample))
        build = Build(options.build, source, program)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for mutant, outcome in zip(mutants, pool.map(lambda m: judge(build, tests, m), mutants)):
                if outcome == "survived" and without_number(name_of(mutant)) in known:
                    outcome = "explained"
                totals[outcome] += 1
                if outcome == "survived" or options.verbose:
                    print(f"{outcome}: {name_of(mutant)}", flush=True)
    judged = totals["caught"] + totals["survived"]
    print(f"{judged} mutants, {totals['caught']} caught, {totals['survived']} survived; apart from them "
          f"{totals['explained']} that change nothing and {totals['invalid']} that do not compile")
    return 0 if judged and totals["survived"] == 0 and totals["caught"] >= CAUGHT_SHARE_MIN * judged else 1


def self_test():
    text = ("#include <a>\n// a < b\nSIMT_KERNEL(32) k(int a) {\n    if (a >= 2) // if a > 3\n        return;\n"
            "    __syncthreads();\n    cp_async_wait<1>();\n}\n")
    found = [(number, new.strip()) for _, number, _, _, new in mutants_of("x", text)]
    expected = [(4, "if (a > 2)"), (5, ";"), (6, ";"), (7, ";"), (7, "cp_async_wait<(1) + 1>();")]
    print("as expected" if found == expected else f"found {found}, expected {expected}")
    return 0 if found == expected else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build")
    parser.add_argument("--suite", choices=sorted(SUITES))
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if options.list:
        for name in [options.suite] if options.suite else SUITES:
            for mutant in suite_mutants(name):
                print(name_of(mutant))
        return 0
    if not options.build:
        parser.error("--build is missing")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
