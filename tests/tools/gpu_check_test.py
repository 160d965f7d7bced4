#!/usr/bin/env python3
"""tools/gpu_check on machines made of scripts: without a GPU, with one, with an engine that runs on it and with one that
does not, and with checks that fail."""

import json
import pathlib
import subprocess
import sys
import tempfile

GPU_CHECK = pathlib.Path(sys.argv[1]).resolve()

# What a script knows of the machine stands in machine.json beside it.
MOIRA = """#!/usr/bin/env python3
import json, pathlib, sys
machine = json.loads((pathlib.Path(__file__).parent / "machine.json").read_text())
words, text = sys.argv[1:], " ".join(sys.argv[1:])
def fail(code, message):
    print(json.dumps({"error": {"code": code, "message": message}}))
    sys.exit(1)
if words[0] == "plugins":
    print("PLUGIN     DEVICE  SCORE  STATE     WHY")
    print(f"cuda_sm80  cuda    {machine['score']}     not used  a scripted GPU")
    sys.exit(0)
if machine["engine"]:
    fail(machine["engine"], "scripted")
if words[0] == "run":
    place = "other" if machine["budget_matters"] and "vram_budget=25%" in text else "same"
    print(json.dumps({"logits_hash": place, "token_ids": [1, 2], "plugins": {"gemm": "cuda_sm80"}}))
elif words[0] == "eval":
    if machine["golden_wrong"] and words[2].endswith("olmoe"):
        print(json.dumps({"violations": ["logits"], "passed": False}))
        sys.exit(3)
    print(json.dumps({"passed": True, "median_row_error": 0.01}))
elif words[0] == "bench":
    rows = []
    for batch in map(int, words[words.index("--batch") + 1].split(",")):
        missed = 0 if "vram_budget=100%" in text else 500 if "vram_budget=50%" in text else 1000
        speed = 1500.0 * batch if missed == 0 else 1e9 / missed / 1000
        rows.append({"batch": batch, "gen_tokens": 10, "repeat": 1, "decode_tok_s": speed,
                     "sequence_hashes": [f"h{i}" for i in range(batch)],
                     "experts": {"demand_bytes": missed * 10 * batch}})
    print(json.dumps(rows))
elif words[0] == "synth":
    folder = pathlib.Path(words[words.index("-o") + 1])
    folder.mkdir()
    (folder / "made").touch()
"""

CONFORMANCE = """#!/bin/sh
echo "$@"
[ ! -e "$(dirname "$0")/conformance_fails" ] || exit 3
"""

PROBE = """#!/bin/sh
if [ "$1" = --speed ]; then
    echo '{"device":"scripted","read_gb_s":1000.0,"to_device_gb_s":0.001,"tensor_tflop_s":100.0}'
fi
"""

BENCH = """#!/bin/sh
echo '{"plugin":"cuda_sm80","rows":[
{"op":"expert_ffn","type":"bf16","batch":1,"us":20.0,"bytes":1,"gb_s":700.0,"tflop_s":1.0},
{"op":"expert_ffn","type":"f8_e4m3","batch":1,"us":10.0,"bytes":1,"gb_s":500.0,"tflop_s":1.0},
{"op":"gemm","type":"bf16","batch":2048,"us":10.0,"bytes":1,"gb_s":5.0,"tflop_s":70.0},
{"op":"copy","type":"bf16","batch":1,"us":10.0,"bytes":64,"gb_s":0.0009,"tflop_s":0}]}'
"""


def bundle(folder, score=60, engine="", budget_matters=False, golden_wrong=False, conformance_fails=False):
    (folder / "bin").mkdir(parents=True)
    (folder / "plugins").mkdir()
    programs = {"moira": MOIRA, "moira_conformance_check": CONFORMANCE, "moira_device_probe": PROBE,
                "moira_op_bench": BENCH, "gpu_check": GPU_CHECK.read_text()}
    for name, text in programs.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    if conformance_fails:
        (folder / "bin/conformance_fails").touch()
    (folder / "bin/machine.json").write_text(json.dumps({"score": score, "engine": engine, "golden_wrong": golden_wrong,
                                                         "budget_matters": budget_matters}))
    return folder / "bin" / "gpu_check"


def run(*command, cwd, **more):
    return subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=120,
                          env={"PATH": "/usr/bin:/bin", **more})


def check(root, name, *options, **machine):
    scratch = root / (name + "_scratch")
    scratch.mkdir()
    done = run(bundle(root / name, **machine), "--report", root / (name + "_report"), "--scratch", scratch, *options,
               cwd=root)
    assert not list(scratch.iterdir()), "the benchmark's model was left behind"
    report = json.loads((root / (name + "_report") / "gpu_check.json").read_text())
    return done, report, {each["step"]: each for each in report["steps"]}


def test_without_gpu(root):
    none = run(bundle(root / "none", score=0), cwd=root)
    assert none.returncode == 4, none
    assert "a scripted GPU" in none.stderr, none
    assert not (root / "gpu_check_report").exists()


