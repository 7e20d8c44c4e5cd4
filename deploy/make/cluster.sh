#!/usr/bin/env bash
# Proves the chart on a cluster of this machine's own: starts it, builds and loads the images, tests, ends it.
#
#   deploy/make/cluster.sh PROGRAM [TAG]              all of it
#   deploy/make/cluster.sh PROGRAM [TAG] --compile    only the cluster's own programs, which takes longest
#   deploy/make/cluster.sh PROGRAM [TAG] --prepare    all but the tests; the cluster stays up
#   deploy/make/cluster.sh PROGRAM [TAG] --test       the tests, on what --prepare left, and the end of the cluster
#
# PROGRAM is a cluster's program with the words build, up, base, image, exec and down, such as ../shared/kube/kube.
set -euo pipefail
cd "$(dirname "$0")/../.."

kube=$(realpath "$1") tag=${2:-} part=${3:-}

say() { echo "cluster: $1 ($((SECONDS / 60)) min $((SECONDS % 60)) s)"; }

compile() { # Whoever comes second waits for the first, and finds the programs there
  say "building the cluster's own programs, unless they are there"
  flock "/tmp/cloister-cluster-$(id -u).lock" "$kube" build
}

prepare() {
  compile
  trap '"$kube" down' EXIT
  say "starting it"
  "$kube" down # what a run that was cut off left behind
  "$kube" up
  "$kube" base
  say "building and loading the images"
  deploy/images/build.sh ${tag:+--tag "$tag"} --kube "$kube"
  sync # gigabytes that are still on their way to the disk would make Redis wait for its own
}

prove() {
  trap '"$kube" down' EXIT
  say "testing"
  "$kube" exec -- make e2e-cluster IMAGE_TAG="$tag"
  say "done"
}

# (What stands before `&&` goes on after an error.)
case $part in
'') prepare; prove ;;
--compile) compile ;;
--prepare) prepare; trap - EXIT; say "ready for: deploy/make/cluster.sh $1 '$tag' --test" ;;
--test) prove ;;
*) echo "cluster: '$part' is none of --compile, --prepare and --test" >&2 && exit 2 ;;
esac
