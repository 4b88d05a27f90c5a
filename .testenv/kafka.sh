#!/usr/bin/env bash
# Apache Kafka (KRaft, combined broker+controller) on loopback, from Maven jars.
#
#   kafka.sh start  [--port N] [--brokers N] [--data DIR] [--secure PEM] [--proxied] [--set key=value]...
#   kafka.sh stop   [--data DIR] [--broker ID] [--kill]
#   kafka.sh status [--data DIR]
#   kafka.sh fetch
#   kafka.sh check
#
# Broker i listens on PORT+i-1 (PORT: 19092), its controller on PORT+10+i-1;
# --port 0 picks a free range. `start` prints the bootstrap list once every
# broker serves requests. It leaves running brokers alone, so it also revives
# single ones stopped with --broker. A --set holds for the brokers that this
# call starts. `stop` keeps the data; remove DIR for a fresh cluster. DIR belongs
# to one cluster, whose ports and size stay: use one per parallel cluster.
# --secure adds a listener at PORT+20+i-1 that wants TLS, with the key and the
# certificates of the file PEM, and SASL: PLAIN for alice (password of-alice),
# SCRAM for whom is created by the plain listener. `check` starts a broker of its
# own, writes in transactions, kills it, and wants to read what was committed.
# --proxied adds a listener at PORT+30+i-1 that tells its clients to come to PORT+40+i-1:
# there is a proxy of the caller's, to the former. Brokers among themselves go around it.
# --secure and --proxied, too, hold for the brokers that this call starts.
#
# Environment: KAFKA_VERSION, KAFKA_HEAP (per broker), KAFKA_CACHE (jars),
# KAFKA_DATA (default of --data), KAFKA_START_TIMEOUT (seconds).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KAFKA_VERSION:-4.1.2}
heap=${KAFKA_HEAP:-512m}
cache=${KAFKA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keystone-testenv/kafka-$version}
data=${KAFKA_DATA:-${XDG_STATE_HOME:-$HOME/.local/state}/keystone-testenv/kafka}
timeout=${KAFKA_START_TIMEOUT:-180}
cluster_id=a2V5c3RvbmUtdGVzdGVudg
port= brokers= only= secure= proxied= signal=TERM jars=
sets=()

die() { echo "kafka.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

cmd=${1:-}; shift || true
while [ $# -gt 0 ]; do
  case $1 in
    --port) port=$2; shift 2 ;;
    --brokers) brokers=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --secure) secure=$2; shift 2 ;;
    --proxied) proxied=yes; shift ;;
    --set) sets+=("$2"); shift 2 ;;
    --broker) only=$2; shift 2 ;;
    --kill) signal=KILL; shift ;;
    *) usage ;;
  esac
done

# Fetches the jars once, into a folder named after the pom, so that a changed
# pom leaves running brokers their jars; safe to run in parallel.
fetch() {
  jars=$cache/$(cksum <"$here/kafka/pom.xml" | cut -d' ' -f1)
  [ -d "$jars" ] && return
  mkdir -p "$cache"
  (
    flock 9
    [ -d "$jars" ] && exit
    rm -rf "$cache/tmp"
    for tool in java mvn; do
      command -v "$tool" >/dev/null || die "$tool is missing"
    done
    mvn -q -B -Dstyle.color=never -f "$here/kafka/pom.xml" -Dkafka.version="$version" \
      dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/tmp" >&2
    mv "$cache/tmp" "$jars"
  ) 9>"$cache/.lock"
}

# pid_of ID: the running broker's pid; nothing if the pid file is stale.
pid_of() {
  local pid
  pid=$(cat "$data/$1/pid" 2>/dev/null) || return 1
  [[ "$(ps -o args= -p "$pid" 2>/dev/null)" == *"-Dtestenv.dir=$data/$1 "* ]] || return 1
  echo "$pid"
}

