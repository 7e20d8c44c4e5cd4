#!/usr/bin/env bash
# Installs what a package-lock.json pins by hash into a folder: npm.sh FOLDER FOLDER_OF_THE_LOCK.
# The lock holds no addresses: where the packages come from is the machine's own setting.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1 lock=$2
mkdir -p "$folder"
cp "$lock/package.json" "$lock/package-lock.json" "$folder/"
echo "cloister: $folder: installing $(grep -c '"integrity"' "$lock/package-lock.json") pinned packages"
npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel=error \
    >"$folder/install.log" 2>&1 </dev/null || {
    echo "cloister: $folder: npm failed: $(grep -m1 -i error "$folder/install.log"). The whole output: $folder/install.log" >&2
    exit 1
}
