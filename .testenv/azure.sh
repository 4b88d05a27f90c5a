#!/usr/bin/env bash
# Microsoft's emulator of Azure Blob Storage on loopback: Azurite.
#
#   azure.sh start  [--port N] [--data DIR]
#   azure.sh stop   [--data DIR] [--kill]
#   azure.sh status [--data DIR]
#   azure.sh fetch
#   azure.sh check
#
# `start` prints HOST:PORT once the server takes connections, and does nothing if it
# runs already: what AZURE_STORAGE_DOMAIN wants. The port is 19200, or the one that
# DIR had; with --port 0 the system picks it. The account is `testenv`, its key the
# base64 of `of-testenv-alone`; there is one container, `testenv`. Signatures are
# checked. `stop` keeps the data; remove DIR for an empty server. `check` starts one
# of its own and wants that of many writers of one blob that must not exist one wins.
#
# Environment: AZURE_VERSION, AZURE_CACHE (packages), AZURE_DATA (default of --data),
# AZURE_START_TIMEOUT (seconds).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=azure.sh
. "$here/lib.sh"
version=${AZURE_VERSION:-3.37.0}
cache=${AZURE_CACHE:-$cache_root/azurite}
data=${AZURE_DATA:-$state_root/azure}
timeout=${AZURE_START_TIMEOUT:-180}
port= signal=TERM home=
account=testenv key=$(printf of-testenv-alone | base64)

cmd=${1:-}; shift || true
while [ $# -gt 0 ]; do
  case $1 in
    --port) port=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --kill) signal=KILL; shift ;;
    *) usage ;;
  esac
done

install() { # TMP
  need npm
  npm install --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error azurite@"$version"
}

# Fetches the packages once for each version.
fetch() {
  home=$cache/$version
  once "$home" "$cache" install
}

said_port() { sed -n 's,.*successfully listens on http://127.0.0.1:,,p' "$1/server.out" | grep .; }

ask() { node "$here/azure/ask.js" "$host" "$account" "$key" "$@"; }

start() {
  local p='' got
  need node
  mkdir -p "$data"; data=$(cd "$data" && pwd)
  [ ! -f "$data/ports" ] || read -r p <"$data/ports"
  if pid_of "$data" >/dev/null; then
    [ -z "$port" ] || [ "$port" = 0 ] || [ "$port" = "$p" ] || die "runs at port $p already; use another --data"
    echo "127.0.0.1:$p"; return
  fi
  port=${port:-${p:-19200}}
  [ "$port" = 0 ] || ! listening "$port" || die "port $port is in use"
  fetch
  AZURITE_ACCOUNTS=$account:$key launch "$data" node --max-old-space-size=256 "$home/node_modules/azurite/dist/src/blob/main.js" \
    --blobHost 127.0.0.1 --blobPort "$port" --location "$data" --disableTelemetry --skipApiVersionCheck
  await_ready "$data" said_port "$data"
  read -r p <"$data/ports"
  host=127.0.0.1:$p
  got=$(ask PUT 'testenv?restype=container')
  [ "$got" = 201 ] || [ "$got" = 409 ] || die "it does not make a container: status $got"
  echo "$host"
}

stop() {
  [ -d "$data" ] || return 0
  data=$(cd "$data" && pwd)
  ! signal_to "$data" || await_end "$data"
}

status() {
  local pid p
  [ ! -d "$data" ] || data=$(cd "$data" && pwd)
  if pid=$(pid_of "$data") && read -r p <"$data/ports" && listening "$p"; then
    echo "up, pid $pid, 127.0.0.1:$p"
  else
    echo "down"; return 3
  fi
}

check() {
  local i got want writers=()
  data=$(mktemp -d)
  trap 'signal=KILL; stop; rm -rf "$data"' EXIT
  port=0
  host=$(start)
  expect() { # ANSWER METHOD PATH [BODY [IF-NONE-MATCH]]
    local want=$1
    shift
    got=$(ask "$@")
    [ "$got" = "$want" ] || { tail -n 5 "$data/server.out" >&2; die "$1 $2: $got, want $want"; }
  }
  expect 404 GET testenv/a
  expect 201 PUT testenv/a one '*'
  expect 409 PUT testenv/a two '*'
  expect '200 one' GET testenv/a
  expect 201 PUT testenv/a two
  for i in $(seq 10); do
    ask PUT testenv/b "writer $i" '*' >"$data/got.$i" &
    writers+=($!)
  done
  wait "${writers[@]}"
  got=$(sort "$data"/got.* | uniq -c | xargs)
  [ "$got" = "1 201 9 409" ] || die "10 conditional puts at a time: $got, want 1 201 9 409"
  want=$(ask GET testenv/b)
  expect 201 PUT testenv/dt=a%253Ab escaped
  expect '200 escaped' GET testenv/dt=a%253Ab
  (stop)
  port=
  [ "$(start)" = "$host" ] || die "another address after a restart"
  expect 409 PUT testenv/b late '*'
  expect "$want" GET testenv/b
  (key=$(printf of-nobody | base64); expect 403 GET testenv/a)
  expect 202 DELETE testenv/a
  expect 404 GET testenv/a
  echo "azurite $version: ok"
}

case $cmd in
  start|stop|status|fetch|check) "$cmd" ;;
  *) usage ;;
esac
