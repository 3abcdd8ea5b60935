#!/usr/bin/env bash
# Makes a stand-in for the images of scripts/compose.dev.yml where none can be had: the servers of Debian, one archive for
# all three. Needs root, mmdebstrap and a mirror of packages; run-dev-compose.docker.test.ts gives it their names.
#
#   make.sh ARCHIVE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
archive=$1
for source in "$here"/*; do
  if [ "$source" -nt "$archive" ]; then stale=yes; fi
done
[ -n "${stale:-}" ] || exit 0
mkdir -p "$(dirname "$archive")"
mmdebstrap --quiet --format=tar --variant=minbase --include=postgresql,redis-server,etcd-server,etcd-client \
  --customize-hook="copy-in $here/postgres.sh /usr/local/bin" \
  "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$archive.part"
mv "$archive.part" "$archive"
