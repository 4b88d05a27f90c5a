#!/usr/bin/env bash
# A real Elasticsearch on loopback, from Maven jars: the server and its HTTP
# module, so no security, painless, data streams, lifecycle policies or ingest.
#
#   elasticsearch.sh start  [--nodes N] [--port N] [--data DIR] [--node ID] [--set key=value]...
#   elasticsearch.sh stop   [--data DIR] [--node ID] [--kill]
#   elasticsearch.sh status [--data DIR]
#   elasticsearch.sh fetch
#   elasticsearch.sh check
#
# Node i serves HTTP on PORT+i-1 (PORT: 19200); with --port 0 the system picks
# each port. `start` prints the nodes' URLs, with commas between, once all serve
# requests. It leaves running nodes alone, so it also revives single ones stopped
# with --node. A --set holds for the nodes that this call starts. `stop` keeps
# the data; remove DIR for an empty cluster. DIR belongs to one cluster, whose
# ports and size stay. Without its first node a cluster of two has no master;
# one of three survives the loss of any. `check` starts a cluster of its own,
# writes, loses a node, and reads.
#
# Environment: ELASTICSEARCH_VERSION, ELASTICSEARCH_HEAP (per node),
# ELASTICSEARCH_CACHE (jars), ELASTICSEARCH_DATA (default of --data),
# ELASTICSEARCH_START_TIMEOUT (seconds).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=elasticsearch.sh
. "$here/lib.sh"
version=${ELASTICSEARCH_VERSION:-8.19.0}
heap=${ELASTICSEARCH_HEAP:-512m}
cache=${ELASTICSEARCH_CACHE:-$cache_root/elasticsearch-$version}
data=${ELASTICSEARCH_DATA:-$state_root/elasticsearch}
timeout=${ELASTICSEARCH_START_TIMEOUT:-180}
port= nodes= only= signal=TERM home=
# This collector frees nothing before it must, so what is in the heap says nothing about what is used.
sets=(indices.breaker.total.use_real_memory=false)

cmd=${1:-}; shift || true
while [ $# -gt 0 ]; do
  case $1 in
    --nodes) nodes=$2; shift 2 ;;
    --port) port=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --node) only=$2; shift 2 ;;
    --set) sets+=("$2"); shift 2 ;;
    --kill) signal=KILL; shift ;;
    *) usage ;;
  esac
done

# A module is a folder of jars with a descriptor, in its own class loader.
descriptor() { # NAME CLASS
  printf '%s\n' "description=$1" "name=$1" "classname=$2" "version=$version" \
    "elasticsearch.version=$version" "java.version=17" >"modules/$1/plugin-descriptor.properties"
}

install() { # TMP
  local src=$here/elasticsearch
  need java javac jar mvn
  mvn -q -B -Dstyle.color=never -f "$src/pom.xml" -Delasticsearch.version="$version" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/lib"
  cd "$1"
  mkdir -p modules/transport-netty4 modules/testenv-root classes/server classes/root
  mv lib/netty-*.jar lib/transport-netty4-*.jar modules/transport-netty4/
  javac -nowarn -proc:none -cp "lib/*" -d classes/server "$src/EsServer.java"
  javac -nowarn -proc:none -cp "lib/*" -d classes/root "$src/EsRootPlugin.java"
  jar cf modules/testenv-root/testenv-root.jar -C classes/root .
  descriptor transport-netty4 org.elasticsearch.transport.netty4.Netty4Plugin
  descriptor testenv-root testenv.EsRootPlugin
}

