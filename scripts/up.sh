#!/usr/bin/env bash
# Starts docker-compose.yml and says where to look and what to try. Arguments go to `up`.
set -euo pipefail
cd "$(dirname "$0")/.."

REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
VERSION=$(git describe --tags --always --dirty 2>/dev/null || echo dev)
export REVISION VERSION
docker compose up --build --wait "$@"

cat <<END

Jobs flow. Look:
  http://$(docker compose port worker 8080)                       the dashboard of a replica
  docker compose exec worker /worker status --watch  the whole pool
  docker compose exec worker /worker events          batches as they are committed

Try:
  docker compose exec worker /worker publish jobs.mail '{"to":"ann"}' --wait
  docker compose up -d --no-recreate --scale worker=5
  docker compose kill worker && docker compose up -d   crash all replicas; count the dead letters

Stop:
  docker compose down              with --volumes the jobs go too
END
