#!/usr/bin/env bash
# Writes the hash-pinned locks: one per image, from NAME.in (and NAME.nodeps.in, for packages whose own dependency
# lists must not be followed). The locks of one environment are first resolved together, so that they agree and can
# be installed into the same place. No lock holds an address: where packages come from is the machine's own setting.
# torch stands in none of them, because its CPU and GPU builds differ by where it is fetched from; `make install`
# installs TORCH before the locks.
#
# Usage: requirements/lock.sh [--upgrade]      UV names the uv to use.
set -euo pipefail
cd "$(dirname "$0")"

UV=$(command -v "${UV:-uv}") || { echo "uv is needed to make the locks: pip install uv" >&2 && exit 1; }
TORCH=torch==2.13.0
SHARED=(gateway embedder retriever local test)
OPTIONS=(--quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
         --no-emit-package torch --python-version 3.11 "$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "${PIP_FIND_LINKS:-}" ]; then export UV_FIND_LINKS=$PIP_FIND_LINKS; fi

compile() { # NAME INPUT [OPTION...]: makes NAME.txt and appends the packages of NAME.nodeps.in
    local name=$1 input=$2
    shift 2
    echo "requirements/$name.txt"
    # The old lock is what uv prefers to stay with, unless --upgrade is given.
    if [ -f "$name.txt" ]; then cp "$name.txt" "$work/$name.txt"; fi
    "$UV" pip compile "${OPTIONS[@]}" "$@" "$input" -o "$work/$name.txt" >"$work/out"
    if [ -f "$name.nodeps.in" ]; then
        "$UV" pip compile "${OPTIONS[@]}" --no-deps "$name.nodeps.in" -o "$work/$name.nodeps.txt" >"$work/out"
        cat "$work/$name.nodeps.txt" >>"$work/$name.txt"
    fi
    mv "$work/$name.txt" "$name.txt"
}

pins() { awk '/^[a-z0-9]/ {print $1}' "$@"; }

cat "${SHARED[@]/%/.in}" | sort -u >"$work/all.in"
for name in "${SHARED[@]}"; do if [ -f "$name.txt" ]; then pins "$name.txt"; fi; done | sort -u >"$work/all.txt"
"$UV" pip compile "${OPTIONS[@]}" "$work/all.in" -o "$work/all.txt" >"$work/out"
{ pins "$work/all.txt"; echo "$TORCH"; } >"$work/constraints.txt"

for name in "${SHARED[@]}"; do compile "$name" "$name.in" -c "$work/constraints.txt"; done
compile ocr ocr.in -c "$work/constraints.txt"
compile vllm vllm.in
for name in tools milvus build llm-cuda clients clients-openai2; do if [ -f "$name.in" ]; then compile "$name" "$name.in"; fi; done

if command -v npm >/dev/null; then
    # What packages say of their funding are addresses, and of no use here.
    clients=../tests/clients/javascript
    echo "$clients/package-lock.json"
    npm install --prefix "$clients" --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit \
        --no-fund --loglevel=error >"$work/out"
    node -e '
        const [file] = process.argv.slice(1), { readFileSync, writeFileSync } = require("fs");
        const lock = JSON.parse(readFileSync(file));
        for (const entry of Object.values(lock.packages)) delete entry.funding;
        writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
    ' "$clients/package-lock.json"
fi

if grep -n '://' ./*.txt ../tests/clients/javascript/package-lock.json; then
    echo "A lock holds an address (above). Locks must install from wherever the machine gets its packages." >&2
    exit 1
fi