listening() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A base port whose whole range (brokers, controllers, other listeners, proxies) is free now.
free_base() {
  local base i
  for _ in $(seq 100); do
    base=$((20000 + RANDOM % 10000))
    for i in $(seq 0 48); do listening $((base + i)) && continue 2; done
    echo "$base"; return
  done
  die "no free ports"
}

write_config() { # ID
  local id=$1 dir=$data/$1 i voters= rf min
  local listeners advertised protocols=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
  listeners=PLAINTEXT://127.0.0.1:$((port + id - 1)),CONTROLLER://127.0.0.1:$((port + 9 + id))
  advertised=PLAINTEXT://127.0.0.1:$((port + id - 1))
  if [ -n "$secure" ]; then
    listeners+=,SECURE://127.0.0.1:$((port + 19 + id))
    advertised+=,SECURE://127.0.0.1:$((port + 19 + id))
    protocols+=,SECURE:SASL_SSL
  fi
  if [ -n "$proxied" ]; then
    listeners+=,PROXIED://127.0.0.1:$((port + 29 + id))
    advertised+=,PROXIED://127.0.0.1:$((port + 39 + id))
    protocols+=,PROXIED:PLAINTEXT
  fi
  for i in $(seq "$brokers"); do voters+=${voters:+,}$i@127.0.0.1:$((port + 9 + i)); done
  rf=$((brokers < 3 ? brokers : 3)); min=$((rf < 3 ? 1 : 2))
  mkdir -p "$dir"
  {
    cat <<EOF
process.roles=broker,controller
node.id=$id
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=$protocols
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/log
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=$rf
min.insync.replicas=$min
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$rf
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$rf
transaction.state.log.min.isr=$min
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=$rf
share.coordinator.state.topic.min.isr=$min
group.initial.rebalance.delay.ms=${KEYSTONE_TEST_REBALANCE_DELAY:-0}
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
EOF
    [ -z "$secure" ] || cat <<EOF
ssl.keystore.type=PEM
ssl.keystore.location=$secure
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="of-alice";
listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
EOF
    [ ${#sets[@]} -eq 0 ] || printf '%s\n' "${sets[@]}"
  } >"$dir/server.properties"
  cat >"$dir/log4j2.properties" <<'EOF'
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
EOF
}

start_one() { # ID
  local dir=$data/$1
  write_config "$1"
  : >"$dir/server.out"
  if [ ! -f "$dir/log/meta.properties" ]; then
    java -Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.level=WARN -cp "$jars/*" \
      kafka.tools.StorageTool format -t "$cluster_id" -c "$dir/server.properties" \
      --ignore-formatted >"$dir/format.out" 2>&1 || { cat "$dir/format.out" >&2; die "format failed"; }
  fi
  setsid nohup java -Xms"$heap" -Xmx"$heap" -XX:+UseSerialGC -Djava.awt.headless=true \
    -Dtestenv.dir="$dir" -Dlog4j2.configurationFile="$dir/log4j2.properties" \
    -cp "$jars/*" kafka.Kafka "$dir/server.properties" \
    >>"$dir/server.out" 2>&1 </dev/null &
  echo $! >"$dir/pid"
}

await_one() { # ID
  local pid until=$((SECONDS + timeout))
  pid=$(cat "$data/$1/pid")
  until grep -q 'Kafka Server started' "$data/$1/server.out" && listening $((port + $1 - 1)); do
    kill -0 "$pid" 2>/dev/null || { tail -n 30 "$data/$1/server.out" >&2; die "broker $1 died"; }
    [ $SECONDS -lt $until ] || { tail -n 30 "$data/$1/server.out" >&2; die "broker $1: not up in ${timeout}s"; }
    sleep 0.1
  done
}

start() {
  local i started=()
  mkdir -p "$data"; data=$(cd "$data" && pwd)
  # The layout of an existing cluster is fixed.
  if [ -f "$data/cluster" ]; then
    read -r p b <"$data/cluster"
    [ -z "$brokers" ] || [ "$brokers" = "$b" ] || die "$data holds a cluster of $b brokers; use another --data"
    [ -z "$port" ] || [ "$port" = 0 ] || [ "$port" = "$p" ] || die "$data holds a cluster at port $p; use another --data"
    port=$p brokers=$b
  else
    brokers=${brokers:-1} port=${port:-19092}
    { [ "$brokers" -ge 1 ] && [ "$brokers" -le 9 ]; } || die "--brokers must be 1 to 9"
    [ "$port" != 0 ] || port=$(free_base)
  fi
  for i in $(seq "$brokers"); do
    pid_of "$i" >/dev/null && continue
    ! listening $((port + i - 1)) || die "port $((port + i - 1)) is in use"
  done
  fetch
  # Each cluster has an id of its own, as clusters have.
  [ -f "$data/cluster" ] || echo "k$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c2-22)" >"$data/cluster.id"
  [ ! -f "$data/cluster.id" ] || read -r cluster_id <"$data/cluster.id"
  echo "$port $brokers" >"$data/cluster"
  for i in $(seq "$brokers"); do
    if [ -n "$only" ] && [ "$only" != "$i" ]; then continue; fi
    pid_of "$i" >/dev/null && continue
    start_one "$i"; started+=("$i")
  done
  for i in ${started[@]+"${started[@]}"}; do await_one "$i"; done
  bootstrap
}

bootstrap() {
  local i out=
  for i in $(seq "$brokers"); do out+=${out:+,}127.0.0.1:$((port + i - 1)); done
  echo "$out"
}

stop() {
  local i pid pids=() until
  [ -f "$data/cluster" ] || return 0
  data=$(cd "$data" && pwd); read -r port brokers <"$data/cluster"
  for i in $(seq "$brokers"); do
    if [ -n "$only" ] && [ "$only" != "$i" ]; then continue; fi
    pid=$(pid_of "$i") || continue
    kill -s "$signal" "$pid"; pids+=("$i")
  done
  # Together the brokers cannot hand over to each other, so some need a KILL.
  until=$((SECONDS + 15))
  for i in ${pids[@]+"${pids[@]}"}; do
    # A killed JVM can keep its port a moment longer than its command line.
    while pid=$(pid_of "$i") || listening $((port + i - 1)); do
      if [ $SECONDS -ge $until ] && [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null || true; fi
      [ $SECONDS -lt $((until + 15)) ] || die "broker $i: port $((port + i - 1)) still in use"
      sleep 0.1
    done
    rm -f "$data/$i/pid"
  done
}

status() {
  local i pid up=0
  [ -f "$data/cluster" ] || { echo "no cluster in $data"; return 3; }
  data=$(cd "$data" && pwd); read -r port brokers <"$data/cluster"
  for i in $(seq "$brokers"); do
    if pid=$(pid_of "$i") && listening $((port + i - 1)); then
      up=$((up + 1)); echo "broker $i: up, pid $pid, 127.0.0.1:$((port + i - 1))"
    else
      echo "broker $i: down"
    fi
  done
  [ "$up" = "$brokers" ] || return 3
}

check() {
  local list
  data=$(mktemp -d)
  trap 'signal=KILL only=; stop; rm -rf "$data"' EXIT
  brokers=1 port=0
  list=$(start)
  fetch
  client() {
    java -Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.level=WARN -cp "$jars/*" \
      "$here/kafka/KafkaCheck.java" "$list" "$1" >"$data/check.out" 2>&1 || { cat "$data/check.out" >&2; die "check failed"; }
  }
  client write
  (signal=KILL; stop)
  [ "$(brokers= port=; start)" = "$list" ] || die "another address after a restart"
  client read
  echo "kafka $version: ok"
}

case $cmd in
  start|stop|status|fetch|check) "$cmd" ;;
  *) usage ;;
esac
