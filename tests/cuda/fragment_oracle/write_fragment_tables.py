#!/usr/bin/env python3
"""Writes the fragment tables that the tests compare the device layer's maps with.

    write_fragment_tables.py --include DIR [--include DIR ...] --out DIR

Folders with cute/tensor.hpp (`pip install nvidia-cutlass` puts it in cutlass_library/source/include) and with the CUDA
toolkit's headers and its cuda/std (include and include/cccl). No nvcc and no GPU is needed.
Three files come out. One line per (instruction, lane, element): instruction, lane, element, row, column.
  fragments_ptx.txt    from the formulas of the PTX specification, as written there (below)
  fragments_cute.txt   from CuTe's traits, an independent source
  wgmma_tables.txt     the same of wgmma, both sources in one, with the bytes of its K-major layouts in shared memory
                       (layout_<swizzle>, row, k, byte, 0) and their descriptors (fields, type, 0, leading, stride bytes)
The two sources must be equal; this script fails otherwise.
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


def ptx_wgmma_rows():
    """PTX ISA, "Register Fragments and Shared Memory Matrix Layouts" of wgmma.mma_async and "Strides", for K-major."""
    for lane in range(128):
        group_id = (lane % 32) >> 2
        thread_in_group = lane % 4
        first_row = lane // 32 * 16
        for i in range(8):
            row = group_id if (i // 2) % 2 == 0 else group_id + 8
            yield "a", lane, i, first_row + row, thread_in_group * 2 + (i & 1) + (8 if i >= 4 else 0)
        for n in (8, 32):
            for i in range(n // 2):
                row = group_id + 8 * ((i // 2) % 2)
                yield f"d{n}", lane, i, first_row + row, i // 4 * 8 + thread_in_group * 2 + (i & 1)
    # In units of 16 bytes, swizzled layouts repeat an atom of 8 rows, 2 to 8 units wide, in which a unit's column is
    # exclusive-or'ed with the number of the 128-byte line; atoms follow each other along the rows, then along K.
    for kind, name, width in ((0, "none", 1), (3, "32", 2), (2, "64", 4), (1, "128", 8)):
        for row in range(16):
            for k in range(64):
                unit, within = divmod(k, 8)
                atom = unit // width * 2 + row // 8
                line = row % 8 * width * 16 // 128
                column = (unit % width) ^ (line % width)
                # Narrow atoms hold several rows in a line of 128 bytes: the line decides.
                byte = atom * 8 * width * 16 + row % 8 * width * 16 + column * 16 + within * 2
                yield f"layout_{name}", row, k, byte, 0
        # Unswizzled: from a unit of K to the next (two atoms of 128 bytes). Swizzled: not used, 1 unit.
        yield "fields", kind, 0, 256 if kind == 0 else 16, 8 * width * 16


def cute_text(include, name):
    source = pathlib.Path(__file__).with_name(name).read_text()
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
    cute = sorted(cute_text(options.include, "cute_fragments.txt").split("\n")[:-1], key=key)
    wgmma = sorted((" ".join(map(str, row)) for row in ptx_wgmma_rows()), key=key)
    # make_gmma_desc tells that a host pointer has no shared address; only the other fields are printed.
    cute_wgmma = sorted((line for line in cute_text(options.include, "cute_wgmma.txt").split("\n")[:-1]
                         if not line.startswith("ERROR")), key=key)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "fragments_ptx.txt").write_text("\n".join(ptx) + "\n")
    (options.out / "fragments_cute.txt").write_text("\n".join(cute) + "\n")
    (options.out / "wgmma_tables.txt").write_text("\n".join(cute_wgmma) + "\n")
    different = sum(a != b for one, other in ((ptx, cute), (wgmma, cute_wgmma)) for a, b in zip(one, other))
    different += abs(len(ptx) - len(cute)) + abs(len(wgmma) - len(cute_wgmma))
    print(f"{len(ptx) + len(wgmma)} places, {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
