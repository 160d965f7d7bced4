#!/usr/bin/env bash
# Runs `moira eval perplexity`, `divergence` and `tasks` on the bundled model: fields, exit codes, exactness, hostile
# files. What the figures must be is tested where they are computed.
set -euo pipefail
# shellcheck source=command_check.sh
source "$(dirname "$0")/command_check.sh"

moira="$1"
source="$2"
subcommand=(eval)

# value FIELD: the number of a field of the last JSON.
value() {
    grep -o "\"$1\":[-0-9.e+]*" "$work/out" | head -n 1 | cut -d : -f 2
}

# same WHAT A B
same() {
    if [ -z "$2" ] || [ "$2" != "$3" ]; then
        echo "$1: \"$2\" and \"$3\" should be the same"
        failures=$((failures + 1))
    fi
}

cat >"$work/story.txt" <<'END'
There was once a small brown dog who lived near the river with an old man. Every morning the dog ran to the water and
looked at the boats. One day a boat came that had no one in it. The dog jumped in, and the boat went slowly down the
river, past the mill and the green fields, until the houses of the village could no longer be seen.
"What shall I do now?" said the dog. A grey bird sat down beside him. "Wait for the wind," said the bird, "for it turns
in the evening and will bring you home." So the dog waited, and when the sun went down the wind turned. The old man
stood at the river with a lamp in his hand, and he was very glad.
END
for _ in 1 2 3 4 5 6 7 8; do
    cat "$work/story.txt"
done >"$work/stories.txt"

# Perplexity.
expect 0 perplexity --text "$work/story.txt" --json
for field in tokens nll_per_token perplexity bits_per_byte; do
    holds out "\"$field\":[0-9]"
done
holds out '"windows":1,'
if [ "$(wc -l <"$work/out")" -ne 1 ]; then
    echo "--json: expected one line"
    failures=$((failures + 1))
fi
# With the model's BOS before the text every token of it is scored, and so every byte.
same "bytes" "$(value bytes)" "$(wc -c <"$work/story.txt")"
nll="$(value nll_per_token)"
"$moira" tokenize --text-file "$work/story.txt" --no-special --json >"$work/out" 2>/dev/null
tokens="$(value tokens)"
# Neither threads nor memory nor the size of steps matter to the last digit.
expect 0 perplexity --text "$work/story.txt" --json --set compute.threads=1 --set batch.max_step_tokens=19 \
    --set experts.ram_budget=25%
same "likelihood with less memory" "$(value nll_per_token)" "$nll"
same "scored tokens" "$(value tokens)" "$tokens"
expect 0 perplexity --text "$work/stories.txt" --json --window 128 --stride 64
overlapping="$(value tokens)"
holds out '"window":128,"stride":64,'
expect 0 perplexity --text "$work/stories.txt" --json --window 128
if [ "$overlapping" -ne $(($(value tokens) + $(value windows) - 1)) ]; then
    echo "without overlap each window but the first should score one token less"
    failures=$((failures + 1))
fi
expect 0 perplexity --text "$work/story.txt"
holds out '^perplexity '

# Divergence: nothing parts equal arithmetic.
expect 0 divergence --text "$work/story.txt" --against "experts.ram_budget=25% compute.threads=1" --json
for field in tokens mean_kl top1_agreement nll_delta; do
    holds out "\"$field\":[0-9]"
done
holds out '"mean_kl":0.0,"top1_agreement":1.0,"nll_delta":0.0,'
holds out '"ci95":{"mean_kl":\[0.0,0.0\],"top1_agreement":\[1.0,1.0\]'
same "scored tokens" "$(value tokens)" "$tokens"
# The reference has the settings of --against and not those of --set.
expect 0 divergence --text "$work/story.txt" --set compute.plugin=cpu_reference --set compute.threads=2 \
    --against compute.plugin=cpu_reference --against compute.threads=1 --json
holds out '"mean_kl":0.0,'
same "arithmetic" "$(grep -o '"numerics_id":"[^"]*' "$work/out" | cut -d '"' -f 4)" \
    "$(grep -o '"numerics_id_against":"[^"]*' "$work/out" | cut -d '"' -f 4)"
expect 0 divergence --text "$work/story.txt" --against compute.plugin=cpu_reference
holds out '^mean KL'

# Pruning: the loss has figures, it is named, and gate mass keeps promise 1 while cache-aware routing needs scarce experts.
expect 0 divergence --text "$work/story.txt" --set prune.mode=gate_mass --set prune.gate_mass=0.7 --against prune.mode=off --json
holds out '"lossy":\["prune.gate_mass=0.7"\]'
holds out '"numerics_id":"[^"]*/prune-mass-0.7"'
holds out '"pruning":{"routings":[1-9][0-9]*,"left_out":[1-9][0-9]*,"replaced":0,"skipped_share":0\.[0-9]*,'
pruned="$(value mean_kl)"
if [ "$pruned" = "0.0" ]; then
    echo "pruned experts changed nothing"
    failures=$((failures + 1))
fi
expect 0 divergence --text "$work/story.txt" --set prune.mode=gate_mass --set prune.gate_mass=0.7 --against prune.mode=off \
    --json --set experts.ram_budget=25% --set batch.max_step_tokens=19