# Fetches the jars once and lays them out, in a folder named after the sources,
# so that a change leaves running nodes their jars.
fetch() {
  home=$cache/$(sum "$here/elasticsearch"/*)
  once "$home" "$cache" install
}

start_one() { # ID
  local dir=$data/$1 http=0 transport=0 i p seeds= settings=()
  [ "$port" = 0 ] || http=$((port + $1 - 1))
  [ ! -f "$dir/ports" ] || read -r http transport <"$dir/ports"
  [ "$http" = 0 ] || ! listening "$http" || die "port $http is in use"
  if [ "$nodes" = 1 ]; then
    settings+=(discovery.type=single-node)
  else
    for i in $(seq "$nodes"); do
      [ "$i" != "$1" ] && read -r _ p <"$data/$i/ports" && seeds+=${seeds:+,}127.0.0.1:$p
    done 2>/dev/null
    settings+=("discovery.seed_hosts=$seeds")
    # The first node is a cluster by itself, which the others join.
    [ "$1" != 1 ] || settings+=(cluster.initial_master_nodes=node-1)
  fi
  mkdir -p "$dir/config"
  log4j2 "$dir/log4j2.properties" INFO
  launch "$dir" java -Xms"$heap" -Xmx"$heap" -XX:+UseSerialGC -Djava.awt.headless=true \
    -Dtestenv.dir="$dir" -Dlog4j2.configurationFile="$dir/log4j2.properties" \
    -Dio.netty.noUnsafe=true -Dio.netty.noKeySetOptimization=true \
    --add-opens=java.base/java.io=ALL-UNNAMED \
    -cp "$home/classes/server:$home/lib/*" org.elasticsearch.node.EsServer "$home" "$dir" \
    node.name=node-"$1" http.port="$http" transport.port="$transport" \
    "${settings[@]}" ${sets[@]+"${sets[@]}"}
}

start() {
  local i p n started=()
  mkdir -p "$data"; data=$(cd "$data" && pwd)
  # The layout of an existing cluster is fixed.
  if [ -f "$data/cluster" ]; then
    read -r p n <"$data/cluster"
    [ -z "$nodes" ] || [ "$nodes" = "$n" ] || die "$data holds a cluster of $n nodes; use another --data"
    [ -z "$port" ] || [ "$port" = "$p" ] || die "$data holds a cluster at port $p; use another --data"
    port=$p nodes=$n
  else
    nodes=${nodes:-1} port=${port:-19200}
    { [ "$nodes" -ge 1 ] && [ "$nodes" -le 9 ]; } || die "--nodes must be 1 to 9"
  fi
  fetch
  echo "$port $nodes" >"$data/cluster"
  for i in $(seq "$nodes"); do
    if [ -n "$only" ] && [ "$only" != "$i" ]; then continue; fi
    pid_of "$data/$i" >/dev/null && continue
    start_one "$i"
    # READY comes after the node has found a master and bound its HTTP port.
    # The others need the address of a new first node; known ones need each other.
    if [ "$i" = 1 ] && [ ! -f "$data/1/ports" ]; then await_ready "$data/1" said_ready "$data/1"; else started+=("$i"); fi
  done
  for i in ${started[@]+"${started[@]}"}; do await_ready "$data/$i" said_ready "$data/$i"; done
  urls
}

urls() {
  local i p out=
  for i in $(seq "$nodes"); do
    read -r p _ <"$data/$i/ports"
    out+=${out:+,}http://127.0.0.1:$p
  done
  echo "$out"
}

stop() {
  local i ended=()
  [ -f "$data/cluster" ] || return 0
  data=$(cd "$data" && pwd); read -r port nodes <"$data/cluster"
  for i in $(seq "$nodes"); do
    if [ -n "$only" ] && [ "$only" != "$i" ]; then continue; fi
    ! signal_to "$data/$i" || ended+=("$i")
  done
  for i in ${ended[@]+"${ended[@]}"}; do await_end "$data/$i"; done
}

status() {
  local i p pid up=0
  [ -f "$data/cluster" ] || { echo "no cluster in $data"; return 3; }
  data=$(cd "$data" && pwd); read -r port nodes <"$data/cluster"
  for i in $(seq "$nodes"); do
    if pid=$(pid_of "$data/$i") && read -r p _ <"$data/$i/ports" && listening "$p"; then
      up=$((up + 1)); echo "node $i: up, pid $pid, http://127.0.0.1:$p"
    else
      echo "node $i: down"
    fi
  done 2>/dev/null
  [ "$up" = "$nodes" ] || return 3
}

check() {
  local list url
  need curl
  data=$(mktemp -d)
  trap 'signal=KILL only=; stop; rm -rf "$data"' EXIT
  nodes=2 port=0
  list=$(start); url=${list%%,*}
  expect() { # STATUS METHOD PATH [BODY]
    local got
    got=$(curl -s -o "$data/answer" -w '%{http_code}' -X "$2" "$url$3" -H 'Content-Type: application/json' ${4+-d "$4"})
    [ "$got" = "$1" ] || die "$2 $3: status $got, want $1: $(cat "$data/answer")"
  }
  expect 200 GET /
  expect 200 GET '/_cluster/health?wait_for_nodes=2&timeout=30s'
  expect 200 PUT /check '{"settings":{"number_of_shards":1,"number_of_replicas":1},"mappings":{"properties":{"n":{"type":"long"}}}}'
  expect 200 GET '/_cluster/health/check?wait_for_status=green&timeout=30s'
  expect 201 PUT '/check/_doc/a?version=2&version_type=external' '{"n":1}'
  expect 409 PUT '/check/_doc/a?version=2&version_type=external' '{"n":1}'
  expect 400 PUT /check/_doc/b '{"n":"no number"}'
  (signal=KILL only=2; stop)
  expect 200 GET /check/_doc/a
  (nodes= port= only=2; start) >/dev/null
  url=${list##*,}
  expect 200 GET /check/_doc/a
  echo "elasticsearch $version: ok"
}

case $cmd in
  start|stop|status|fetch|check) "$cmd" ;;
  *) usage ;;
esac
