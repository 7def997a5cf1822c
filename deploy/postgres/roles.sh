#!/bin/sh
# Run once by the postgres image, when its data folder is new: the city's and the registry's databases, each with a role that owns it
# and may enter no other. Neither role is a superuser.
set -eu
own() { # name: of the role and of its database
  psql -q -v ON_ERROR_STOP=1 -v name="$1" -v word="$(cat "${SECRETS:-/run/secrets}/$1_db_password")" -U "$POSTGRES_USER" -d postgres <<'SQL'
CREATE ROLE :name LOGIN PASSWORD :'word';
CREATE DATABASE :name OWNER :name;
REVOKE CONNECT ON DATABASE :name FROM PUBLIC;
SQL
}
own jietong
own registry
# to tell a session that sits in a transaction from one that has a long question under way, whoever's it is (alarm idle-transaction)
psql -q -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres -c 'GRANT pg_read_all_stats TO jietong'