def test_good(root):
    done, report, steps = check(root, "good")
    assert done.returncode == 0, done
    assert "--plugin cuda_sm80" in steps["conformance of cuda_sm80"]["output"], report
    assert "--rows-sweep full" in steps["rows 1 to 33, 128 and 512 of cuda_sm80"]["output"], report
    assert all(each["state"] == "passed" for each in steps.values()), report["verdict"]
    assert "compute-sanitizer" in report["not_run"] or any("memcheck" in name for name in steps)
    text = (root / "good_report/gpu_check.md").read_text()
    assert text.startswith("# GPU check") and "| figure | found | at least | |" in text
    bars = {bar["name"]: bar for each in steps.values() for bar in each["bars"]}
    assert bars["expert_ffn bf16 batch 1, share of memory bandwidth"]["passed"]
    assert not bars["expert_ffn f8_e4m3 batch 1, share of memory bandwidth"]["passed"]
    assert bars["expert_ffn batch 1, FP8 over BF16"]["value"] == 2.0
    assert bars["gemm bf16 batch 2048, share of the BF16 tensor peak"]["passed"]
    assert bars["copies of 64 bytes, share of the PCIe probe"]["value"] == 0.9
    # 12 of 48 layers at 1,500 tokens/s: 375 at least.
    assert bars["resident, 1 streams: tokens/s of 48 layers, at least"]["value"] == 375.0
    # 0.001 GB/s over 500 bytes per token are 2,000 tokens/s, more than the 1,500 of computing; over 1,000 they bound.
    figures = steps["speed of a model on the device"]["figures"]
    assert figures["50%, batch 1"]["bound_tok_s"] == 1500.0 and figures["25%, batch 1"]["bound_tok_s"] == 1000.0
    assert "bars of speed missed" in report["verdict"], report["verdict"]


def test_engine(root):
    # Without class cuda in the engine: skipped and said, not failed.
    done, report, steps = check(root, "no_engine", engine="op_missing")
    assert done.returncode == 0, done
    for name in ("a model on the device", "goldens", "contract 1: budgets and prefetch",
                 "speed of a model on the device"):
        assert steps[name]["state"] == "skipped", steps[name]
    assert "op_missing" in steps["a model on the device"]["note"]
    assert "skipped" in report["verdict"]
    # Any other error is one.
    done, report, steps = check(root, "broken_engine", engine="device_error")
    assert done.returncode == 3 and steps["a model on the device"]["state"] == "failed", report


def test_failures(root):
    done, report, steps = check(root, "moved", budget_matters=True)
    assert done.returncode == 3, done
    assert "25% off" in steps["contract 1: budgets and prefetch"]["note"], report
    done, _, steps = check(root, "golden", golden_wrong=True)
    assert done.returncode == 3 and "olmoe" in steps["goldens"]["note"], steps
    done, _, steps = check(root, "bad", conformance_fails=True)
    assert done.returncode == 3 and steps["conformance of cuda_sm80"]["state"] == "failed", steps
    assert "FAILED" in (root / "bad_report/gpu_check.md").read_text()


def test_time(root):
    done, _, steps = check(root, "late", "--minutes", "0.02")  # less than a step may begin with
    assert done.returncode == 0, done
    assert all(each["state"] == "skipped" for each in steps.values()), steps


def test_sanitizer(root):
    tool = root / "compute-sanitizer"
    tool.write_text("#!/bin/sh\necho sanitized $@\n")
    tool.chmod(0o755)
    done, report, steps = check(root, "sanitized", "--sanitizer", str(tool))
    assert done.returncode == 0 and "compute-sanitizer" not in report["not_run"], done
    for name in ("memcheck", "racecheck", "synccheck", "initcheck"):
        assert f"--tool {name}" in steps[f"{name} of cuda_sm80"]["output"], steps


def test_dry_run(root):
    dry = run(GPU_CHECK, "--dry-run", cwd=root)
    assert dry.returncode == 0, dry
    for words in ("moira_device_probe", "conformance of cuda_sm90", "--rows-sweep full", "eval golden", "not run",
                  "experts.vram_budget=25%", "synth qwen3-30b-a3b", "moira_op_bench"):
        assert words in dry.stdout, words
    assert run(GPU_CHECK, "--minutes", "0", cwd=root).returncode == 2
    assert run(GPU_CHECK, "--layers", "49", cwd=root).returncode == 2
    missing = run(GPU_CHECK, cwd=root, MOIRA_BUILD=str(root / "nowhere"))
    assert missing.returncode == 2 and "not there" in missing.stderr, missing


for test in (test_without_gpu, test_good, test_engine, test_failures, test_time, test_sanitizer, test_dry_run):
    with tempfile.TemporaryDirectory() as temporary:
        test(pathlib.Path(temporary))
print("gpu_check: all as it should be")
