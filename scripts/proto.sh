#!/usr/bin/env bash
# Generates common/wire from proto/; with --check it only says whether the committed files are fresh.
set -euo pipefail

python=.venv/bin/python
out=.
if [[ ${1:-} == --check ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
mapfile -t sources < <(cd proto && find common -name '*.proto' | sort)
"$python" -m grpc_tools.protoc -Iproto \
  --plugin=protoc-gen-mypy=.venv/bin/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=.venv/bin/protoc-gen-mypy_grpc \
  --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" "${sources[@]}"
[[ $out == . ]] || diff -r --exclude=__init__.py --exclude=__pycache__ "$out/common/wire" common/wire || {
  echo "common/wire is not what proto/ gives: run make proto and commit the result" >&2
  exit 1
}
