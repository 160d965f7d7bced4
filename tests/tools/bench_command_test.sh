#!/usr/bin/env bash
# Runs `moira bench` on the bundled model with few tokens: are all promised fields there, and are the answers exact?
# No limit on any time: a busy machine is no mistake.
set -euo pipefail
# shellcheck source=command_check.sh
source "$(dirname "$0")/command_check.sh"

moira="$1"
subcommand=(bench)

# Logits hashes of the first sequence of each row.
first_hashes() {
    grep -o '"sequence_hashes":\["[0-9a-f]*"' "$work/out" | grep -o '[0-9a-f]\{16\}'
}

small=(--prompt-tokens 20 --gen-tokens 6 --repeat 2 --probe-mib 4)

expect 0 "${small[@]}" --batch 1,3 --threads 1 --json
for field in batch threads prefill_tok_s decode_tok_s bytes_per_token gb_s probe_gb_s bandwidth_share overhead_us \
    logits_hash numerics_id verdict; do
    if [ "$(grep -o "\"$field\":" "$work/out" | wc -l)" -ne 2 ]; then
        echo "the field $field is not in both rows"
        failures=$((failures + 1))
    fi
done
holds out '^\[{'
holds out '"overhead_us":{"p50":[0-9.e+-]*,"p99":'
holds out '"batch":3,"threads":1,'
if grep -q -e '"hashes_equal":false' -e ':0.0,"decode_tok_s"' -e '"bytes_per_token":0.0' -e null "$work/out"; then
    echo "a value is missing, or the hashes of repeats differ"
    cat "$work/out"
    failures=$((failures + 1))
fi
# A sequence's logits do not depend on its neighbours, on the threads, or on the memory for experts.
alone="$(first_hashes | head -n 1)"
if [ -z "$alone" ] || [ "$(first_hashes | sort -u | wc -l)" -ne 1 ]; then
    echo "the first sequence has another hash in a batch"
    failures=$((failures + 1))
fi
expect 0 "${small[@]}" --batch 1 --threads 2 --set experts.ram_budget=25% --json
holds out "\"logits_hash\":\"$alone\""

expect 0 "${small[@]}" --batch 2
holds out 'DECODE TOK/S'
if [ "$(wc -l <"$work/out")" -ne 3 ]; then
    echo "the table should have three lines"
    failures=$((failures + 1))
fi

# Single ops: every promised field still there, and every kind of op in a step of one row, of two and of a prompt.
expect 0 "${small[@]}" --batch 1,2 --ops --json
holds out '^\[{"model".*"logits_hash".*"ops":{'
for field in decode prefill probe_gb_s peak_gflop_s packing; do
    if [ "$(grep -o "\"$field\":{" "$work/out" | wc -l)" -ne 2 ]; then
        echo "ops.$field is not in both rows"
        failures=$((failures + 1))
    fi
done
for op in embedding rmsnorm rope kv_append attention_mla gemm router_topk expert_ffn combine; do
    for rows in 1 2 512; do
        if ! grep -q "\"rows\":$rows,\"step_us\"[^]]*\"op\":\"$op\"" "$work/out"; then
            echo "no $op in a step of $rows rows"
            failures=$((failures + 1))
        fi
    done
done
for field in ops_per_step us_per_op bandwidth_share flop_share calls_per_step us_per_call bytes_per_call; do
    holds out "\"$field\":[0-9]"
done
expect 0 "${small[@]}" --batch 1 --ops
holds out 'US/CALL'
holds out 'prefill, 512 rows'

# Long contexts: a row each, and memory in proportion.
expect 0 --context 100,400 --probe-mib 4 --repeat 1 --json
holds out '^\[{"model":"[^"]*","threads":[0-9]*,"context":100,"kv_type":"[a-z0-9]*","kv_bytes_of_context":[0-9]'
holds out '"context":400,.*"op":"attention_mla"'
mapfile -t bytes < <(grep -o '"kv_bytes_of_context":[0-9]*' "$work/out" | grep -o '[0-9]*$')
if [ "${#bytes[@]}" -ne 2 ] || [ "${bytes[1]}" -ne $((4 * bytes[0])) ]; then
    echo "the bytes of 400 tokens are not four times those of 100: ${bytes[*]}"
    failures=$((failures + 1))
fi
expect 0 --context 400 --probe-mib 4 --repeat 1
holds out 'US/1024 TOKENS'
expect 2 --context 512 --probe-mib 4
holds err 'context.max_tokens'
expect 2 --context 0
expect 2 --context 1,,2

# Ctrl-C long before all is measured.
code=0
timeout --preserve-status -s INT 2 "$moira" bench --prompt-tokens 20 --gen-tokens 400 --repeat 1000 --probe-mib 4 --batch 16,16 --json \
    >"$work/out" 2>"$work/err" </dev/null || code=$?
if [ "$code" -ne 130 ]; then
    echo "interrupted: exit code $code, expected 130"
    failures=$((failures + 1))
fi

# A recorded routing: the same logits whatever is in memory and whatever is loaded ahead of need.
python3 - "$work/demo.routes" <<'EOF'
import struct, sys
layers, experts, top_k, tokens = 7, 32, 4, 40
ids = bytes((token * 5 + layer * 3 + rank * 8) % experts for token in range(tokens) for layer in range(layers)
            for rank in range(top_k))
