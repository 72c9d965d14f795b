#!/bin/sh
# Write a backup of the database to standard output, while the desk works. PGHOST, PGPORT, PGUSER
# and so on say where; the database is the first argument, else mpx.
set -eu
exec pg_dump --format=custom --compress=6 --no-owner --dbname="${1:-mpx}"
