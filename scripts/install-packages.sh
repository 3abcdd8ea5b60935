#!/usr/bin/env bash
# Installs Debian packages, as root: ./scripts/install-packages.sh PACKAGE...
#
# The packages of servers also start a server each, with data of its own, on the very port that development uses. A
# server that is new on this machine is not started here, neither now nor at the next boot; one that was installed
# before is left as it is.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
[ -d /etc/postgresql ] && had_postgresql=1 || had_postgresql=
services=()

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"

for package in "$@"; do
  case "$package" in
    postgresql)
      [ -n "$had_postgresql" ] || for start in /etc/postgresql/*/main/start.conf; do echo manual >"$start"; done ;;
    redis-server) services+=(redis-server) ;;
    etcd-server) services+=(etcd) ;;
    podman) services+=(podman.socket podman.service podman-restart.service podman-auto-update.timer podman-auto-update.service) ;;
    docker.io) services+=(docker.service docker.socket containerd) ;;
  esac
done
if [ -d /run/systemd/system ] && [ "${#services[@]}" -gt 0 ]; then systemctl disable --quiet "${services[@]}"; fi
