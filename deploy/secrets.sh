#!/bin/sh
# Create the secrets of compose.yaml; existing secrets stay as they are.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
random() { od -An -N 32 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { [ -s "secrets/$1" ] || cat > "secrets/$1"; }

random | keep valkey_password
random | keep postgres_password
random | keep jwt_secret
random | keep grafana_password
random | keep flower_password
echo "requirepass $(cat secrets/valkey_password)" | keep valkey_auth
printf 'redis://:%s@valkey:6379/0' "$(cat secrets/valkey_password)" | keep redis_url
printf 'postgresql://celeriac:%s@postgres:5432/celeriac' "$(cat secrets/postgres_password)" | keep database_url
# Prometheus reads /metrics with this key; create one with: celeriac keys create prometheus --user prometheus --scope read
printf '' | keep metrics_key
# The users of the containers read the secrets through their mounts. On this host, the folder's mode protects them.
chmod 0700 secrets
chmod 0444 secrets/*
ls -l secrets
