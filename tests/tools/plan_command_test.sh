#!/usr/bin/env bash
# `moira plan` from outside: exit codes, --json, refusals, and --verify on the bundled model.
set -euo pipefail
# shellcheck source=command_check.sh
source "$(dirname "$0")/command_check.sh"

moira="$1"
subcommand=(plan)

speeds=(--memory-gb-s 20 --disk-gb-s 1)
machine=(--ram 2GiB "${speeds[@]}")
expect 0 "${machine[@]}" --json
holds out '"fits":true,"slots":224,"expected_hit_rate":1.0'
holds out '"reasons":\[\]'
expect 0 "${machine[@]}"
holds out 'all experts are in memory'

# Half of the experts, and what the disk would have to say.
expect 0 "${machine[@]}" --set experts.ram_budget=50% --json
holds out '"fits":true,"slots":112,"expected_hit_rate":0.5'
holds out '"reads_s":0.0[0-9]*[1-9]'
holds out '"stall_s":0.0[0-9]*[1-9]'

# A recording's hit rate is the simulator's.
"$moira" trace synth --uniform --layers 7 --experts 32 --top-k 4 --tokens 400 -o "$work/u.routes" >/dev/null
expect 0 "${machine[@]}" --set experts.ram_budget=50% --routes "$work/u.routes" --json
planned=$(grep -o '"expected_hit_rate":0\.[0-9]*' "$work/out" | head -1)
replayed=$("$moira" trace replay "$work/u.routes" --slots 112 --policy foresight --warm-up 200 --json |
    grep -o '"hit_rate":0\.[0-9]*' | head -1) # behind it: the layers'
[ "${planned#*:}" = "${replayed#*:}" ] || failed "planned $planned, replayed $replayed"

# Too little memory is an answer, not an error.
expect 0 --ram 64MiB --memory-gb-s 20 --json
holds out '"fits":false'
holds out 'more memory would make it run'
expect 0 --ram 64MiB --memory-gb-s 20
holds out 'does not run'

# Models that are not there: only their shapes.
expect 0 --shape qwen3-30b-a3b --context 4096 "${speeds[@]}" --ram 16GiB --json
holds out '"slots_all":6144'
holds out '"fp8":{"slots":'
expect 0 --shape qwen3-30b-a3b --layers 6 --dtype fp8 --context 4096 "${speeds[@]}" --ram 6GiB --vram 24GiB \
    --vram-gb-s 900 --link-gb-s 25 --json
holds out '"fp8":null'
holds out '"vram":{"bytes":25769803776,"memory_gb_s":900.0,"link_gb_s":25.0,"dense_fits":true'
expect 0 --shape qwen3-30b-a3b --context 4096 --ram 16GiB --memory-gb-s 20
holds out '--disk-gb-s'
expect 0 --shape gpt-oss-20b --context 4096 "${speeds[@]}" --ram 64GiB --json
holds out '"fits":false'
holds out 'this version does not run the model'

expect 2 --shape no-such-shape
holds err 'qwen3-30b-a3b'
expect 2 --layers 3
expect 2 --shape qwen3-30b-a3b --verify
expect 2 --ram much
expect 2 --context 0
expect 2 -m no-such-model
expect 2 --routes /no/such/file
printf 'MOEROUT1 and then nothing' >"$work/broken.routes"
expect 2 --routes "$work/broken.routes"

# Runs the model; whether the estimate holds is for quiet machines, so 3 is an answer too.
for budget in 100% 25%; do
    code=0
    "$moira" plan --verify --set experts.ram_budget=$budget --set log.level=error --json >"$work/out" 2>"$work/err" </dev/null || code=$?
    if [ "$code" -ne 0 ] && [ "$code" -ne 3 ]; then
        failed "moira plan --verify at $budget: exit code $code"
        sed 's/^/    /' "$work/err"
    fi
    holds out '"verified":{"decode_tok_s":[0-9]*[1-9]'
    holds out '"ratio_at_measured_hit_rate":'
    holds out '"parts":{"compute_s":{"estimated":[0-9.e-]*,"measured":0.0*[1-9]'
    holds out '"stall_s":{"estimated":'
done

finish
