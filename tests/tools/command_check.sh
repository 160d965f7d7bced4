# Sourced by tests that run `moira` as a shell does. The test sets `moira` (the program) and `subcommand` (the words before
# every call's arguments, perhaps none); it ends with `finish`. What the last call printed is in $work/out and $work/err.
# shellcheck shell=bash disable=SC2154
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
failures=0

# failed WHAT...
failed() {
    echo "$*"
    failures=$((failures + 1))
}

# expect CODE ARGUMENTS...
expect() {
    local wanted="$1" code=0
    shift
    "$moira" "${subcommand[@]}" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    if [ "$code" -ne "$wanted" ]; then
        failed "moira ${subcommand[*]} $*: exit code $code, expected $wanted"
        sed 's/^/    /' "$work/err"
    fi
}

# holds FILE PATTERN
holds() {
    if ! grep -q -e "$2" "$work/$1"; then
        failed "standard $1 of the last command lacks: $2"
        sed 's/^/    /' "$work/$1" | cut -c 1-500
    fi
}

# silent FILE
silent() {
    if [ -s "$work/$1" ]; then
        failed "standard $1 of the last command should be empty"
    fi
}

finish() {
    if [ "$failures" -ne 0 ]; then
        echo "$failures failures"
        exit 1
    fi
    echo "all as expected"
}
