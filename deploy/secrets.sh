#!/bin/sh
# Make the secrets of compose.yaml, each once; what is there stays.
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
echo "requirepass $(cat secrets/valkey_password)" | keep valkey_auth
printf 'redis://:%s@valkey:6379/0' "$(cat secrets/valkey_password)" | keep redis_url
printf 'postgresql://celeriac:%s@postgres:5432/celeriac' "$(cat secrets/postgres_password)" | keep database_url
# Prometheus reads /metrics with this key; put one in with: celeriac keys create --user prometheus --scope admin
printf '' | keep metrics_key
# The containers' users read them through their mounts; on this host the folder keeps others out.
chmod 0700 secrets
chmod 0444 secrets/*
ls -l secrets
