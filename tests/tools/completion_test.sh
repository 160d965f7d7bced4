#!/usr/bin/env bash
# What bash would offer: the printed script is sourced and asked.
set -euo pipefail

program="$1"
failures=0
source <("$program" completion bash)
# The script calls the program by the word that was typed.
PATH="$(dirname "$program"):$PATH"

# offers WORDS... : the last word is the one being typed. Prints what is offered, one a line.
offers() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    _moira || true
    printf '%s\n' "${COMPREPLY[@]}"
}

# holds WORD: what is read has the line; lacks WORD: it has not.
holds() {
    if ! grep -q -x -e "$1" <<<"$offered"; then
        echo "$asked: $1 is not offered"
        failures=$((failures + 1))
    fi
}
lacks() {
    if grep -q -x -e "$1" <<<"$offered"; then
        echo "$asked: $1 is offered"
        failures=$((failures + 1))
    fi
}
ask() {
    asked="$*|"
    offered="$(offers "$@")"
}

ask moira ""
for command in run chat serve bench eval completion; do
    holds "$command"
done
ask moira ru
holds run
lacks serve
ask moira run --
holds --max-tokens
holds --config
holds --help
lacks --clients
ask moira bench ""
holds serve
ask moira bench serve --c
holds --clients
holds --config
lacks --max-tokens
ask moira run --set experts.
holds experts.ram_budget=
lacks server.tcp=
ask moira run -m moira-
holds moira-demo
ask moira run -n ""
lacks run
if [ -n "$offered" ]; then
    echo "a number cannot be completed, yet there is: $offered"
    failures=$((failures + 1))
fi

code=0
"$program" completion fish >/dev/null 2>&1 || code=$?
if [ "$code" -ne 2 ]; then
    echo "completion fish: exit code $code, expected 2"
    failures=$((failures + 1))
fi

if [ "$failures" -ne 0 ]; then
    echo "$failures failures"
    exit 1
fi
echo "all as expected"
