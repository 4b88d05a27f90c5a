# Sourced by the recipes. A server has a folder of its own, with its pid, its
# ports and its output; its command line names the folder, by which a pid file
# that is stale is told from one that is not. Expects $me, $timeout, $signal.

cache_root=${XDG_CACHE_HOME:-$HOME/.cache}/keystone-testenv
state_root=${XDG_STATE_HOME:-$HOME/.local/state}/keystone-testenv

die() { echo "$me: $*" >&2; exit 1; }

# The comment at the head of the script, up to the first blank line.
usage() { sed -n '2,/^[^#]/{/^[^#]/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

need() { # TOOL... : what is missing, in one sentence
  local tool
  for tool; do
    command -v "$tool" >/dev/null || die "$tool is missing"
  done
}

# once DIR CACHE COMMAND... : runs `COMMAND... TMP`, which fills the folder TMP,
# unless DIR is there, and moves TMP to DIR; safe to run in parallel.
once() {
  local dir=$1 cache=$2
  shift 2
  [ -d "$dir" ] && return
  mkdir -p "$cache"
  (
    flock 9
    [ -d "$dir" ] && exit
    rm -rf "$cache/tmp"
    mkdir "$cache/tmp"
    "$@" "$cache/tmp" >&2
    mv "$cache/tmp" "$dir"
  ) 9>"$cache/.lock"
}

# sum FILE... : a name for what the files say.
sum() { cat "$@" | cksum | cut -d' ' -f1; }

# pid_of DIR: the running server's pid; nothing if the pid file is stale.
pid_of() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return 1
  [[ "$(ps -ww -o args= -p "$pid" 2>/dev/null) " =~ [=\ ]"$1"[/\ ] ]] || return 1
  echo "$pid"
}

listening() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# launch DIR COMMAND... : runs the command in the background, without the terminal.
launch() {
  local dir=$1
  shift
  : >"$dir/server.out"
  setsid nohup "$@" >>"$dir/server.out" 2>&1 </dev/null &
  echo $! >"$dir/pid"
}

# await_ready DIR CHECK... : waits until the check succeeds; its output is kept in DIR/ports.
await_ready() {
  local dir=$1 pid until=$((SECONDS + timeout))
  shift
  pid=$(cat "$dir/pid")
  until "$@" >"$dir/ports.new" 2>/dev/null; do
    kill -0 "$pid" 2>/dev/null || { tail -n 30 "$dir/server.out" >&2; die "$(basename "$dir"): the server died"; }
    [ $SECONDS -lt $until ] || { tail -n 30 "$dir/server.out" >&2; die "$(basename "$dir"): not up in ${timeout}s"; }
    sleep 0.1
  done
  mv "$dir/ports.new" "$dir/ports"
}

# said_ready DIR: the ports of the line "READY PORT..." of a server's output.
said_ready() { sed -n 's/^READY //p' "$1/server.out" | grep .; }

# signal_to DIR: asks a server to end; fails if none runs.
signal_to() {
  local pid
  pid=$(pid_of "$1") || return 1
  kill -s "$signal" "$pid"
}

# await_end DIR: waits for the end, with a KILL after 15 seconds.
await_end() {
  local dir=$1 pid port until=$((SECONDS + 15))
  port=$(cut -d' ' -f1 "$dir/ports" 2>/dev/null) || port=
  # A killed JVM can keep its port a moment longer than its command line.
  while pid=$(pid_of "$dir") || { [ -n "$port" ] && listening "$port"; }; do
    if [ $SECONDS -ge $until ] && [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    [ $SECONDS -lt $((until + 15)) ] || die "$(basename "$dir"): port $port still in use"
    sleep 0.1
  done
  rm -f "$dir/pid"
}

# log4j2 FILE LEVEL: a log that goes to the server's output.
log4j2() {
  cat >"$1" <<EOT
rootLogger.level = $2
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c{1})%n
EOT
}

# bound_port DIR: the port at which a server listens that does not tell it itself.
bound_port() {
  local pid fd inode line
  pid=$(cat "$1/pid")
  for fd in /proc/"$pid"/fd/*; do
    inode=$(readlink "$fd") || continue
    [[ $inode == socket:* ]] || continue
    inode=${inode//[^0-9]/}
    # Local address, state "listen", inode.
    while read -r -a line; do
      if [ "${line[3]}" = 0A ] && [ "${line[9]}" = "$inode" ]; then echo $((16#${line[1]#*:})); return; fi
    done </proc/"$pid"/net/tcp
  done
  return 1
}

# beside RECIPE: prepares a with-script: $data is the folder of its server, which
# ends with the script however that ends, as does the command that runs in it.
beside() {
  recipe=$here/$1
  data=$(mktemp -d)
  trap 'pkill -TERM -P $$ || true; "$recipe" stop --data "$data" || true; rm -rf "$data"' EXIT
}

# absent SERVER: it could not be had, which is an error unless with-all runs us.
absent() {
  [ -n "${KEYSTONE_TEST_OPTIONAL:-}" ] || exit 1
  echo "$me: no $1: the tests that need it are skipped" >&2
}
