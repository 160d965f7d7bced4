"""Measurements in turn and what follows from them: for tools/compare_revisions and tools/compare_settings.

A round measures every variant once, in an order that is swapped from round to round (A B, B A, ...), so that a neighbour
that comes and goes disturbs all alike. Compared are ratios within a round; their interval comes from a bootstrap over the
rounds.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys

# The 2.5 % ends then rest on 250 draws each.
RESAMPLINGS = 10_000
# Endings and beginnings of figures of which less is better: all are times.
TIMES = ("_us", "_ms", "_s_total")
TIMES_PER = ("us_per_", "ms_per_")


class Failure(Exception):
    """Something that ends a comparison with exit code 1."""


def less_is_better(figure):
    name = figure.split(".")[-1]
    return name.endswith(TIMES) or name.startswith(TIMES_PER) or figure.startswith(("itl_ms", "overhead_us"))


def value_of(row, figure):
    """The number at a dotted path; in a list of ops the entries of that name, added up. None where there is none."""
    places = [row]
    for part in figure.split("."):
        inside = []
        for place in places:
            if isinstance(place, dict) and part in place:
                inside.append(place[part])
            elif isinstance(place, list):
                inside += [entry for entry in place if isinstance(entry, dict) and entry.get("op") == part]
        places = inside
    numbers = [place for place in places if isinstance(place, (int, float)) and not isinstance(place, bool)]
    return float(sum(numbers)) if numbers else None


def row_name(row):
    return f"batch {row['batch']}" if "batch" in row else "run"


def speed_ratio(old, new, figure):
    """new / old as a speed: above 1 is faster. None where a figure is absent or not above 0."""
    before, after = value_of(old, figure), value_of(new, figure)
    if not before or not after or before < 0 or after < 0:
        return None
    return before / after if less_is_better(figure) else after / before


def bootstrap(ratios, seed=1):
    """Median of the ratios and its 95 % interval, from drawing as many pairs again and again. The same for equal input."""
    logs = [math.log(ratio) for ratio in ratios]
    draw = random.Random(seed)
    medians = sorted(statistics.median(draw.choices(logs, k=len(logs))) for _ in range(RESAMPLINGS))
    tail = RESAMPLINGS // 40
    return tuple(math.exp(value) for value in (statistics.median(logs), medians[tail], medians[-1 - tail]))


def verdict_of(low, high, tolerance):
    if high < 1 - tolerance:
        return "slower"
    if low > 1 + tolerance:
        return "faster"
    if low >= 1 - tolerance and high <= 1 + tolerance:
        return "same"
    return "unclear"


def compare(pairs, figures, tolerance):
    """`pairs`: (rows of old, rows of new) of each measured pair. A dictionary per row and figure that both have."""
    compared = []
    for index, first in enumerate(pairs[0][0]):
        for figure in figures:
            ratios = [speed_ratio(old[index], new[index], figure) for old, new in pairs]
            if any(ratio is None for ratio in ratios):
                continue
            ratio, low, high = bootstrap(ratios)
            compared.append({
                "row": row_name(first), "figure": figure,
                "old": statistics.median(value_of(old[index], figure) for old, _ in pairs),
                "new": statistics.median(value_of(new[index], figure) for _, new in pairs),
                "ratio": ratio, "ci95": [low, high], "pairs": len(ratios),
                "verdict": verdict_of(low, high, tolerance)})
    return compared


def changed_hashes(pairs):
    """Names of rows whose logits differ within one arithmetic."""
    old, new = pairs[0]
    return [row_name(before) for before, after in zip(old, new)
            if before.get("numerics_id") == after.get("numerics_id") and
            before.get("logits_hash") != after.get("logits_hash")]


def measured_rows(command, cwd=None):
    """Runs a command of moira with --json: the rows of a bench, or the one object of a run as a single row."""
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.strip()}")
    try:
        rows = json.loads(done.stdout)
    except ValueError as why:
        raise Failure(f"{' '.join(command)}: no JSON: {why}") from why
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise Failure(f"{' '.join(command)}: expected a list of rows")
    return rows


def measure_rounds(variants, count, rounds):
    """Appends to `rounds` what `variants` measure, in their order, so that an interrupt keeps what is complete. The first
    round warms up and does not count."""
    try:
        for number in range(-1, count):
            if sys.stderr.isatty():
                print(f"\r\033[Kround {number + 1} of {count}", end="", file=sys.stderr, flush=True)
            order = variants if number % 2 else list(reversed(variants))
            found = {variant: variant.measure() for variant in order}
            if len({len(rows) for rows in found.values()}) != 1:
                raise Failure(" against ".join(str(len(found[each])) for each in variants) +
                              " rows: not the same is measured")
            if number >= 0:
                rounds.append(tuple(found[variant] for variant in variants))
    finally:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)


def table(compared):
    lines = [f"{'ROW':<10} {'FIGURE':<28} {'OLD':>12} {'NEW':>12} {'RATIO':>7}  {'95 %':<15} VERDICT"]
    for each in compared:
        low, high = each["ci95"]
        lines.append(f"{each['row']:<10} {each['figure']:<28} {each['old']:>12.5g} {each['new']:>12.5g} "
                     f"{each['ratio']:>7.3f}  {f'{low:.3f}-{high:.3f}':<15} {each['verdict']}")
    return "\n".join(lines)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a whole number from 1")
    return value


def share(text):
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a share from 0 to below 1")
    return value
