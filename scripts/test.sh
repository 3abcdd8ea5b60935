#!/usr/bin/env bash
# Installs what the tests need, then runs every check and every test.
#
#   ./scripts/test.sh           lint, boundaries, types, unit, integration, packaging, servers and system tests
#   ./scripts/test.sh --quick   needs nothing outside npm: lint, boundaries, types, unit and integration tests
#   ./scripts/test.sh --soak    by hand: the heavier form of some tests (many crashes and random histories, long outages);
#                               writes bench/results/soak.md
#
# The last line is `N passed, N failed, N skipped`; the exit code is 0 only if nothing failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=full
case "${1:-}" in
  '') ;;
  --quick) mode=quick ;;
  --soak) mode=soak ;;
  *) echo "Usage: ./scripts/test.sh [--quick|--soak]" >&2; exit 2 ;;
esac

export TURBO_TELEMETRY_DISABLED=1 VITE_CONFIG_NATIVE_IGNORE_WARNING=true FORCE_COLOR=0
if [ "$mode" = soak ]; then export SOAK=1 INTERLEAVINGS=60; fi
work=$(mktemp -d)
results=$work/results
mkdir "$results"
checks=
trap '[ -z "$checks" ] || kill "$checks" 2>/dev/null || true; rm -rf "$work"' EXIT
step() { printf '\n== %s\n' "$*"; }

if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  step 'Installing npm packages'
  npm ci --no-progress
fi

if [ "$mode" != quick ]; then
  # The sandbox of choice, a Python to run in it, and the servers of production. Without root the tests use what the
  # machine has.
  missing=()
  command -v bwrap >/dev/null || missing+=(bubblewrap)
  [ -x /usr/bin/python3 ] || missing+=(python3)
  mapfile -t servers < <(npx tsx --conditions=@backend.ai/source scripts/dev-servers/missing-packages.ts)
  missing+=("${servers[@]}")
  if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      step "Installing system packages: ${missing[*]}"
      ./scripts/install-packages.sh "${missing[@]}"
      servers=()
    else
      echo "Not installed here: ${missing[*]}. Tests that need them are skipped."
    fi
  fi
fi

if [ "$mode" != quick ]; then
  step 'Building'
  npm run --silent build
fi

failed=0
check() {
  local failed=0
  step 'Lint and boundaries'
  npm run --silent lint:root || failed=1
  step 'Types'
  npm run --silent typecheck || failed=1
  return "$failed"
}
# Beside the tests, which often wait for processes; told when both are done.
: >"$work/checks.log"
if [ "$mode" != soak ]; then
  check >"$work/checks.log" 2>&1 &
  checks=$!
fi

# Those that read SOAK or INTERLEAVINGS.
files=()
if [ "$mode" = soak ]; then files=(interleavings concurrency crash distributed); fi

# Each entry is one run of vitest.
projects=(unit,integration)
if [ "$mode" != quick ]; then
  if [ "$mode" != soak ]; then projects+=(packaging); fi
  if [ "${#servers[@]}" = 0 ]; then
    projects+=(servers)
  else
    echo "Tests on servers are left out, and count as one skipped: ${servers[*]} cannot be installed without root."
    echo '{ "numPassedTests": 0, "numFailedTests": 0, "numPendingTests": 1, "numTodoTests": 0, "testResults": [] }' \
      >"$results/servers.json"
  fi
  projects+=(system)
fi
for names in "${projects[@]}"; do
  step "Tests: $names"
  # shellcheck disable=SC2086 # several options
  npx vitest run --project ${names//,/ --project } "${files[@]}" --reporter=default --reporter=json \
    --outputFile.json="$results/$names.json" 2> >(tee -a "$work/errors.log" >&2) || failed=1
done

if [ -n "$checks" ]; then wait "$checks" || failed=1; fi
checks=
cat "$work/checks.log"

step 'Result'
# One outside of every test fails a run in which all tests pass.
grep -A 20 'Unhandled Errors' "$work/errors.log" || true
save=()
if [ "$mode" = soak ]; then save=(bench/results/soak.md); fi
node scripts/test-summary.mjs "$results" "${save[@]}" || failed=1
exit "$failed"
