#!/usr/bin/env bash
# Makes sure that programs are there: need.sh [--optional] PURPOSE PROGRAM=PACKAGE ...
# What is missing is installed with apt where that is allowed without a question; otherwise one sentence names the
# packages. A PROGRAM with a slash is run, and succeeds when what it looks for is there. With --optional a missing
# program is no error: its check is skipped later, and says so.
set -euo pipefail

required=1
if [[ $1 == --optional ]]; then
  required=0
  shift
fi
purpose=$1
shift

there() {
  case $1 in
    */*) "$1" >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Prints the packages of the programs that are not there.
missing() {
  local pair
  for pair in "$@"; do
    there "${pair%%=*}" || echo "${pair#*=}"
  done | sort -u
}

mapfile -t packages < <(missing "$@")
((${#packages[@]})) || exit 0

as_root=()
((EUID == 0)) || as_root=(sudo -n)
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
  echo "Installing for $purpose: ${packages[*]}"
  install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends)
  # The lists of a fresh image are empty or old: refresh them when the first try fails.
  "${install[@]}" "${packages[@]}" </dev/null >/dev/null 2>&1 ||
    { "${as_root[@]}" apt-get -qq update </dev/null && "${install[@]}" "${packages[@]}" </dev/null >/dev/null; } || true
fi

mapfile -t packages < <(missing "$@")
((${#packages[@]})) || exit 0
if ((required)); then
  echo "Missing for $purpose: install these packages (Debian names) and try again: ${packages[*]}" >&2
  exit 1
fi
echo "Not installed, so some of $purpose will be skipped (Debian packages): ${packages[*]}"
