#!/usr/bin/env bash
# DuckDB, PyArrow and Spark SQL, which read what the tests write.
#
#   readers.sh read duckdb|spark|rows|files ARGUMENT...
#   readers.sh python ARGUMENT...
#   readers.sh fetch
#   readers.sh check
#
# `read` prints JSON, one line for each argument; see readers/read.py. `python` is
# the interpreter that has the packages. `check` writes a table, and each of the
# three has to find the same in it: Spark through a metastore of its own, the
# others in files and in an S3-compatible server.
#
# Environment: READERS_CACHE (packages), READERS_PYTHON (python3).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=readers.sh
. "$here/lib.sh"
python=${READERS_PYTHON:-python3}
cache=${READERS_CACHE:-$cache_root/readers}
home=
cmd=${1:-}; shift || true

install() { # TMP
  "$python" -m venv "$1" || die "python3 without venv: install it (python3-venv)"
  "$1/bin/python" -m pip install -q --disable-pip-version-check --no-input -r "$here/readers/requirements.txt"
  "$1/bin/python" -m compileall -q "$1/lib" >/dev/null || true
}

# Installs the packages once for each list of them and each Python.
fetch() {
  need "$python"
  home=$cache/$(sum "$here/readers/requirements.txt")-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  once "$home" "$cache" install
}

check() {
  need java
  fetch
  "$here/with-metastore" "$here/with-s3" "$home/bin/python" "$here/readers/check.py"
}

case $cmd in
  fetch|check) "$cmd" ;;
  python) fetch; exec "$home/bin/python" "$@" ;;
  read) fetch; exec "$home/bin/python" "$here/readers/read.py" "$@" ;;
  *) usage ;;
esac
