#!/usr/bin/env bash
# The worker's pages in a real Chromium. Arguments go to `go test`. Installs Debian's Chromium and,
# for the tests only, axe-core from npm. Where that cannot be, it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/../test/browser"

not_tested() {
	printf 'NOT TESTED: the pages in a real browser; %s\n' "$1"
	exit 0
}

if ! command -v chromium >/dev/null; then
	command -v apt-get >/dev/null || not_tested 'chromium is not installed, and there is no apt-get to install it with'
	apt-get -o Acquire::Retries=3 -qq update || true
	DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends chromium fonts-liberation >/dev/null ||
		not_tested 'chromium could not be installed'
fi
command -v npm >/dev/null || not_tested 'npm is not installed; axe-core comes from there'
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null || not_tested 'axe-core could not be installed'
exec go test -count=1 -timeout 10m . "$@"
