#!/usr/bin/env bash
# `moira trace` from outside: a recording of the bundled model, what replay and show say of it, recordings that are made,
# refusals.
set -euo pipefail
# shellcheck source=command_check.sh
source "$(dirname "$0")/command_check.sh"

moira="$1"
source_folder="$2"
subcommand=(trace)

# Two prompts, prompt and answer told apart.
printf 'One day a fox\n\nThe old man\n' >"$work/prompts"
expect 0 record --prompt-file "$work/prompts" -n 6 -o "$work/prompts.routes" --json
holds out '"sequences":2'
expect 0 show "$work/prompts.routes" --json
holds out '"sequences":2'
holds out '"entropy_bits":'
holds out '"prompt_tokens":[1-9]'
expect 0 show "$work/prompts.routes"
holds out 'busiest'

# A text as it is: the same twice.
printf 'Once upon a time there was a little girl who lived near a wood.' >"$work/text"
expect 0 record --text "$work/text" --window 8 -o "$work/a.routes"
expect 0 record --text "$work/text" --window 8 -o "$work/b.routes"
cmp -s "$work/a.routes" "$work/b.routes" || failed "two recordings of one text differ"
expect 0 replay "$work/a.routes" --cache 50% --batch 1,2 --policy lru --json
holds out '"policy":"lru","batch":2'
holds out '"belady_bypass_hit_rate":'
holds out '"bytes":null'

# Recordings that are made; the committed ones are what the commands in their README make.
expect 0 synth --uniform --layers 3 --experts 16 --top-k 2 --tokens 40 --sequences 4 --seed 5 -o "$work/u.routes"
expect 0 synth --uniform --layers 3 --experts 16 --top-k 2 --tokens 40 --sequences 4 --seed 5 -o "$work/v.routes" --json
holds out '"tokens":40'
cmp -s "$work/u.routes" "$work/v.routes" || failed "one seed made two recordings"
expect 0 synth --skew-from "$work/u.routes" --layers 2 --experts 32 --top-k 4 --tokens 40 -o "$work/s.routes"
printf '{"expert_bytes":{"0":1000000,"1":1000000,"2":1000000},"dense_bytes":{"0":1,"1":1,"2":1}}' >"$work/g.json"
expect 0 replay "$work/u.routes" --slots 12,24 --predictor oracle --prefetch always --geometry "$work/g.json" --json
holds out '"prefetch_loads":[1-9]'
holds out '"tokens_per_s":[0-9.]*[1-9]'
holds out '"layers":\[{"layer":0,"hits":[1-9].*"recall":1.0,.*"stall_s":.*"regret_loads":-*[0-9]'
expect 0 replay "$work/u.routes" --slots 12 --steps 7 --warm-up 2 --batch 4 --policy lru --json
holds out '"steps":7'
expect 0 replay "$work/u.routes" --slots 12
holds out 'Belady'

# Pruning: what is skipped, and what of the whole recording's loads that saves; refused where nothing says what to skip.
expect 0 replay "$work/a.routes" --cache 25% --policy lru --prune-mass 0.5 --json
holds out '"pruning":{"gate_mass":0.5,"routings":[1-9][0-9]*,"left_out":[1-9]'
holds out '"unpruned_demand_loads":[1-9]'
holds out '"misses_saved":0.[0-9]*[1-9]'
expect 0 replay "$work/a.routes" --cache 25% --policy lru --prune-mass 1
holds out 'skips 0 of'
expect 0 replay "$work/a.routes" --cache 25% --policy lru --json
holds out '"pruning":null'
expect 2 replay "$work/u.routes" --slots 12 --prune-mass 0.5
holds err 'gate weights'
expect 2 replay "$work/a.routes" --cache 25% --prune-mass 0

expect 2
expect 2 replay "$work/u.routes"
expect 2 replay "$work/u.routes" --cache 1GiB
expect 2 replay "$work/u.routes" --slots 12 --policy best
holds err 'lru'
expect 2 replay "$work/u.routes" --slots 12 --predictor crystal_ball
holds err 'oracle'
expect 2 replay "$work/u.routes" --slots 1
expect 2 synth --layers 3 --experts 16 --top-k 2 --tokens 40 -o "$work/x.routes"
expect 2 synth --uniform --layers 3 --experts 16 --top-k 17 --tokens 40 -o "$work/x.routes"
[ ! -e "$work/x.routes" ] || failed "a refused command left a file"
head -c 100 "$work/u.routes" >"$work/cut.routes"
expect 2 show "$work/cut.routes"
expect 2 show "$work/nothing.routes"
expect 2 record -p 'x' --text "$work/text" -o "$work/x.routes"

for kind in uniform skewed; do
    expect 0 show "$source_folder/tests/data/routes/qwen3-30b-a3b-6-layers-$kind.routes" --json
    holds out '"layers":6,"experts":128,"top_k":8'
done

finish
