#!/usr/bin/env bash
# Installs what the tests need, then runs every check and every test.
#
#   ./scripts/test.sh           lint, boundaries, types, unit, integration, packaging, servers, system tests and
#                               tests on a container engine: the machine's, or as root one of our own (scripts/with-engine.sh)
#   ./scripts/test.sh --quick   needs nothing outside npm: lint, boundaries, types, unit and integration tests but those that
#                               take minutes: real kernels in processes, managers that begin anew or wait for deadlines
#                               (`long` in vitest.config.ts)
#   ./scripts/test.sh --soak    by hand: the heavier form of some tests (many crashes and random histories);
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

export TURBO_TELEMETRY_DISABLED=1 VITE_CONFIG_NATIVE_IGNORE_WARNING=true NO_COLOR=1
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
  missing_packages() { npx tsx --conditions=@backend.ai/source scripts/dev-servers/missing-packages.ts "$@"; }
  mapfile -t servers < <(missing_packages postgres redis etcd)
  # Tests of registries need one, and are skipped without.
  mapfile -t registry < <(missing_packages dockerRegistry)
  missing+=("${servers[@]}" "${registry[@]}")
  # What makes containers: the engine that answers here, or as root one that is started for the tests.
  with_engine=()
  if ! engine=$(npx tsx --conditions=@backend.ai/source scripts/images/find-engine.ts 2>/dev/null); then
    command -v dockerd >/dev/null || missing+=(docker.io)
    with_engine=(./scripts/with-engine.sh "$work/engine")
  fi
  # One that speaks Docker's protocol in its own way, and is started by root only; with its networks and its init.
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    command -v podman >/dev/null || missing+=(podman)
    [ -e /usr/lib/podman/netavark ] || missing+=(netavark)
    [ -e /usr/libexec/podman/catatonit ] || missing+=(catatonit)
  fi
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

# Those that read SOAK or INTERLEAVINGS, and run-dev with containers, for which images are made.
files=()
if [ "$mode" = soak ]; then files=(interleavings session-fields concurrency crash distributed long-outage docker-adoption run-dev-compose); fi

# For project NAME that cannot run here, for a reason.
leave_out() {
  echo "Tests on $2 are left out, and count as one skipped: $3"
  echo '{ "numPassedTests": 0, "numFailedTests": 0, "numPendingTests": 1, "numTodoTests": 0, "testResults": [] }' \
    >"$results/$1.json"
}

# Each entry is one run of vitest.
projects=(unit,integration)
if [ "$mode" = quick ]; then
  export TEST_RUN=quick
else
  if [ "$mode" != soak ]; then projects+=(packaging); fi
  if [ "${#servers[@]}" = 0 ]; then
    projects+=(servers)
    if [ "$mode" = full ]; then export TEST_RUN=on-servers; fi
  else
    leave_out servers servers "${servers[*]} cannot be installed without root."
  fi
  projects+=(system)
fi

# Those that start clusters and containers wait for them more than they work.
workers_of() {
  case $1 in
    system | docker) echo "--maxWorkers=$(($(nproc) * 2))" ;;
  esac
}

test_projects() {
  local names=$1
  shift
  # shellcheck disable=SC2046,SC2086 # several options, and none
  "$@" npx vitest run --project ${names//,/ --project } $(workers_of "$names") "${files[@]}" --reporter=default --reporter=json \
    --outputFile.json="$results/$names.json" 2> >(tee -a "$work/errors.log" >&2)
}
for names in "${projects[@]}"; do
  step "Tests: $names"
  test_projects "$names" || failed=1
done

if [ "$mode" != quick ]; then
  step 'Tests: docker'
  # Those of scripts/images/vitest-setup.ts, made before an engine of ours starts, in whose namespaces no package mirror
  # can be reached; kept for the next time.
  images=(shell python jupyter node debian)
  [ "${#with_engine[@]}" = 0 ] || images+=(--archives)
  if [ "${#with_engine[@]}" -gt 0 ] && { [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; }; then
    leave_out docker 'a container engine' 'none may be used, and only root can start one (Debian: docker.io).'
  elif [ "${#with_engine[@]}" -gt 0 ] && ! "${with_engine[@]}" true; then
    leave_out docker 'a container engine' 'none can be started on this machine.'
  elif ! ./scripts/build-images.sh "${images[@]}" --install; then
    # As root everything that building needs was there or could be installed.
    [ "$(id -u)" != 0 ] || failed=1
    leave_out docker 'a container engine' 'its images cannot be built here.'
  else
    # In an engine of ours only: they bear the names of others.
    servers_archive=${XDG_CACHE_HOME:-$HOME/.cache}/backend.ai/images/servers.tar
    if [ "$mode" = soak ] && [ "${#with_engine[@]}" -gt 0 ]; then
      if { command -v docker-compose >/dev/null || ./scripts/install-packages.sh docker-compose; } &&
        ./tests/support/server-images/make.sh "$servers_archive"; then
        export SERVER_IMAGES=$servers_archive
      else
        failed=1
      fi
    fi
    test_projects docker "${with_engine[@]}" || failed=1
  fi
fi

if [ "$mode" = full ]; then
  step 'Tests: podman'
  with_podman=(./scripts/with-engine.sh --podman "$work/podman")
  if [ "$(id -u)" != 0 ] || ! command -v podman >/dev/null; then
    leave_out podman Podman 'only root can start it, where it is installed (Debian: podman, netavark, catatonit).'
  elif ! "${with_podman[@]}" true; then
    leave_out podman Podman 'it cannot be started on this machine.'
  else
    test_projects podman "${with_podman[@]}" || failed=1
  fi
fi

if [ -n "$checks" ]; then wait "$checks" || failed=1; fi
checks=
cat "$work/checks.log"

step 'Result'
# What failed, and errors outside of every test, which fail a run in which all tests pass.
grep -A 5 '^ *FAIL ' "$work/errors.log" | cut -c1-300 || true
grep -A 20 'Unhandled Errors' "$work/errors.log" || true
save=()
if [ "$mode" = soak ]; then save=(bench/results/soak.md); fi
node scripts/test-summary.mjs "$results" "${save[@]}" || failed=1
exit "$failed"
