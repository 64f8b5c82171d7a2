#!/usr/bin/env bash
# Runs docker-compose.yml under a real Docker engine and judges the run: see deploy/composetest/e2e.
# Brings an engine, Compose and base images along where they are missing (scripts/docker.sh), and
# takes every container away again. CI_WITHOUT_DOCKER=1 turns a missing engine from a failure
# into a warning.
set -euo pipefail
cd "$(dirname "$0")/.."

without_docker() {
	printf '\n!!! %s\n!!! The end-to-end run under Docker did NOT take place. !!!\n\n' "$1" >&2
	if [ "${CI_WITHOUT_DOCKER:-}" = 1 ]; then exit 0; fi
	echo "Set CI_WITHOUT_DOCKER=1 to let this pass." >&2
	exit 1
}

scripts/docker.sh engine || without_docker "there is no Docker engine, and none could be started"
scripts/docker.sh compose || without_docker "there is no Compose v2, and it could not be built"

# The stand-ins, unless a registry answers.
if ! docker image inspect nats:2.15.2-alpine >/dev/null 2>&1 && ! timeout 60 docker pull -q nats:2.15.2-alpine >/dev/null 2>&1; then
	scripts/docker.sh images
	variables=$(scripts/docker.sh env)
	set -a
	eval "$variables"
	set +a
fi

export IMAGE=rollcall:e2e VERSION=e2e
REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
export REVISION
docker compose build --quiet worker
# Images of earlier runs, which lost their name to this one.
docker image prune --force --filter label=org.opencontainers.image.title=rollcall >/dev/null
cd deploy/composetest
go test -tags e2e -count=1 -timeout 15m -v ./e2e "$@"
