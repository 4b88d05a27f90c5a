#!/usr/bin/env bash
# Serves this example in a fresh folder, shows what it does, changes it while
# it runs, and stops. Everything happens on the embedded broker.
#
#   demo.sh KEYSTONE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
keystone=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill -INT "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
cp "$here"/*.ks.hcl "$work"
cd "$work"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

say '$ keystone validate'
"$keystone" validate

say '$ keystone serve &'
"$keystone" serve 2>serve.log &
server=$!
# status fails until the server listens.
for _ in $(seq 100); do
  if [ "$("$keystone" status -json 2>/dev/null | grep -o '"health": *"running"' | wc -l)" -ge 3 ]; then break; fi
  kill -0 "$server" 2>/dev/null || { cat serve.log >&2; exit 1; }
  sleep 0.1
done

sleep 2
say '$ keystone tap stream.tv_plays -limit 3'
"$keystone" tap stream.tv_plays -limit 3

say '$ keystone status'
"$keystone" status

say 'A new filter, while events flow: plan tells what it does to them, the server takes it over.'
sed -i.bak "s/\['BR', 'US'\]/['BR', 'US', 'JP']/" main.ks.hcl && rm main.ks.hcl.bak
"$keystone" plan || true
for _ in $(seq 100); do
  if "$keystone" status -json | grep -q '"serial": *2'; then break; fi
  sleep 0.1
done
say '$ keystone status'
"$keystone" status

kill -INT "$server"
wait "$server"
server=
say "Stopped. $(wc -l <out/plays.ndjson | tr -d ' ') events are in out/plays.ndjson; the first:"
head -n 1 out/plays.ndjson
