#!/usr/bin/env bash
# The servers that development needs, and everything to start the components against them.
#
#   ./scripts/run-dev.sh            PostgreSQL (5432), Redis (6379) and etcd (2379) with data under .dev/, both databases,
#                                   missing configs/*.toml, migrations, the default fixture, a join token for the agent.
#                                   What is there already stays as it is. Then, in a terminal each:
#                                     ./backend.ai mgr start-server
#                                     ./backend.ai ag start-server
#   ./scripts/run-dev.sh status     what runs
#   ./scripts/run-dev.sh stop       ends the servers; data stays
#   ./scripts/run-dev.sh reset      ends them, and kernels that an agent left running, and removes their data, secrets,
#                                   and the folders of manager and agent
#
# Options: --install (as root: installs the Debian packages of servers that are missing), --docker (containers even where
# servers are installed), --postgres-port N, --redis-port N, --etcd-port N (unless given: as in an existing
# configs/manager.toml), --directory DIR (.dev), --configs DIR (configs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo 'Installing npm packages'
  npm ci --no-progress --loglevel=error
fi
exec node_modules/.bin/tsx --conditions=@backend.ai/source scripts/run-dev/main.ts "$@"
