#!/bin/sh
# Runs HAProxy, and has it load its certificate again when the mounted Secret has a new one.
set -eu
stamp() { cat /run/cloister/tls/tls.crt /run/cloister/tls/tls.key 2>/dev/null | sha256sum; }

haproxy -W -db -f /run/cloister/config/haproxy.cfg &
master=$!
trap 'kill -TERM "$master"; wait "$master"; exit 0' TERM INT

seen=$(stamp)
while kill -0 "$master" 2>/dev/null; do
  sleep 10 & wait $!
  now=$(stamp)
  [ "$now" = "$seen" ] && continue
  # Half a pair may be mounted for a moment: HAProxy keeps what it has unless the new configuration checks out.
  haproxy -c -q -f /run/cloister/config/haproxy.cfg && kill -USR2 "$master" && seen=$now
done
wait "$master"
