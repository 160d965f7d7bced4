#!/usr/bin/env python3
"""Holds every CUDA kernel to its declared budget of registers and static shared memory, and allows no spills and no
wgmma that ptxas serialises.

    kernel_budget_test.py --budgets FILE --build DIR            checks; exits 1 with one line per kernel over its budget
    kernel_budget_test.py --budgets FILE --build DIR --write    declares what the build has now (read the diff)
    kernel_budget_test.py --budgets FILE --build DIR --markdown prints one row per kernel and architecture
    kernel_budget_test.py --self-test                           checks that every rule can fail

The figures are ptxas's own (-Xptxas -v), which the build keeps beside each object file as *.ptxas.
Dynamic shared memory is not in them: launch plans state it and the host executor holds them to it.
"""

import argparse
import pathlib
import re
import subprocess
import sys

# Another release of ptxas may need a few registers more for the same code.
REGISTERS_SPARE = 8
NOTHING_FOUND = 77  # "skipped" for ctest

ENTRY = re.compile(r"Compiling entry function '([^']+)' for '(sm_[0-9a-z]+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
# Correct, but each product waits for the one before.
SERIALIZED = re.compile(r"wgmma\.mma_async instructions are serialized .* in the function '([^']+)'|"
                        r"wgmma\.mma_async instructions are serialized .* for the function '([^']+)'")


def short_name(symbol):
    """'void moira::k<moira::shape<(moira::format)0, 1u> >(moira::args)' -> 'k<shape<0,1>>'."""
    name = re.sub(r"\((?:moira::)?[a-z_]+\)(?=\d)", "", symbol)  # casts of enumerations
    name = name.replace("(anonymous namespace)::", "").replace("moira::", "")
    name = re.sub(r"^void ", "", name)
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            name = name[:at]
            break
    return re.sub(r"(?<=\d)u\b", "", name).replace(" ", "")


def demangle(text):
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout


def read_report(text):
    """[(kernel, architecture, registers, shared, spilled)] of one *.ptxas file, demangled."""
    found = []
    for line in text.splitlines():
        if entry := ENTRY.search(line):
            found.append([short_name(entry[1]), entry[2], None, 0, 0])
        elif not found:
            continue
        elif spills := SPILLS.search(line):
            found[-1][4] = int(spills[2]) + int(spills[3])
        elif used := USED.search(line):
            found[-1][2] = int(used[1])
            shared = SHARED.search(line)
            found[-1][3] = int(shared[1]) if shared else 0
    return [tuple(each) for each in found]


def read_serialized(text):
    return [f"{short_name(match[1] or match[2])}: ptxas serialises its wgmma" for match in SERIALIZED.finditer(text)]


def read_texts(folder):
    reports = sorted(pathlib.Path(folder).rglob("*.ptxas"))
    # An object that is gone leaves its report behind.
    return [demangle(report.read_text()) for report in reports if report.with_suffix("").exists()]


def read_build(folder):
    return sorted({each for text in read_texts(folder) for each in read_report(text)})


def read_budgets(text):
    budgets = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            kernel, registers, shared = line.split()
            budgets[kernel] = (int(registers), int(shared))
    return budgets


def check(kernels, budgets):
    wrong = []
    for kernel, architecture, registers, shared, spilled in kernels:
        where = f"{kernel} for {architecture}"
        if registers is None:
            wrong.append(f"{where}: ptxas does not say how many registers it uses")
            continue
        if spilled:
            wrong.append(f"{where}: spills {spilled} bytes; a kernel here spills none")
        if kernel not in budgets:
            wrong.append(f"{where}: declares no budget; uses {registers} registers and {shared} bytes")
            continue
        if registers > budgets[kernel][0] + REGISTERS_SPARE:
            wrong.append(f"{where}: {registers} registers, declared are {budgets[kernel][0]}")
        if shared > budgets[kernel][1]:
            wrong.append(f"{where}: {shared} bytes of shared memory, declared are {budgets[kernel][1]}")
    built = {each[0] for each in kernels}
    wrong += [f"{kernel}: has a budget and is not in the build" for kernel in budgets if kernel not in built]
    return wrong


def write(kernels, file):
    most = {}
    for kernel, _, registers, shared, _ in kernels:
        before = most.get(kernel, (0, 0))
        most[kernel] = (max(before[0], registers or 0), max(before[1], shared))
    lines = ["# kernel, registers per thread, static shared memory in bytes: the most over all architectures.",
             "# Written by tests/plugins/kernel_budget_test.py --write; the test allows 8 registers more."]
    lines += [f"{kernel} {registers} {shared}" for kernel, (registers, shared) in sorted(most.items())]
    pathlib.Path(file).write_text("\n".join(lines) + "\n")


def markdown(kernels):
    print("| kernel | architecture | registers | static shared bytes | spills |\n| --- | --- | --- | --- | --- |")
    for kernel, architecture, registers, shared, spilled in kernels:
        print(f"| `{kernel}` | {architecture} | {registers} | {shared} | {spilled} |")


def self_test():
    report = ("ptxas info    : Compiling entry function 'void moira::k<moira::shape<(moira::format)0, 2u> >"
              "(moira::args)' for 'sm_80'\n"
              "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
              "ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 472 bytes cmem[0]\n")
    kernels = read_report(report)
    assert kernels == [("k<shape<0,2>>", "sm_80", 40, 1024, 16)], kernels
    assert len(check(kernels, {"k<shape<0,2>>": (32, 1024)})) == 1  # the spill
    good = [("k", "sm_80", 40, 1024, 0)]
    assert check(good, {"k": (32, 1024)}) == []
    assert len(check(good, {"k": (31, 1024)})) == 1
    assert len(check(good, {"k": (40, 1023)})) == 1
    assert len(check(good, {})) == 1
    assert len(check(good, {"k": (40, 1024), "gone": (1, 1)})) == 1
    assert len(check([("k", "sm_80", None, 0, 0)], {"k": (40, 0)})) == 1
    loss = "(C7512) Potential Performance Loss: wgmma.mma_async instructions are serialized due to x {} the function '{}'"
    for place in ("in", "for"):
        assert read_serialized(loss.format(place, "void moira::k<2u>(moira::args)")) == ["k<2>: ptxas serialises its wgmma"]
    assert read_serialized(report) == []
    assert read_budgets("# words\nk 40 0\n") == {"k": (40, 0)}
    print("every rule can fail")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets")
    parser.add_argument("--build")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.budgets or not options.build:
        parser.error("--budgets and --build are needed")
    kernels = read_build(options.build)
    if not kernels:
        print("no *.ptxas report below " + options.build + ": the CUDA plugins are not built")
        return NOTHING_FOUND
    if options.write:
        return write(kernels, options.budgets)
    if options.markdown:
        return markdown(kernels)
    wrong = check(kernels, read_budgets(pathlib.Path(options.budgets).read_text()))
    wrong += [line for text in read_texts(options.build) for line in read_serialized(text)]
    print("\n".join(wrong) if wrong else f"{len(kernels)} kernels within their budgets, none spills")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
