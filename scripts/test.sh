#!/usr/bin/env bash
# Installs what the tests need, then runs every check and every test.
#
#   ./scripts/test.sh           lint, boundaries, types, unit, integration, servers and system tests
#   ./scripts/test.sh --quick   needs nothing outside npm: lint, boundaries, types, unit and integration tests
#   ./scripts/test.sh --soak    the default and then what is heavier (minutes of load, many random histories)
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
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
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

step 'Building'
npx turbo run build --output-logs=errors-only
step 'Lint and boundaries'
npm run --silent lint:root
step 'Types of tests, benchmarks and scripts'
npx tsc -p tsconfig.check.json

failed=0
projects=(unit integration)
if [ "$mode" != quick ]; then
  if [ "${#servers[@]}" = 0 ]; then
    projects+=(servers)
  else
    echo "Tests on servers are left out, and count as one skipped: ${servers[*]} cannot be installed without root."
    echo '{ "numPassedTests": 0, "numFailedTests": 0, "numPendingTests": 1, "numTodoTests": 0, "testResults": [] }' \
      >"$results/servers.json"
  fi
  projects+=(system)
fi
for project in "${projects[@]}"; do
  step "Tests: $project"
  npx vitest run --project "$project" --reporter=default --reporter=json --outputFile.json="$results/$project.json" || failed=1
done

step 'Result'
node scripts/test-summary.mjs "$results" || failed=1
exit "$failed"
