# Copies the named model folders into /weights. Runs in the models image, under busybox.
set -eu
for folder in "$@"; do
  if [ ! -d "/models/$folder" ]; then
    echo "This image has no model $folder. It has: $(/bin/busybox ls /models). Name one of them in weights.folder, or give a claim." >&2
    exit 2
  fi
  /bin/busybox cp -r "/models/$folder" /weights/
done