with open(sys.argv[1], "wb") as file:
    file.write(b"MOEROUT1" + struct.pack("<4HI", layers, experts, top_k, 1, tokens) + ids)
    file.write(struct.pack("<e", 0.25) * len(ids))
EOF
routed=(--routes "$work/demo.routes" --gen-tokens 6 --repeat 2 --warm-up 4 --probe-mib 4 --threads 1 --json)
expect 0 "${routed[@]}" --batch 1,3
sed -i 's/"layers":\[[^]]*\]/"layers":[]/g' "$work/out" # whose rows have some of these fields too
for field in decode_tok_s stall_s compute_s link_idle_s demand_loads demand_loads_without_prefetch demand_loads_optimal regret_share disk_gb_s memory_gb_s \
    demand_only_tok_s overlap_tok_s logits_hash layers verdict; do
    if [ "$(grep -o "\"$field\":" "$work/out" | wc -l)" -ne 2 ]; then
        echo "the field $field is not in both rows of --routes"
        failures=$((failures + 1))
    fi
done
hash="$(grep -o '"logits_hash":"[0-9a-f]*"' "$work/out" | head -n 1)"
for prefetch in off always; do
    expect 0 "${routed[@]}" --batch 1 --set experts.ram_budget=40% --set experts.prefetch=$prefetch \
        --predictor scripted:recall=0.8,precision=0.7
    holds out "$hash"
done
if grep -q '"prefetch_loads":0,' "$work/out"; then
    echo "nothing was loaded ahead of need"
    failures=$((failures + 1))
fi
expect 0 "${routed[@]}" --batch 1 --set experts.ram_budget=40%
loads="$(grep -o '"demand_loads":[0-9]*' "$work/out" | head -n 1 | cut -d : -f 2)"
holds out "\"demand_loads_without_prefetch\":$loads"
# The simulator's counters with hints stand beside the engine's.
expect 0 "${routed[@]}" --batch 1 --set experts.ram_budget=40% --set experts.prefetch=always --predictor scripted --settle
holds out '"simulated":{"settled":true,'
holds out '"difference":{"demand_loads":'
# Beside hints from the recording the engine's own predictors are silent, so engine and simulator count alike within 2 %.
# Each layer says what it loaded and what the optimum would not have.
for budget in 12.5% 25% 37.5% 50%; do
    expect 0 "${routed[@]}" --batch 1,4 --set experts.ram_budget=$budget --set experts.prefetch=always \
        --predictor scripted:recall=0.85,precision=0.85 --settle
    if ! python3 - "$work/out" <<'EOF'
import json, sys
for row in json.load(open(sys.argv[1])):
    experts = row["experts"]
    simulated = experts["simulated"]
    for field in ("demand_loads", "prefetch_loads", "prefetch_useful", "prefetch_wasted"):
        if abs(experts[field] - simulated[field]) > max(1, 0.02 * simulated[field]):
            sys.exit(f"{field}: engine {experts[field]}, simulator {simulated[field]}")
    if sum(layer["loads"] - layer["regret_loads"] for layer in experts["layers"]) != experts["demand_loads_optimal"]:
        sys.exit("the layers' regret does not add up")
    for field in ("hits", "demand_loads", "prefetch_loads", "prefetch_useful", "prefetch_wasted"):
        if sum(layer[field] for layer in experts["layers"]) != experts[field]:
            sys.exit(f"{field} of the layers does not add up")
EOF
    then
        failed "budget $budget: engine and simulator differ, or layers and totals"
    fi
done
expect 2 "${routed[@]}" --batch 1 --settle
expect 2 "${routed[@]}" --batch 1 --predictor nonsense
expect 2 --predictor scripted --json
expect 2 --ops "${routed[@]}"
# Simulator and engine agree however the store is set up: below the floor (28 slots), with one loader, under a policy
# that is replaced there.
for setting in experts.ram_budget=10% experts.loader_threads=1 experts.policy=lru; do
    expect 0 "${routed[@]}" --batch 3 --set experts.ram_budget=40% --set "$setting"
    loads="$(grep -o '"demand_loads":[0-9]*' "$work/out" | head -n 1 | cut -d : -f 2)"
    expected="$(grep -o '"demand_loads_without_prefetch":[0-9]*' "$work/out" | head -n 1 | cut -d : -f 2)"
    if [ -z "$loads" ] || [ "$loads" = 0 ] || [ "$loads" != "$expected" ]; then
        failed "$setting: $loads loads, the simulator expects $expected"
    fi
done
expect 0 "${routed[@]}" --batch 1 --set experts.ram_budget=10% --set experts.policy=lru
holds out '"policy":"bypass"'
expect 2 --routes "$work/none.routes" --json
holds out not_found
expect 2 --batch 0
expect 2 --batch 1,x
expect 2 --gen-tokens 1
expect 2 --probe-mib 4 --batch 1 --prompt-tokens 100000
holds err 'context'
expect 2 "${small[@]}" --batch 600
holds err 'max_step_tokens'
expect 2 --probe-mib 4 --batch 40 --prompt-tokens 400 --set context.kv_budget=1MiB
holds err 'kv_budget'
expect 2 -m no-such-model

finish
