#!/usr/bin/env bash
# An emulator of Google Cloud Storage on loopback: fake-gcs-server over a folder.
#
#   gcs.sh start  [--port N] [--data DIR]
#   gcs.sh stop   [--data DIR] [--kill]
#   gcs.sh status [--data DIR]
#   gcs.sh fetch
#   gcs.sh check
#
# `start` prints HOST:PORT once the server takes connections, and does nothing if it
# runs already: what Google's own clients want in STORAGE_EMULATOR_HOST. The port is
# 19100, or the one that DIR had; with --port 0 the system picks it. There is one
# bucket, `testenv`, whose objects are files in DIR/root/testenv. Whoever asks may do
# all: credentials are not looked at. `stop` keeps the data; remove DIR for an empty
# server. `check` starts one of its own and wants that of many writers of one object
# that must not exist one wins.
#
# Environment: GCS_VERSION, GCS_CACHE (binary), GCS_DATA (default of --data),
# GCS_START_TIMEOUT (seconds).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=gcs.sh
. "$here/lib.sh"
version=${GCS_VERSION:-v1.56.1}
cache=${GCS_CACHE:-$cache_root/fake-gcs-server}
data=${GCS_DATA:-$state_root/gcs}
timeout=${GCS_START_TIMEOUT:-180}
port= signal=TERM home=

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
  need go
  (cd "$1" && GOBIN=$1 CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' github.com/fsouza/fake-gcs-server@"$version")
}

# Builds the server once for each version.
fetch() {
  home=$cache/$version
  once "$home" "$cache" install
}

start() {
  local p=
  need curl
  mkdir -p "$data/root/testenv"; data=$(cd "$data" && pwd)
  [ ! -f "$data/ports" ] || read -r p <"$data/ports"
  if pid_of "$data" >/dev/null; then
    [ -z "$port" ] || [ "$port" = 0 ] || [ "$port" = "$p" ] || die "runs at port $p already; use another --data"
    echo "127.0.0.1:$p"; return
  fi
  port=${port:-${p:-19100}}
  [ "$port" = 0 ] || ! listening "$port" || die "port $port is in use"
  fetch
  GOMEMLIMIT=256MiB launch "$data" "$home/fake-gcs-server" -backend filesystem -filesystem-root "$data/root" \
    -scheme http -host 127.0.0.1 -port "$port" -public-host 127.0.0.1 -log-level warn
  await_ready "$data" bound_port "$data"
  read -r p <"$data/ports"
  # Where clients send the parts of a large object; it does not know a port that the system picked.
  curl -sf -o /dev/null -X PUT "http://127.0.0.1:$p/_internal/config" -d "{\"externalUrl\": \"http://127.0.0.1:$p\"}" ||
    die "it does not take its address"
  echo "127.0.0.1:$p"
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
  local host i got want writers=()
  data=$(mktemp -d)
  trap 'signal=KILL; stop; rm -rf "$data"' EXIT
  port=0
  host=$(start)
  send() { # METHOD PATH [curl options]: prints the status
    local method=$1 path=$2
    shift 2
    curl -s -o /dev/null -w '%{http_code}\n' -X "$method" "http://$host/$path" "$@"
  }
  expect() { # STATUS METHOD PATH [curl options]
    local want=$1
    shift
    got=$(send "$@")
    [ "$got" = "$want" ] || { tail -n 5 "$data/server.out" >&2; die "$1 $2: status $got, want $want"; }
  }
  upload='upload/storage/v1/b/testenv/o?uploadType=media'
  expect 404 GET storage/v1/b/testenv/o/a
  expect 200 POST "$upload&name=a&ifGenerationMatch=0" --data-binary one
  expect 412 POST "$upload&name=a&ifGenerationMatch=0" --data-binary two
  [ "$(cat "$data/root/testenv/a")" = one ] || die "a conditional put has overwritten an object"
  expect 200 POST "$upload&name=a" --data-binary two
  for i in $(seq 20); do
    send POST "$upload&name=b&ifGenerationMatch=0" --data-binary "writer $i" >"$data/got.$i" &
    writers+=($!)
  done
  wait "${writers[@]}"
  got=$(sort "$data"/got.* | uniq -c | xargs)
  [ "$got" = "1 200 19 412" ] || die "20 conditional puts at a time: $got, want 1 200 19 412"
  want=$(cat "$data/root/testenv/b")
  (signal=KILL; stop)
  port=
  [ "$(start)" = "$host" ] || die "another address after a restart"
  expect 412 POST "$upload&name=b&ifGenerationMatch=0" --data-binary late
  [ "$(curl -s "http://$host/storage/v1/b/testenv/o/b?alt=media")" = "$want" ] || die "an object changed"
  expect 200 DELETE storage/v1/b/testenv/o/a
  expect 404 GET storage/v1/b/testenv/o/a
  echo "fake-gcs-server $version: ok"
}

case $cmd in
  start|stop|status|fetch|check) "$cmd" ;;
  *) usage ;;
esac
