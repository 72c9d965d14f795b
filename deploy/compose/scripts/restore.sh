#!/bin/sh
# Read a backup from standard input into the database named by the first argument, else mpx. The
# desk must be stopped. What was there before is kept as NAME_before_TIME until somebody drops it;
# if anything goes wrong, it is still there under its own name.
set -eu
name="${1:-mpx}"
new="${name}_restored"
old="${name}_before_$(date -u +%Y%m%d%H%M%S)"
sql() { psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$@"; }

sql --dbname=postgres --command="DROP DATABASE IF EXISTS \"$new\" WITH (FORCE)"
sql --dbname=postgres --command="CREATE DATABASE \"$new\" TEMPLATE template0"
loaded=$(sql --dbname=postgres --command="SELECT current_setting('timescaledb.max_background_workers', true) IS NOT NULL")
if [ "$loaded" = t ]; then
    # In this mode TimescaleDB lets its own tables be written as they were.
    sql --dbname="$new" --command="CREATE EXTENSION IF NOT EXISTS timescaledb" >/dev/null
    sql --dbname="$new" --command="SELECT timescaledb_pre_restore()" >/dev/null
fi
pg_restore --no-owner --exit-on-error --dbname="$new"
if [ "$loaded" = t ]; then
    sql --dbname="$new" --command="SELECT timescaledb_post_restore()" >/dev/null
fi
sql --dbname="$new" --command="ANALYZE"

# Swap them: nobody may be connected, TimescaleDB's own workers neither.
for each in "$name" "$new"; do
    there=$(sql --dbname=postgres --command="SELECT count(*) FROM pg_database WHERE datname = '$each'")
    [ "$there" = 1 ] || continue
    sql --dbname=postgres --command="ALTER DATABASE \"$each\" ALLOW_CONNECTIONS false"
    sql --dbname=postgres --command="SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$each'" >/dev/null
    [ "$each" = "$new" ] || sql --dbname=postgres --command="ALTER DATABASE \"$name\" RENAME TO \"$old\""
done
sql --dbname=postgres --command="ALTER DATABASE \"$new\" RENAME TO \"$name\""
sql --dbname=postgres --command="ALTER DATABASE \"$name\" ALLOW_CONNECTIONS true"
echo "restored $name; what was there before is $old" >&2
