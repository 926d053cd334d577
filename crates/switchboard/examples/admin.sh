#!/bin/sh
# The admin API in curl: look around, make a room, say something to everybody in defaultRoom, and send them home.
#
#   ADMIN=http://127.0.0.1:9090 TOKEN=… sh crates/switchboard/examples/admin.sh
#
# A server made a token by itself if admin.token is not set: its log has it.
set -eu

: "${ADMIN:=http://127.0.0.1:9090}"
: "${TOKEN:?set it to the admin token of the server}"

# The token goes in through standard input: the command line of a process can be read by others.
ask() {
  method=$1 path=$2
  shift 2
  printf 'header = "Authorization: Bearer %s"\n' "$TOKEN" |
    curl --silent --show-error --fail-with-body --config - --request "$method" "$@" "$ADMIN$path"
  echo
}

send() {
  ask "$1" "$2" --header 'Content-Type: application/json' --data "$3"
}

echo "== is it ready?"
ask GET /readyz

echo "== figures"
ask GET /v1/node

echo "== a room that only those may join whose state says so"
send POST /v1/rooms '{"room":"staff only"}'
send PUT /v1/rooms/staff%20only/auth '{"key":"staff","value":true}'

echo "== who is in defaultRoom?"
room=$(ask GET /v1/rooms/defaultRoom)
echo "$room"

echo "== good evening, and good night"
send POST /v1/rooms/defaultRoom/broadcast '{"message":"good evening","from":"host"}'
for id in $(echo "$room" | grep -o '"id":"[^"]*"' | cut -d '"' -f 4); do
  ask DELETE "/v1/connections/$id"
done

echo "== cleaning up"
ask DELETE /v1/rooms/staff%20only
