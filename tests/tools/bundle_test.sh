#!/usr/bin/env bash
# Makes a bundle of this build, moves it, and runs it from another place with nothing but itself.
set -euo pipefail

source_folder="$1"
build="$2"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

MOIRA_BUILD="$build" "$source_folder/tools/bundle" "$work/made" >/dev/null
mkdir "$work/elsewhere"
mv "$work/made" "$work/elsewhere/moira"
cd /
moira="$work/elsewhere/moira/bin/moira"
export HF_HUB_CACHE="$work/no_cache"

# Its own model and its own libraries, not the build's.
"$moira" list --json | grep -q "\"path\":\"$work/elsewhere/moira/share/moira/models/moira-demo\""
if LD_TRACE_LOADED_OBJECTS=1 "$moira" | grep -E 'libcaf|libonig|libxxhash' | grep -v "$work/elsewhere"; then
    echo "these libraries come from the system, not from the bundle"
    exit 1
fi
"$moira" plugins --json | grep -q '"chosen":"cpu_'
"$moira" run -p "Once upon a time" -n 3 --json | grep -q '"completion_tokens":3'

# What proves the CUDA plugins on another machine comes along: the command, its programs, and checkpoints to compare with.
check="$work/elsewhere/moira/bin/gpu_check"
"$check" --dry-run >"$work/plan"
grep -q "$work/elsewhere/moira/share/moira/golden/olmoe" "$work/plan"
"$moira" eval golden "$work/elsewhere/moira/share/moira/golden/qwen3_moe" --json | grep -q '"passed":true'
if [ -x "$build/bin/moira_device_probe" ] && [ -x "$build/bin/moira_op_bench" ]; then
    code=0
    "$check" --report "$work/report" --minutes 0.01 >/dev/null 2>&1 || code=$?
    if [ "$code" -ne 4 ] && [ "$code" -ne 0 ]; then
        echo "gpu_check in the bundle: exit code $code, expected 4 without a GPU, 0 with one and no time"
        exit 1
    fi
fi

# A folder that is no bundle is not overwritten.
mkdir "$work/mine"
touch "$work/mine/file"
code=0
MOIRA_BUILD="$build" "$source_folder/tools/bundle" "$work/mine" 2>/dev/null || code=$?
if [ "$code" -ne 2 ] || [ ! -e "$work/mine/file" ]; then
    echo "a foreign folder: exit code $code, expected 2 and the folder untouched"
    exit 1
fi
echo "the bundle runs from another place"
