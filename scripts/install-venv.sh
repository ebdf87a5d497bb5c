#!/usr/bin/env bash
# Makes .venv from requirements.lock and installs the project into it, editable. Run from the top of the tree.
set -euo pipefail

python=$(scripts/find-python.sh)
if [[ -x .venv/bin/python ]] && ! .venv/bin/python -c 'import sys' 2>/dev/null; then
  rm -rf .venv # its interpreter is gone
fi
[[ -x .venv/bin/python ]] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input --quiet)
"${pip[@]}" install --require-hashes -r requirements.lock
# The build backend comes from the lock too, hence no isolated (and unpinned) build environment.
"${pip[@]}" install --no-deps --no-build-isolation --editable .
