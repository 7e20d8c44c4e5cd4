#!/bin/sh
# Runs Redis, and hands it its certificate again when the mounted Secret has a new one: Redis reads it only when told.
set -eu
certificate=/run/cloister/tls/tls.crt
key=/run/cloister/tls/tls.key
stamp() { cat "$certificate" "$key" 2>/dev/null | sha256sum; }

redis-server /run/cloister/config/redis.conf &
server=$!
trap 'kill -TERM "$server"; wait "$server"; exit $?' TERM INT
[ -f "$certificate" ] || { wait "$server"; exit $?; }

seen=$(stamp)
while kill -0 "$server" 2>/dev/null; do
  sleep 10 & wait $!
  now=$(stamp)
  [ "$now" = "$seen" ] && continue
  REDISCLI_AUTH=$(cat /run/cloister/secrets/watch-password) redis-cli --no-auth-warning --user watch --tls \
    --cacert /run/cloister/secrets/redis-ca.crt -h localhost \
    config set tls-cert-file "$certificate" tls-key-file "$key" && seen=$now
done
wait "$server"
