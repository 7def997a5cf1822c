#!/bin/sh
# Makes what docker-compose.yml wants as secrets: random, once; what is there stays.
#   sh deploy/secrets.sh
# The folder (default var/secrets, ignored by git) is only its owner's, mode 700. The files in it are readable: a container's own
# user must read them, and compose hands a file over with the rights it has here. Who may not enter the folder reaches none.
set -eu
umask 077
folder=${1:-$(dirname "$0")/../var/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

word() { # 40 hexadecimal digits: 160 bits, safe in a URL, a properties file and YAML
  od -An -N20 -tx1 /dev/urandom | tr -d ' \n'
}

keep() { # name, text: written whole or not at all, and never over what is there
  [ -e "$folder/$1" ] && return
  printf '%s\n' "$2" >"$folder/.$1"
  chmod 444 "$folder/.$1"
  mv "$folder/.$1" "$folder/$1"
  echo "made $1"
}

keep postgres_password "$(word)"
keep jietong_db_password "$(word)"
keep registry_db_password "$(word)"
keep grafana_password "$(word)"
keep jietong_password "$(word)"
keep jietong_database_url "postgresql://jietong:$(cat "$folder/jietong_db_password")@postgres:5432/jietong"
keep registry.properties "apicurio.datasource.password=$(cat "$folder/registry_db_password")"
keep kafbat.yml "auth: {type: LOGIN_FORM}
spring: {security: {user: {name: jietong, password: '$(word)'}}}"
