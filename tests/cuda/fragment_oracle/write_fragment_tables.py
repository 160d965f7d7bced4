#!/usr/bin/env python3
"""Writes the fragment tables that the tests compare the device layer's maps with.

    write_fragment_tables.py --include DIR [--include DIR ...] --out DIR

Folders with cute/tensor.hpp (`pip install nvidia-cutlass` puts it in cutlass_library/source/include) and with the CUDA
toolkit's headers and its cuda/std (include and include/cccl). No nvcc and no GPU is needed.
Two files come out, one line per (instruction, lane, element): instruction, lane, element, row, column.
  fragments_ptx.txt    from the formulas of the PTX specification, as written there (below)
  fragments_cute.txt   from CuTe's traits, an independent source
They must be equal; this script fails otherwise.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile


def ptx_rows():
    """PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and "ldmatrix"."""
    for lane in range(32):
        group_id = lane >> 2
        thread_in_group = lane % 4
        for i in range(8):  # .bf16 A: a0 .. a7
            row = group_id if 0 <= i < 2 or 4 <= i < 6 else group_id + 8
            column = thread_in_group * 2 + (i & 1) if i < 4 else thread_in_group * 2 + (i & 1) + 8
            yield "mma_a", lane, i, row, column
        for i in range(4):  # .bf16 B: b0 .. b3, row is k
            row = thread_in_group * 2 + (i & 1) if i < 2 else thread_in_group * 2 + (i & 1) + 8
            yield "mma_b", lane, i, row, group_id
        for i in range(4):  # .f32 C and D: c0 .. c3
            row = group_id if i < 2 else group_id + 8
            yield "mma_c", lane, i, row, thread_in_group * 2 + (i & 1)
        # Rows are counted over the four matrices: lane l gives the address of row l. Each row is read by four lanes,
        # two elements each; with .trans a matrix is loaded in column-major form.
        for matrix in range(4):
            for half in range(2):
                element = matrix * 2 + half
                yield "ldmatrix_x4", lane, element, matrix * 8 + group_id, thread_in_group * 2 + half
                yield "ldmatrix_x4_trans", lane, element, matrix * 8 + thread_in_group * 2 + half, group_id


def cute_text(include):
    source = pathlib.Path(__file__).with_name("cute_fragments.txt").read_text()
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder, "cute_fragments")
        subprocess.run(["c++", "-std=c++17", "-w", *(f"-I{folder}" for folder in include), "-x", "c++", "-", "-o", str(program)],
                       input=source, text=True, check=True)
        return subprocess.run([str(program)], text=True, check=True, capture_output=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--include", required=True, action="append")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    key = lambda line: (line.split()[0], [int(word) for word in line.split()[1:]])
    ptx = sorted((" ".join(map(str, row)) for row in ptx_rows()), key=key)
    cute = sorted(cute_text(options.include).split("\n")[:-1], key=key)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "fragments_ptx.txt").write_text("\n".join(ptx) + "\n")
    (options.out / "fragments_cute.txt").write_text("\n".join(cute) + "\n")
    different = sum(a != b for a, b in zip(ptx, cute)) + abs(len(ptx) - len(cute))
    print(f"{len(ptx)} places, {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
