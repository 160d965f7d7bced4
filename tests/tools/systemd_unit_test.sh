#!/usr/bin/env bash
# The unit example starts this program, leaves it time to drain, and is what systemd understands.
set -euo pipefail

program="$1"
unit="$2"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

fail() {
    echo "$unit: $1"
    exit 1
}

# setting NAME: its value in the unit.
setting() {
    sed -n "s/^$1=//p" "$unit"
}

command="$(setting ExecStart)"
[[ "$command" == */moira\ serve\ * ]] || fail "ExecStart is not moira serve: $command"
# Its options exist: the address is taken, the file that is not there is the only complaint.
read -ra words <<<"$command"
code=0
"$program" "${words[@]:1}" >"$work/out" 2>"$work/err" </dev/null || code=$?
[ "$code" -eq 2 ] || fail "exit code $code with settings that are not there"
grep -q '/etc/moira/server.toml' "$work/err" || fail "the complaint is about something else: $(cat "$work/err")"

drain="$("$program" config --json | grep -o '"key":"server.drain_timeout_s","value":[0-9]*' | grep -o '[0-9]*$')"
# A margin of ten seconds for the last writes, as the program itself takes.
[ "$(setting TimeoutStopSec)" -ge "$((drain + 10))" ] || fail "TimeoutStopSec is shorter than draining takes"
[ "$(setting KillSignal)" = SIGTERM ] || fail "only SIGTERM drains"
for name in NoNewPrivileges ProtectHome DynamicUser PrivateTmp MemoryDenyWriteExecute; do
    [ "$(setting "$name")" = yes ] || fail "$name is not set"
done

if command -v systemd-analyze >/dev/null; then
    sed "s#^ExecStart=[^ ]*#ExecStart=$program#" "$unit" >"$work/moira.service"
    systemd-analyze verify --man=no "$work/moira.service" >"$work/out" 2>&1 || true
    # It also speaks about other units of the machine and about a missing system manager.
    if grep -i 'moira.service' "$work/out" | grep -v -i 'not executable'; then
        fail "systemd-analyze complains"
    fi
else
    echo "systemd-analyze was not found: the unit's words were not checked"
fi
echo "all as expected"
