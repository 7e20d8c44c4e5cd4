#!/usr/bin/env bash
# Proves the chart on a cluster of this machine's own: starts it, builds and loads the images, tests, ends it.
#
#   deploy/make/cluster.sh PROGRAM [TAG]              all of it
#   deploy/make/cluster.sh PROGRAM [TAG] --prepare    only what takes long: the cluster's own build, and the images'
#
# PROGRAM is a cluster's program with the words build, up, base, image, exec and down, such as ../shared/kube/kube.
set -euo pipefail
cd "$(dirname "$0")/../.."

kube=$(realpath "$1") tag=${2:-} prepare=${3:-}

say() { echo "cluster: $1 ($((SECONDS / 60)) min $((SECONDS % 60)) s)"; }

say "building the cluster's own programs, unless they are there"
"$kube" build
trap '"$kube" down' EXIT
say "starting it"
"$kube" down # what a run that was cut off left behind
"$kube" up
"$kube" base
say "building and loading the images"
deploy/images/build.sh ${tag:+--tag "$tag"} --kube "$kube"
sync # gigabytes that are still on their way to the disk would make Redis wait for its own
if [ "$prepare" = --prepare ]; then
  trap - EXIT
  say "ready for: $kube exec -- make e2e-cluster"
  exit
fi
say "testing"
"$kube" exec -- make e2e-cluster IMAGE_TAG="$tag"
say "done"
