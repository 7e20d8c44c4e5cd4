#!/usr/bin/env bash
# Installs the packages of a package.json, at the versions that it pins, into a folder: npm.sh FOLDER PACKAGE_JSON.
# No lock is written: it would hold the address that the packages came from.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1 package=$2
mkdir -p "$folder"
cp "$package" "$folder/package.json"
echo "cloister: $folder: installing $(grep -cE '": "[0-9]' "$package") pinned packages and what they need"
npm install --prefix "$folder" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error \
    >"$folder/install.log" 2>&1 </dev/null || {
    echo "cloister: $folder: npm failed: $(grep -m1 -i error "$folder/install.log"). The whole output: $folder/install.log" >&2
    exit 1
}
