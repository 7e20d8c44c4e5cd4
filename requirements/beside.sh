#!/usr/bin/env bash
# Makes targets that do not need each other side by side: beside.sh TARGET... One that is there already costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=()
trap 'kill "${jobs[@]}" 2>/dev/null || true' EXIT INT TERM # a job in the background does not hear Ctrl-C
for target in "$@"; do
    if [ -e "$target" ]; then continue; fi
    "${MAKE:-make}" "$target" &
    jobs+=($!)
done
code=0
for job in "${jobs[@]}"; do wait "$job" || code=$?; done
jobs=()
exit "$code"
