#!/usr/bin/env bash
# Builds the project's own container images, so that nothing has to be pulled from anywhere.
#
#   ./scripts/build-images.sh                 backend.ai/python:3.11 (ipykernel, numpy, matplotlib), backend.ai/jupyter
#                                             (Jupyter Notebook with them), backend.ai/node:20, backend.ai/debian:12
#                                             (bash and an ssh server), backend.ai/shell
#   ./scripts/build-images.sh python shell    some of them
#
# Versions are those of what is installed: Debian's Python, and the Node.js that runs this. Debian packages come from this
# machine's own apt sources, which needs root and mmdebstrap; what is up to date is left as it is.
#
# Options: --install (as root: installs the Debian packages that building needs), --from REGISTRY/PATH (from the
# Dockerfiles in scripts/images instead, on base images of that registry: docker.io/library), --push REGISTRY[/PROJECT]
# (sends them there, with the credentials of `docker login`), --rebuild (even if up to date), --archives (only makes
# what an engine would be given, and keeps it), --json.
# The engine is that of DOCKER_HOST (unix:///… or tcp://…), else /var/run/docker.sock or Podman's socket.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo 'Installing npm packages' >&2
  npm ci --no-progress --loglevel=error >&2
fi
exec node_modules/.bin/tsx --conditions=@backend.ai/source scripts/images/main.ts "$@"
