#!/usr/bin/env bash
# Makes .venv from requirements.lock and installs the project into it, editable. Run from the top of the tree.
set -euo pipefail

python=$(scripts/find-python.sh)
if [[ -x .venv/bin/python ]] && ! .venv/bin/python -c 'import sys' 2>/dev/null; then
  rm -rf .venv # its interpreter is gone
fi
[[ -x .venv/bin/python ]] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input --quiet)
# The lock names every package, so nothing is left to resolve; resolving would look past the lock for the newest
# release of whatever is asked for with an extra, and refuse it for want of a hash (pip issue 9644).
"${pip[@]}" install --no-deps --require-hashes -r requirements.lock
# The build backend comes from the lock too, hence no isolated (and unpinned) build environment.
"${pip[@]}" install --no-deps --no-build-isolation --editable .
"${pip[@]}" check # the lock is whole
