#!/bin/sh
# Run by mmdebstrap on the folder of an image before it is packed: finish.sh FOLDER. NODE: the program to put in, if any.
# SERVICE_DEFS: folder with the definitions of its services, if any.
set -eu
# The mirrors, names and settings of the machine that builds are nobody's business, and of no use elsewhere.
rm -f "$1/etc/apt/sources.list" "$1/etc/resolv.conf" "$1/etc/hostname"
rm -rf "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/*proxy* "$1"/var/log/*.log "$1"/var/log/apt "$1"/var/cache/debconf/*-old
# Made when a package was installed: each session has keys of its own.
rm -f "$1"/etc/ssh/ssh_host_*
mkdir -p "$1/home/work"
if [ -n "${SERVICE_DEFS:-}" ]; then
  install -D -m 644 -t "$1/etc/backend.ai/service-defs" "$SERVICE_DEFS"/*.json
fi
if [ -n "${NODE:-}" ]; then
  install -D "$NODE" "$1/usr/local/bin/node"
  # Libraries of other places than the distribution's come along.
  ldd "$NODE" | awk '$2 == "=>" { print $3 }' | while read -r library; do
    [ -e "$1$library" ] || install -D "$library" "$1$library"
  done
  chroot "$1" /usr/local/bin/node --version >/dev/null
fi
