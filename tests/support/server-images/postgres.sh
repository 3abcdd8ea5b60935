#!/bin/sh
# What the official image of PostgreSQL does of what scripts/compose.dev.yml relies on: POSTGRES_PASSWORD and
# POSTGRES_INITDB_ARGS count when the data is made, in /var/lib/postgresql/data; connections come from anywhere.
set -eu
data=/var/lib/postgresql/data
bin=$(echo /usr/lib/postgresql/*/bin)
install -d -o postgres -g postgres /var/run/postgresql
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
if [ ! -s "$data/PG_VERSION" ]; then
  mkdir -p "$data"
  chown postgres:postgres "$data"
  chmod 700 "$data"
  install -m 600 -o postgres /dev/null /tmp/password
  printf %s "$POSTGRES_PASSWORD" >/tmp/password
  # shellcheck disable=SC2086 # several options
  as_postgres "$bin/initdb" -D "$data" -U postgres --pwfile=/tmp/password ${POSTGRES_INITDB_ARGS:-}
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
fi
exec setpriv --reuid postgres --regid postgres --init-groups "$bin/postgres" -D "$data" -c 'listen_addresses=*'
