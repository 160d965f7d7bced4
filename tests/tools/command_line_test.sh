#!/usr/bin/env bash
# Runs the program as a shell does: exit codes, what is printed where.
set -euo pipefail
# shellcheck source=command_check.sh
source "$(dirname "$0")/command_check.sh"

moira="$1"
subcommand=()
export HF_HUB_CACHE="$work/no_cache"

expect 0 --version
holds out '^moira [0-9]'
expect 0 --help
expect 2
silent out
expect 2 no_such_command
expect 2 config --no-such-option
expect 2 config extra_word

for command in config list inspect tokenize detokenize plugins run chat bench completion; do
    expect 0 "$command" --help
    holds out '--config'
    holds out '--set'
    holds out '--json'
done

expect 0 config
holds out '^experts.ram_budget .*100%.* default '
expect 0 config --json --set experts.ram_budget=25% --set sampling.seed=7
silent err
holds out '"key":"experts.ram_budget","value":"25%","origin":"--set","unit":'
holds out '"key":"sampling.seed","value":7,"origin":"--set"'
if [ "$(wc -l <"$work/out")" -ne 1 ]; then
    echo "--json: expected one line"
    failures=$((failures + 1))
fi

printf '[experts]\nram_budget = "1GiB"\nio = "fast"\n' >"$work/wrong.toml"
expect 2 config --config "$work/wrong.toml"
silent out
holds err 'wrong.toml:3:6: experts.io'
expect 2 config --config "$work/wrong.toml" --json
holds out '"code":"invalid_config"'
expect 2 config --config "$work/absent.toml"
expect 2 config --set experts.policy=lfu
holds err 'foresight'
expect 2 config --set experts.predictor=p
holds err 'heads:FILE'
expect 2 config --set speculation.mode=draft
holds err 'not in this version'
expect 2 config --set experts.ram_budget
expect 2 config --set no.such_key=1

expect 2 inspect -m no-such-model
holds err 'no-such-model'
expect 2 inspect some.gguf
holds err 'GGUF'

expect 2 chat -m no-such-model
expect 0 bench serve --help
holds out '--target'
expect 2 bench serve
expect 2 bench serve --target https://127.0.0.1:1
holds err 'no target'
expect 2 bench serve --target tcp://127.0.0.1:1 --api-key-file "$work/absent"
expect 1 bench serve --target tcp://127.0.0.1:1 --json
holds out '"code":"io_error"'

expect 0 tokenize -p "Once upon a time" --json
holds out '^{"token_ids":\['
expect 0 tokenize -p "Once upon a time" --no-special
ids="$(cat "$work/out")"
expect 0 detokenize --ids "$ids"
holds out '^Once upon a time$'
expect 0 detokenize --ids "$ids" --json
holds out '^{"text":"Once upon a time"}$'
expect 0 tokenize -p ""
expect 2 tokenize -p a --text-file b
expect 2 tokenize -p "$(printf '\xff')"
expect 2 detokenize --ids "1 two"
expect 2 detokenize --ids 999999999
expect 2 tokenize --text-file "$work/absent.txt"

if [ -e /dev/full ]; then
    code=0
    "$moira" config >/dev/full 2>/dev/null || code=$?
    if [ "$code" -ne 1 ]; then
        echo "a full disk: exit code $code, expected 1"
        failures=$((failures + 1))
    fi
fi

finish
