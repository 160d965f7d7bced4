#!/usr/bin/env bash
# `moira trace record --hidden`, `moira predictor train` and `evaluate`, and what runs do with the file: few tokens of the
# bundled model, so figures are looked at for shape and order only.
set -euo pipefail
# shellcheck source=command_check.sh
source "$(dirname "$0")/command_check.sh"

moira="$1"
subcommand=()

text="$work/text"
for ((line = 0; line < 40; ++line)); do
    echo "Once upon a time there were $line little frogs. One day frog $line went to the pond and sang a song for its mother."
done >"$text"

expect 2 predictor train "$work/absent.routes" -o "$work/p"
expect 2 predictor train
expect 0 trace record --text "$text" --hidden -o "$work/states.routes" --json
holds out '"hidden":256'
expect 0 trace record --text "$text" -o "$work/plain.routes" --json
holds out '"hidden":0'

expect 0 predictor train "$work/states.routes" -o "$work/heads" --evaluate "$work/states.routes" --json
for key in '"kind":"heads"' '"before":"gate"' '"recall_before":0\.' '"recall_after":0\.' '"rank":' '"predictor":"control"' \
    '"predictor":"gate2"' '"predictor":"heads2"' '"predictor":"history"' '"misses_covered":\[' '"precision_absent":\['; do
    holds out "$key"
done
expect 0 predictor train "$work/plain.routes" -o "$work/history" --json
holds out '"kind":"history"'
holds out '"before":"previous"'
expect 0 predictor train "$work/plain.routes" -o "$work/history"
holds out 'holds no states'
expect 0 predictor evaluate "$work/states.routes" --predictor "$work/heads"
holds out 'heads2'
expect 2 predictor train "$work/states.routes" -o "$work/heads2" --evaluate "$work/plain.routes"
expect 2 predictor evaluate "$work/states.routes" --predictor "$text"

# Contract 1: whatever predicts, the text stays.
hash_of() {
    expect 0 run -p "Once upon a time" -n 24 --json --set experts.ram_budget=40% --set experts.prefetch=always --set "$1"
    grep -o '"logits_hash":"[0-9a-f]*"' "$work/out"
}
wanted="$(hash_of experts.predictor=gate)"
[ -n "$wanted" ] || failed "a run with experts.predictor=gate gave no hash"
for predictor in "heads:$work/heads" "history:$work/history" history previous prompt; do
    if [ "$(hash_of "experts.predictor=$predictor")" != "$wanted" ]; then
        failed "experts.predictor=$predictor changes the text"
    fi
done
expect 2 run -p a -n 1 --set experts.prefetch=always --set "experts.predictor=heads:$work/history"
expect 2 run -p a -n 1 --set experts.prefetch=always --set "experts.predictor=heads:$work/absent"
expect 2 run -p a -n 1 --set experts.predictor=oracle

finish
