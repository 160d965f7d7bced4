#!/usr/bin/env python3
"""tools/gpu_check on machines made of scripts: without a GPU, with one, and with one that fails a check."""

import json
import pathlib
import subprocess
import sys
import tempfile

GPU_CHECK = pathlib.Path(sys.argv[1])


def bundle(folder, score, conformance_exit):
    (folder / "bin").mkdir(parents=True)
    (folder / "plugins").mkdir()
    programs = {
        "moira": f"#!/bin/sh\necho 'PLUGIN DEVICE SCORE STATE WHY'\necho 'cuda_sm80 cuda {score} usable a scripted GPU'\n",
        "moira_conformance_check": f"#!/bin/sh\necho \"$@\"\nexit {conformance_exit}\n",
        "gpu_check": GPU_CHECK.read_text(),
    }
    for name, text in programs.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return folder / "bin" / "gpu_check"


def run(*command, cwd):
    return subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=120,
                          env={"PATH": "/usr/bin:/bin"})


with tempfile.TemporaryDirectory() as temporary:
    root = pathlib.Path(temporary)
    none = run(bundle(root / "none", 0, 0), cwd=root)
    assert none.returncode == 4, none
    assert "a scripted GPU" in none.stderr, none
    assert not (root / "gpu_check_report").exists()

    good = run(bundle(root / "good", 60, 0), "--report", root / "report", cwd=root)
    report = json.loads((root / "report/gpu_check.json").read_text())
    assert any("--plugin cuda_sm80" in each["output"] for each in report["steps"]), report
    conformance = [each for each in report["steps"] if each["step"] == "conformance of cuda_sm80"]
    assert conformance[0]["passed"], report
    assert report["not_run"], "what is not proven must be said"
    assert (root / "report/gpu_check.md").read_text().startswith("# GPU check")

    bad = run(bundle(root / "bad", 60, 3), "--report", root / "bad_report", cwd=root)
    assert bad.returncode == 3, bad
    assert "FAILED" in (root / "bad_report/gpu_check.md").read_text()

    dry = run(GPU_CHECK, "--dry-run", cwd=root)
    assert dry.returncode == 0 and "conformance of cuda_sm90" in dry.stdout and "not run" in dry.stdout, dry
    assert run(GPU_CHECK, "--minutes", "0", cwd=root).returncode == 2
    assert run(GPU_CHECK, cwd=root).returncode in (2, 3, 4, 0)
print("gpu_check: all as it should be")
