#!/bin/sh
# Runs HAProxy, and has it load its certificate again when the mounted Secret has a new one. At the end it outlives Milvus.
set -eu
stamp() { cat /run/cloister/tls/tls.crt /run/cloister/tls/tls.key 2>/dev/null | sha256sum; }

# Whether Milvus, on port 19531 (4C4B), listens (0A) or has somebody connected (01), as the kernel lists sockets.
serving() { grep -qsE '^ *[0-9]+: [0-9A-F]+:4C4B [0-9A-F]+:[0-9A-F]+ (0A|01) ' /proc/net/tcp /proc/net/tcp6; }

# Milvus is told to end at the same moment and finishes the calls that run. Their answers pass through here, and so do
# the probes of its container: without them it would count as failed while it closes its files.
finish() {
  while serving; do sleep 0.2; done
  [ -z "$master" ] || { kill -TERM "$master"; wait "$master" || true; }
  exit 0
}
master=
trap finish TERM INT
haproxy -W -db -f /run/cloister/config/haproxy.cfg &
master=$!

seen=$(stamp)
while kill -0 "$master" 2>/dev/null; do
  sleep 10 & wait $!
  now=$(stamp)
  [ "$now" = "$seen" ] && continue
  # Half a pair may be mounted for a moment: HAProxy keeps what it has unless the new configuration checks out.
  haproxy -c -q -f /run/cloister/config/haproxy.cfg && kill -USR2 "$master" && seen=$now
done
wait "$master"
