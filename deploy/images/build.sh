#!/usr/bin/env bash
# Builds Cloister's images with what this machine has: buildah, podman or docker.
#
#   deploy/images/build.sh [--tag TAG] [--registry PREFIX] [--kube PROGRAM] [IMAGE ...]
#
# Without names it builds all: gateway embedder retriever llm redis milvus models. `llm-cuda` is built only when named:
# its base is vllm/vllm-openai. Without --tag they get the version, which the chart asks for. With --kube each image is
# built and loaded by `PROGRAM image`, a test cluster's own way.
# OCR=yes puts what reads text in scans into the retriever's image.
# pip in the builds uses this machine's PIP_* settings; they leave no trace in the images.
set -euo pipefail
cd "$(dirname "$0")/../.."

TAG='' REGISTRY=docker.io/cloister KUBE='' IMAGES=()
VLLM=${VLLM:-docker.io/vllm/vllm-openai:v0.32.0}
EVERY_SECONDS=${EVERY_SECONDS:-30} PROGRESS=''
while [ $# -gt 0 ]; do
  case $1 in
    --tag) TAG=$2; shift 2 ;;
    --registry) REGISTRY=$2; shift 2 ;;
    --kube) KUBE=$2; shift 2 ;;
    -*) sed -n '2,10p' "$0" >&2; exit 2 ;;
    *) IMAGES+=("$1"); shift ;;
  esac
done
# models is made from the embedder's image.
[ ${#IMAGES[@]} -gt 0 ] || IMAGES=(redis milvus gateway retriever embedder models llm)

VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' services/gateway/pyproject.toml)
COMMIT=$(git rev-parse HEAD 2>/dev/null || echo unknown)
TAG=${TAG:-$VERSION}

engine() { # the first that is there and works
  local found
  for found in buildah podman docker; do
    if command -v "$found" >/dev/null && "$found" info >/dev/null 2>&1; then echo "$found"; return; fi
  done
  echo "No container builder works here. Install one of them: apt-get install buildah" >&2
  exit 2
}

arguments() { # NAME: what its build is given, one a line: builders warn of arguments that a Dockerfile does not ask for
  local variable file
  file=$(dockerfile "$1")
  for variable in PIP_CERT PIP_FIND_LINKS PIP_EXTRA_INDEX_URL PIP_INDEX_URL PIP_DEFAULT_TIMEOUT OCR; do
    if [ -n "${!variable:-}" ] && grep -qE "^ARG (.* )?$variable( |=|\$)" "$file"; then
      printf '%s\n' --build-arg "$variable=${!variable}"
    fi
  done
  case $1 in
    models) printf '%s\n' --build-arg "EMBEDDER=$REGISTRY/embedder:$TAG" ;;
    llm-cuda) printf "%s\n" --target cuda --build-arg "BASE=$VLLM" ;;
  esac
}

dockerfile() {
  case $1 in
    gateway | embedder | retriever | llm) echo "services/$1/Dockerfile" ;;
    llm-cuda) echo services/llm/Dockerfile ;;
    redis | milvus | models) echo "deploy/images/$1/Dockerfile" ;;
    *) echo "There is no image $1." >&2; exit 2 ;;
  esac
}

progress() { # NAME: says now and then that it goes on, since a step of a build may be silent for minutes
  local started=$SECONDS
  trap 'kill "$!" 2>/dev/null; exit' TERM
  while sleep "$EVERY_SECONDS" & wait "$!"; do echo "   $1: still building, $((SECONDS - started)) s"; done
}

quiet() { # ends `progress`
  [ -z "$PROGRESS" ] || kill "$PROGRESS" 2>/dev/null || true
  PROGRESS=''
}

build() { # NAME NUMBER
  local name=$1 image=$REGISTRY/$1:$TAG file options started=$SECONDS
  file=$(dockerfile "$name")
  mapfile -t options < <(arguments "$name")
  options+=(--label "org.opencontainers.image.title=cloister-$name" --label org.opencontainers.image.licenses=Apache-2.0
            --label "org.opencontainers.image.version=$VERSION" --label "org.opencontainers.image.revision=$COMMIT")
  echo "== $image ($2 of ${#IMAGES[@]})"
  # A folder of wheels on this machine is seen by the build at the same place. The cluster's program mounts it itself.
  if [ -z "$KUBE" ] && [ "$BUILDER" != docker ] && [ -d "${PIP_FIND_LINKS:-}" ]; then
    options+=(--volume "$PIP_FIND_LINKS:$PIP_FIND_LINKS:ro")
  fi
  progress "$name" & PROGRESS=$!
  case ${KUBE:+kube}$BUILDER in
    kube) "$KUBE" image "$image" . -f "$file" "${options[@]}" ;;
    buildah) buildah bud --layers --isolation chroot "${options[@]}" -t "$image" -f "$file" . ;;
    podman) podman build --layers "${options[@]}" -t "$image" -f "$file" . ;;
    docker) docker build "${options[@]}" -t "$image" -f "$file" . ;;
  esac
  quiet
  echo "   $((SECONDS - started)) s"
}

BUILDER=''
[ -n "$KUBE" ] || BUILDER=$(engine)
trap quiet EXIT
number=0
for name in "${IMAGES[@]}"; do build "$name" $((number += 1)); done
