#!/usr/bin/env bash
# A real Hive Metastore (Thrift, embedded Derby) on loopback, from Maven jars.
#
#   hive-metastore.sh start  [--port N] [--data DIR] [--set key=value]...
#   hive-metastore.sh stop   [--data DIR] [--kill]
#   hive-metastore.sh status [--data DIR]
#   hive-metastore.sh fetch
#   hive-metastore.sh check
#
# `start` prints the Thrift address once the server takes connections, and does
# nothing if it runs already. The port is 19083, or the one that DIR had; with
# --port 0 the system picks it. `stop` keeps the data; remove DIR for an empty
# metastore. DIR belongs to one server and holds its database and, in
# DIR/warehouse, what is in managed tables and in databases without a location.
# `check` starts one of its own, kills it, and wants what it said to be there.
#
# Environment: HIVE_VERSION, HIVE_HEAP, HIVE_CACHE (jars), HIVE_DATA (default of
# --data), HIVE_START_TIMEOUT (seconds).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=hive-metastore.sh
. "$here/lib.sh"
version=${HIVE_VERSION:-3.1.3}
heap=${HIVE_HEAP:-256m}
cache=${HIVE_CACHE:-$cache_root/hive-metastore-$version}
data=${HIVE_DATA:-$state_root/hive-metastore}
timeout=${HIVE_START_TIMEOUT:-180}
port= signal=TERM home=
sets=()

cmd=${1:-}; shift || true
while [ $# -gt 0 ]; do
  case $1 in
    --port) port=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --set) sets+=("$2"); shift 2 ;;
    --kill) signal=KILL; shift ;;
    *) usage ;;
  esac
done

install() { # TMP
  local src=$here/hive-metastore
  need java javac mvn
  mvn -q -B -Dstyle.color=never -f "$src/pom.xml" -Dhive.version="$version" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/lib"
  javac -nowarn -proc:none -cp "$1/lib/*" -d "$1/classes" "$src"/*.java
}

# Fetches the jars once, into a folder named after the sources, so that a change
# leaves a running server its jars.
fetch() {
  home=$cache/$(sum "$here/hive-metastore"/*)
  once "$home" "$cache" install
}

start() {
  local p=
  mkdir -p "$data"; data=$(cd "$data" && pwd)
  [ ! -f "$data/ports" ] || read -r p <"$data/ports"
  if pid_of "$data" >/dev/null; then
    [ -z "$port" ] || [ "$port" = 0 ] || [ "$port" = "$p" ] || die "runs at port $p already; use another --data"
    echo "thrift://127.0.0.1:$p"; return
  fi
  port=${port:-${p:-19083}}
  [ "$port" = 0 ] || ! listening "$port" || die "port $port is in use"
  fetch
  # A first start that was cut off leaves half a schema.
  [ -f "$data/schema-made" ] || rm -rf "$data/db"
  log4j2 "$data/log4j2.properties" WARN
  cat >>"$data/log4j2.properties" <<'EOT'
logger.datanucleus.name = DataNucleus
logger.datanucleus.level = ERROR
EOT
  launch "$data" java -Xmx"$heap" -XX:+UseSerialGC -Djava.awt.headless=true \
    -Dtestenv.dir="$data" -Dlog4j2.configurationFile="$data/log4j2.properties" \
    -Dderby.stream.error.file="$data/derby.log" \
    -cp "$home/classes:$home/lib/*" org.apache.hadoop.hive.metastore.HmsServer \
    "$data" "$port" ${sets[@]+"${sets[@]}"}
  await_ready "$data" said_ready "$data"
  read -r p <"$data/ports"
  echo "thrift://127.0.0.1:$p"
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
    echo "up, pid $pid, thrift://127.0.0.1:$p"
  else
    echo "down"; return 3
  fi
}

check() {
  local addr
  data=$(mktemp -d)
  trap 'signal=KILL; stop; rm -rf "$data"' EXIT
  fetch
  client() {
    java -Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.level=WARN -cp "$home/classes:$home/lib/*" \
      org.apache.hadoop.hive.metastore.HmsCheck "$@" 2>"$data/check.out" || { cat "$data/check.out" >&2; die "check failed"; }
  }
  port=0
  addr=$(start)
  client "$addr" create "$data/warehouse/check.db"
  (signal=KILL; stop)
  port=
  [ "$(start)" = "$addr" ] || die "another address after a restart"
  client "$addr" read "$data/warehouse/check.db"
  echo "hive-metastore $version: ok"
}

case $cmd in
  start|stop|status|fetch|check) "$cmd" ;;
  *) usage ;;
esac
