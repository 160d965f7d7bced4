#!/usr/bin/env bash
# `moira synth` from outside: exit codes, --json, refusals, Ctrl-C. The models themselves are tested with smaller shapes.
set -euo pipefail
# shellcheck source=command_check.sh
source "$(dirname "$0")/command_check.sh"

moira="$1"
subcommand=(synth)

expect 2
expect 2 no-such-shape -o "$work/model"
holds err 'qwen3-30b-a3b'
expect 2 moe-1b
expect 2 moe-1b -o "$work/model" --dtype int4
expect 2 moe-1b -o "$work/model" --layers 0
expect 2 deepseek-v2-lite -o "$work/model" --layers 1
holds err 'at least 2'
if [ -e "$work/model" ]; then
    echo "a refused command left a folder"
    failures=$((failures + 1))
fi

expect 0 moe-1b --layers 1 --dtype fp8 --seed 3 --context 128 -o "$work/model" --json
holds out '"tensors":'
holds out '"bytes":'
holds out '"layers":1,"dtype":"fp8","seed":3'
"$moira" inspect "$work/model" --json >"$work/out"
holds out '"context_max":128'
holds out '"F8_E4M3":'

expect 2 moe-1b --layers 1 -o "$work/model" --json
holds out '"code":"invalid_argument"'
holds err '--force'
mkdir "$work/mine"
touch "$work/mine/letters"
expect 2 moe-1b --layers 1 -o "$work/mine" --force
[ -e "$work/mine/letters" ] || failures=$((failures + 1))

# Ctrl-C long before 60 GB are written (or the disk has no room for them): nothing stays. Job control, since a shell
# without it lets what runs beside it ignore Ctrl-C.
code=0
set -m
"$moira" synth qwen3-30b-a3b -o "$work/large" >"$work/out" 2>"$work/err" </dev/null &
while kill -0 $! 2>/dev/null && ! ls "$work" | grep -q large; do
    sleep 0.05
done
kill -INT $! 2>/dev/null || true
wait $! || code=$?
set +m
if [ "$code" -ne 130 ] && ! { [ "$code" -eq 1 ] && grep -q 'bytes free' "$work/err"; }; then
    echo "interrupted: exit code $code, expected 130"
    failures=$((failures + 1))
fi
if ls "$work" | grep -q large; then
    echo "an interrupted command left files"
    failures=$((failures + 1))
fi

finish
