#!/usr/bin/env bash
# Runs a command beside a container engine of its own, in namespaces for processes, mounts and network:
#
#   ./scripts/with-engine.sh FOLDER COMMAND...     as root, with Debian's docker.io; FOLDER takes the engine's data, its log,
#                                                  and is removed at the end
#
# The command finds the engine by DOCKER_HOST and reaches containers at their addresses; no network leads outside. When
# it ends, or this script is killed, the kernel takes along what the engine made: processes, mounts, bridges, firewall rules.
set -euo pipefail

if [ "$1" != --inside ]; then
  mkdir -p "$1"
  folder=$(realpath "$1")
  shift
  export ENGINE_CGROUP=backendai-engine-$$
  code=0
  # Killed along with this script, and its children with it.
  setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" --inside "$folder" "$@" || code=$?
  # Groups that an engine which was killed has left are empty by now.
  find /sys/fs/cgroup -depth -type d -path "*/$ENGINE_CGROUP*" -exec rmdir {} + 2>/dev/null || true
  rm -rf "$folder"
  exit "$code"
fi

folder=$2
shift 2
ip link set lo up
# Control groups are mounted where systemd runs; elsewhere nobody may have done it.
if ! mountpoint -q /sys/fs/cgroup; then
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  awk '!/^#/ && $4 == 1 { print $1 }' /proc/cgroups | while read -r controller; do
    mkdir "/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
  done
fi
# Sockets of containers' keepers lie here whatever the folder of the engine is.
mkdir -p /run/containerd
mount -t tmpfs containerd /run/containerd

export DOCKER_HOST=unix://$folder/docker.sock
dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
  --cgroup-parent "/$ENGINE_CGROUP" --group "$(id -gn)" --log-level warn >"$folder/log" 2>&1 &
engine=$!
trap 'exit 143' TERM
trap 'kill "$engine" 2>/dev/null && wait "$engine" || true' EXIT
# Whoever connects from now on is answered as soon as it is ready.
until [ -S "$folder/docker.sock" ]; do
  if ! kill -0 "$engine" 2>/dev/null; then
    echo "The container engine ended at its start:" >&2
    tail -n 8 "$folder/log" >&2
    exit 69
  fi
  sleep 0.1
done
"$@"
