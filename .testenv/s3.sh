#!/usr/bin/env bash
# A real S3-compatible server on loopback: the Versity gateway over a folder.
#
#   s3.sh start  [--port N] [--data DIR] [--set key=value]...
#   s3.sh stop   [--data DIR] [--kill]
#   s3.sh status [--data DIR]
#   s3.sh fetch
#   s3.sh check
#
# `start` prints the endpoint once the server takes connections, and does nothing
# if it runs already. The port is 19000, or the one that DIR had; with --port 0
# the system picks it. The access key is `testenv`, its secret
# `of-testenv-alone`, the region us-east-1. There is one bucket, `testenv`, whose
# objects are files in DIR/root/testenv; DIR has to be on a file system with
# extended attributes. A --set is a global option of the gateway: readonly=true.
# `stop` keeps the data; remove DIR for an empty server. `check` starts one of its
# own and wants that of many writers of one object that must not exist one wins,
# also where an object comes in parts.
#
# Environment: S3_VERSION, S3_CACHE (binary), S3_DATA (default of --data),
# S3_START_TIMEOUT (seconds).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=s3.sh
. "$here/lib.sh"
version=${S3_VERSION:-v1.8.0}
cache=${S3_CACHE:-$cache_root/versitygw}
data=${S3_DATA:-$state_root/s3}
timeout=${S3_START_TIMEOUT:-180}
port= signal=TERM home=
sets=()

cmd=${1:-}; shift || true
while [ $# -gt 0 ]; do
  case $1 in
    --port) port=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --set) sets+=("--$2"); shift 2 ;;
    --kill) signal=KILL; shift ;;
    *) usage ;;
  esac
done

install() { # TMP
  need go
  (cd "$1" && GOBIN=$1 CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' github.com/versity/versitygw/cmd/versitygw@"$version")
}

# Builds the gateway once for each version.
fetch() {
  home=$cache/$version
  once "$home" "$cache" install
}

start() {
  local p=
  mkdir -p "$data/root/testenv"; data=$(cd "$data" && pwd)
  [ ! -f "$data/ports" ] || read -r p <"$data/ports"
  if pid_of "$data" >/dev/null; then
    [ -z "$port" ] || [ "$port" = 0 ] || [ "$port" = "$p" ] || die "runs at port $p already; use another --data"
    echo "http://127.0.0.1:$p"; return
  fi
  port=${port:-${p:-19000}}
  [ "$port" = 0 ] || ! listening "$port" || die "port $port is in use"
  fetch
  ROOT_ACCESS_KEY=testenv ROOT_SECRET_KEY=of-testenv-alone GOMEMLIMIT=256MiB \
    launch "$data" "$home/versitygw" --port 127.0.0.1:"$port" --region us-east-1 --keep-alive \
    ${sets[@]+"${sets[@]}"} posix "$data/root"
  await_ready "$data" bound_port "$data"
  read -r p <"$data/ports"
  echo "http://127.0.0.1:$p"
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
    echo "up, pid $pid, http://127.0.0.1:$p"
  else
    echo "down"; return 3
  fi
}

check() {
  local url i got want id writers=()
  need curl
  data=$(mktemp -d)
  trap 'signal=KILL; stop; rm -rf "$data"' EXIT
  port=0
  url=$(start)
  curl_s3() { # METHOD PATH [curl options]
    local method=$1 path=$2
    shift 2
    curl -s --aws-sigv4 aws:amz:us-east-1:s3 --user testenv:of-testenv-alone \
      -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' \
      -X "$method" "$url/$path" "$@"
  }
  send() { curl_s3 "$@" -o /dev/null -w '%{http_code}\n'; } # prints the status
  expect() { # STATUS METHOD PATH [curl options]
    local want=$1
    shift
    got=$(send "$@")
    [ "$got" = "$want" ] || { tail -n 5 "$data/server.out" >&2; die "$1 $2: status $got, want $want"; }
  }
  expect 404 GET testenv/a
  expect 200 PUT testenv/a --data-binary one -H 'If-None-Match: *'
  expect 412 PUT testenv/a --data-binary two -H 'If-None-Match: *'
  [ "$(cat "$data/root/testenv/a")" = one ] || die "a conditional put has overwritten an object"
  expect 412 PUT testenv/a --data-binary two -H 'If-Match: "0"'
  expect 200 PUT testenv/a --data-binary two
  for i in $(seq 20); do
    send PUT testenv/b --data-binary "writer $i" -H 'If-None-Match: *' >"$data/got.$i" &
    writers+=($!)
  done
  wait "${writers[@]}"
  got=$(sort "$data"/got.* | uniq -c | xargs)
  [ "$got" = "1 200 19 412" ] || die "20 conditional puts at a time: $got, want 1 200 19 412"
  want=$(cat "$data/root/testenv/b")
  for i in 200 412; do
    id=$(curl_s3 POST 'testenv/parts?uploads=' -d '' | sed -n 's/.*<UploadId>\(.*\)<\/UploadId>.*/\1/p')
    expect 200 PUT "testenv/parts?partNumber=1&uploadId=$id" --data-binary part
    expect "$i" POST "testenv/parts?uploadId=$id" -H 'If-None-Match: *' -H 'Content-Type: application/xml' \
      -d "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>$(printf part | md5sum | cut -d' ' -f1)</ETag></Part></CompleteMultipartUpload>"
  done
  (signal=KILL; stop)
  port=
  [ "$(start)" = "$url" ] || die "another address after a restart"
  expect 412 PUT testenv/b --data-binary late -H 'If-None-Match: *'
  [ "$(cat "$data/root/testenv/b")" = "$want" ] || die "an object changed"
  expect 403 GET testenv/a --user testenv:of-nobody
  expect 204 DELETE testenv/a
  expect 404 GET testenv/a
  echo "versitygw $version: ok"
}

case $cmd in
  start|stop|status|fetch|check) "$cmd" ;;
  *) usage ;;
esac
