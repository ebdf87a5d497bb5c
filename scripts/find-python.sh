#!/usr/bin/env bash
# Prints the interpreter that make setup builds .venv with: Python 3.11 to 3.13 with the venv module.
# $PYTHON, where set, is the only candidate.
set -euo pipefail

usable='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
candidates=("${PYTHON:-}")
[[ -n ${PYTHON:-} ]] || candidates=(python3 python3.13 python3.12 python3.11 /usr/bin/python3)

for candidate in "${candidates[@]}"; do
  # Version managers put names on PATH that do not run, so each is tried.
  if "$candidate" -c "$usable" >/dev/null 2>&1; then
    command -v "$candidate"
    exit 0
  fi
done
echo "No Python 3.11 to 3.13 with the venv module among: ${candidates[*]}. Install python3 and python3-venv," \
  "or name an interpreter: make PYTHON=/path/to/python3.12 setup" >&2
exit 1
