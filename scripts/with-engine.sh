#!/usr/bin/env bash
# Runs a command beside a container engine of its own, in namespaces for processes, mounts and network:
#
#   ./scripts/with-engine.sh FOLDER COMMAND...     as root, with Debian's docker.io; FOLDER takes the engine's data, its log,
#                                                  and is removed at the end
#   ./scripts/with-engine.sh --podman FOLDER COMMAND...    the same with Debian's podman, netavark and catatonit
#
# The command finds the engine by DOCKER_HOST and reaches containers at their addresses; no network leads outside. When
# it ends, or this script is killed, the kernel takes along what the engine made: processes, mounts, bridges, firewall rules.
set -euo pipefail

engine_kind=docker
if [ "$1" = --docker ] || [ "$1" = --podman ]; then
  engine_kind=${1#--}
  shift
fi

if [ "$1" != --inside ]; then
  mkdir -p "$1"
  folder=$(realpath "$1")
  shift
  export ENGINE_CGROUP=backendai-engine-$$
  code=0
  # Killed along with this script, and its children with it.
  setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" "--$engine_kind" --inside "$folder" "$@" || code=$?
  # Groups that an engine which was killed has left are empty by now. Podman names them after containers, below one of all.
  left=("*/$ENGINE_CGROUP*")
  for container in "$folder"/data/overlay-containers/*/; do
    [ ! -d "$container" ] || left+=("*/libpod_parent/libpod*$(basename "$container")*")
  done
  for path in "${left[@]}"; do find /sys/fs/cgroup -depth -type d -path "$path" -exec rmdir {} + 2>/dev/null || true; done
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
# What an engine keeps here whatever its folder is: sockets of containers' keepers, names of networks, locks.
if [ "$engine_kind" = docker ]; then shared=(/run/containerd /run/netns); else shared=(/run/netns /run/libpod /run/containers /dev/shm); fi
for place in "${shared[@]}"; do
  mkdir -p "$place"
  mount -t tmpfs -o mode=1777 engine "$place"
done

export DOCKER_HOST=unix://$folder/docker.sock
# Of a run before this one that was killed.
rm -f "$folder/docker.sock"
if [ "$engine_kind" = docker ]; then
  dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
    --cgroup-parent "/$ENGINE_CGROUP" --group "$(id -gn)" --log-level warn >"$folder/log" 2>&1 &
else
  mkdir -p "$folder/networks"
  # Neither systemd nor its journal need to be there.
  printf '%s\n' '[engine]' 'cgroup_manager = "cgroupfs"' 'events_logger = "file"' \
    '[network]' 'network_backend = "netavark"' "network_config_dir = \"$folder/networks\"" >"$folder/containers.conf"
  export CONTAINERS_CONF=$folder/containers.conf
  podman --root "$folder/data" --runroot "$folder/exec" --log-level warn system service --time 0 "$DOCKER_HOST" \
    >"$folder/log" 2>&1 &
fi
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