same "divergence with less memory" "$(value mean_kl)" "$pruned"
expect 0 divergence --text "$work/story.txt" --set prune.mode=gate_mass --against prune.mode=off
holds out '^routed experts .* left out'
expect 0 divergence --text "$work/story.txt" --set prune.mode=cache_aware --set experts.ram_budget=25% --json \
    --set prune.sacred_ranks=1 --set prune.window=0.9 --set batch.max_step_tokens=1 --set batch.max_sequences=1 \
    --against prune.mode=off
holds out '"lossy":\["prune.mode=cache_aware prune.sacred_ranks=1 prune.window=0.9"\]'
holds out '"left_out":0,"replaced":[1-9]'
expect 0 divergence --text "$work/story.txt" --against prune.mode=off --json
holds out '"pruning":null,'
expect 2 divergence --text "$work/story.txt" --set prune.mode=cache_aware --set prune.sacred_ranks=4 --against prune.mode=off
expect 2 perplexity --text "$work/story.txt" --set prune.mode=cache_aware --set speculation.mode=ngram
holds err 'speculation.mode'
if command -v python3 >/dev/null; then
    python3 -B "$source/tools/quality_rows" --program "$moira" --text "$work/stories.txt" --rows "gate mass 0.7" --prompts 2 \
        --tokens 8 >"$work/out" 2>"$work/err" || failures=$((failures + 1))
    holds out '^| gate mass 0.7 | [1-9][0-9.]* % | 0.0 % | '
fi

# Tasks.
head -n 20 "$source/config/models/moira-demo/tasks.jsonl" >"$work/tasks.jsonl"
expect 0 tasks --tasks "$work/tasks.jsonl" --json
holds out '^{"items":20,"correct":[0-9]*,"accuracy":[0-9.]*,"ci95":\[[-0-9.e]*,[0-9.]*\],"tokens_per_answer":[0-9.]*,'
holds out '"add":{"items":4,'
# What the model does say, in the chat form, is right when it is what was expected.
said="$("$moira" run --chat -p "What is 74 + 24?" -n 8 2>/dev/null | tr -d '\n"\\')"
printf '{"prompt":"What is 74 + 24?","answer":"  %s\\n"}\n' "$said" >"$work/said.jsonl"
if [ -n "${said// /}" ]; then
    expect 0 tasks --tasks "$work/said.jsonl" --max-tokens 8 --json
    holds out '"items":1,"correct":1,"accuracy":1.0,'
fi
correct="$(printf '{"prompt":"a","answer":"b"}\n%.0s' $(seq 40))"
printf '%s\n{"prompt":' "$correct" >"$work/cut.jsonl"
expect 2 tasks --tasks "$work/cut.jsonl" --json
holds err 'cut.jsonl:41:'
holds out '"code":"invalid_json"'
# Refused by the model's context: the line is named too.
printf '{"prompt":"a","answer":"b"}\n{"prompt":"%s","answer":"b"}\n' "$(seq -s ' ' 1000)" >"$work/long.jsonl"
expect 2 tasks --tasks "$work/long.jsonl"
holds err 'long.jsonl:2:'

# Wrong input.
expect 2
expect 2 perplexity
expect 2 perplexity --text "$work/absent.txt"
printf 'a\xffb c d e f' >"$work/bytes.txt"
expect 2 perplexity --text "$work/bytes.txt" --json
holds out '"code":"invalid_utf8"'
: >"$work/empty.txt"
expect 2 perplexity --text "$work/empty.txt"
expect 2 perplexity --text "$work/story.txt" --window 100000
holds err 'context'
expect 2 perplexity --text "$work/story.txt" --window 64 --stride 65
expect 2 perplexity --text "$work/story.txt" --window 1
expect 2 divergence --text "$work/story.txt"
expect 2 divergence --text "$work/story.txt" --against " "
expect 2 divergence --text "$work/story.txt" --against no.such_key=1
holds err 'against.*no.such_key'
expect 2 tasks --tasks "$work/absent.jsonl"
for command in perplexity divergence tasks; do
    expect 0 "$command" --help
    holds out '--json'
    expect 2 "$command" --text "$work/story.txt" --tasks "$work/tasks.jsonl" --against compute.threads=1 -m no-such-model
done

# Ctrl-C: windows and answers that are complete are shown.
for _ in $(seq 60); do
    cat "$work/stories.txt"
done >"$work/long.txt"
for _ in $(seq 1000); do
    cat "$work/tasks.jsonl"
done >"$work/many.jsonl"
# interrupted LOADS ARGUMENTS...: Ctrl-C when the models, LOADS of them, have been loaded for a while.
interrupted() {
    local loads="$1" code=0
    shift
    "$moira" eval "$@" --json >"$work/out" 2>"$work/err" </dev/null &
    local started=$!
    while kill -0 "$started" 2>/dev/null && [ "$(grep -c 'info: ' "$work/err")" -lt "$loads" ]; do
        sleep 0.1
    done
    sleep 2
    kill -INT "$started" 2>/dev/null || true
    wait "$started" || code=$?
    if [ "$code" -ne 130 ]; then
        echo "moira eval $*, interrupted: exit code $code, expected 130"
        failures=$((failures + 1))
    fi
    holds out '"interrupted":true'
}
interrupted 1 perplexity --text "$work/long.txt" --window 64 --stride 8
interrupted 2 divergence --text "$work/long.txt" --window 64 --stride 8 --against compute.threads=1
interrupted 1 tasks --tasks "$work/many.jsonl"

finish
