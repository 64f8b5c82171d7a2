#!/usr/bin/env bash
# Docker where there is none yet: an engine, Compose v2, and stand-ins for the images that a
# registry would serve. Every command may be repeated; what is there already is left alone.
#
#   scripts/docker.sh engine     Docker Engine: installs docker.io (Debian, as root), starts dockerd
#   scripts/docker.sh compose    Compose v2 as a plugin of the docker command, built by Go
#   scripts/docker.sh images     stand-in images, made of the Go toolchain and of busybox
#   scripts/docker.sh setup      all three
#   scripts/docker.sh env        what Compose needs to use the stand-ins, as NAME=value lines
#
# With a Docker of your own and an Internet connection you need none of this.
set -euo pipefail

readonly COMPOSE_VERSION=v2.40.3
readonly NATS_VERSION=2.15.2
# Networks of the engine that this script starts: a range set aside for tests (RFC 2544), so
# that they collide with no network that is in use.
readonly POOL=198.18.0.0/16
readonly BRIDGE=198.18.255.1/24

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
mkdir -p "$cache"

# Everything that is thrown away again lives here.
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
scratch() { mkdir "$work/$1" && echo "$work/$1"; }

say() { printf '%s\n' "docker.sh: $*" >&2; }
die() { say "$*"; exit 1; }

# install PACKAGE... as Debian packages them; waits for other users of the package manager.
install_packages() {
	command -v apt-get >/dev/null || die "no apt-get here to install $*; install them by hand"
	[ "$(id -u)" = 0 ] || die "root is needed to install $*"
	# Somebody else may hold the lists; what is missing then, install says.
	apt-get -o Acquire::Retries=3 -qq update >&2 || true
	DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends "$@" >&2
}

engine() {
	if docker info >/dev/null 2>&1; then return; fi
	# dockerd programs the names of its networks with iptables.
	if ! command -v dockerd >/dev/null || ! command -v iptables >/dev/null; then
		install_packages docker.io iptables
	fi
	[ "$(id -u)" = 0 ] || die "root is needed to start dockerd"
	# A daemon that starts or stops at this moment does not answer either.
	local pid=/var/run/docker.pid
	for _ in $(seq 60); do
		if docker info >/dev/null 2>&1; then return; fi
		if [ ! -f $pid ] || ! kill -0 "$(cat $pid)" 2>/dev/null; then break; fi
		sleep 0.5
	done
	# A pid file that outlived its daemon keeps the next one from starting.
	if [ -f $pid ] && ! kill -0 "$(cat $pid)" 2>/dev/null; then rm -f $pid; fi
	say "starting dockerd, its log is $cache/dockerd.log"
	setsid nohup dockerd --bip "$BRIDGE" --default-address-pool "base=$POOL,size=24" \
		>"$cache/dockerd.log" 2>&1 </dev/null &
	local daemon=$!
	for _ in $(seq 120); do
		if docker info >/dev/null 2>&1; then return; fi
		kill -0 $daemon 2>/dev/null || break
		sleep 0.5
	done
	tail -n 30 "$cache/dockerd.log" >&2
	die "dockerd did not come up; the end of its log is above"
}

compose() {
	if docker compose version >/dev/null 2>&1; then return; fi
	local built=$cache/docker-compose-$COMPOSE_VERSION
	if [ ! -x "$built" ]; then
		say "building Compose $COMPOSE_VERSION, which takes some minutes"
		local source copy
		source=$(cd / && go mod download -json "github.com/docker/compose/v2@$COMPOSE_VERSION" |
			sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
		# 'go install' refuses a module with exclude directives, so it is built as the main one.
		copy=$(scratch compose)
		cp -r "$source/." "$copy" && chmod -R u+w "$copy"
		(cd "$copy" && CGO_ENABLED=0 nice go build -trimpath -o "$built.new" \
			-ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$COMPOSE_VERSION" ./cmd)
		mv "$built.new" "$built"
	fi
	local plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
	mkdir -p "$plugins"
	ln -sf "$built" "$plugins/docker-compose"
	docker compose version >/dev/null || die "docker does not take $plugins/docker-compose as a plugin"
}

# The names of the stand-ins. The Go one holds the modules of go.sum, so it follows that file.
go_image() { echo "rollcall-standin/golang:$(go env GOVERSION)-$(sha256sum "$root/go.sum" | cut -c1-12)"; }
readonly BASE_IMAGE=rollcall-standin/static:nonroot
readonly NATS_IMAGE=rollcall-standin/nats:$NATS_VERSION

absent() { ! docker image inspect "$1" >/dev/null 2>&1; }

# busybox DIR puts a static busybox and the names that the images use it by into DIR/bin.
busybox() {
	if [ ! -x /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then install_packages busybox-static; fi
	mkdir -p "$1/bin"
	cp /bin/busybox "$1/bin/"
	local name
	for name in sh wget mkdir cat ls; do ln -s busybox "$1/bin/$name"; done
}

# import DIR NAME [CHANGE...] makes an image of a directory.
import() {
	local dir=$1 name=$2 changes=(-c 'LABEL org.opencontainers.image.title="a stand-in, made by scripts/docker.sh"')
	shift 2
	local change
	for change in "$@"; do changes+=(-c "$change"); done
	say "making $name"
	tar -C "$dir" --owner=0 --group=0 --numeric-owner -c . | docker import "${changes[@]}" - "$name" >/dev/null
}

# Like golang: the toolchain, a shell, and in place of the Internet the modules of go.sum.
golang_image() {
	local name dir goroot downloads
	name=$(go_image) goroot=$(go env GOROOT) downloads=$(go env GOMODCACHE)/cache/download
	absent "$name" || return 0
	dir=$(scratch golang)
	busybox "$dir"
	mkdir -p "$dir/usr/local/go" "$dir/go" "$dir/root" "$dir/tmp"
	tar -C "$goroot" --exclude=./test --exclude=./doc --exclude=./api -c . | tar -C "$dir/usr/local/go" -x
	(cd "$root" && go mod download)
	(cd "$root" && GOMODCACHE=$dir/modules GOPROXY=file://$downloads GONOSUMDB='*' go mod download -modcacherw)
	mv "$dir/modules/cache/download" "$dir/proxy"
	rm -rf "$dir/modules"
	# Those of an older go.sum are of no use any more.
	docker image ls --quiet "${name%%:*}" | xargs --no-run-if-empty docker image rm --force >/dev/null
	import "$dir" "$name" \
		'ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOPROXY=file:///proxy GOTOOLCHAIN=local GONOSUMDB=* HOME=/root'
}

# Like distroless static: certificates, a user, a directory for temporary files.
static_image() {
	absent "$BASE_IMAGE" || return 0
	local dir certs=/etc/ssl/certs/ca-certificates.crt
	dir=$(scratch static)
	mkdir -p "$dir/etc/ssl/certs" "$dir/tmp"
	chmod 1777 "$dir/tmp"
	if [ -r $certs ]; then cp $certs "$dir/etc/ssl/certs/"; fi
	echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >"$dir/etc/passwd"
	echo 'nonroot:x:65532:' >"$dir/etc/group"
	import "$dir" "$BASE_IMAGE" 'USER 65532:65532' 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt'
}

# Like nats:alpine: the server at the version in go.mod, and wget for the health check.
nats_image() {
	absent "$NATS_IMAGE" || return 0
	local dir
	dir=$(scratch nats)
	busybox "$dir"
	mkdir -p "$dir/data" "$dir/etc/nats" "$dir/tmp"
	(cd "$root" && CGO_ENABLED=0 nice go build -trimpath -ldflags '-s -w' \
		-o "$dir/bin/nats-server" github.com/nats-io/nats-server/v2)
	[ "$("$dir/bin/nats-server" --version)" = "nats-server: v$NATS_VERSION" ] ||
		die "go.mod has another nats-server than $NATS_VERSION: change NATS_VERSION and the compose file"
	import "$dir" "$NATS_IMAGE" 'ENV PATH=/bin' 'CMD ["nats-server","--config","/etc/nats/nats-server.conf"]'
}

images() {
	golang_image
	static_image
	nats_image
}

print_env() {
	echo "GO_IMAGE=$(go_image)"
	echo "BASE_IMAGE=$BASE_IMAGE"
	echo "NATS_IMAGE=$NATS_IMAGE"
}

case ${1:-} in
engine) engine ;;
compose) compose ;;
images) images ;;
setup) engine && compose && images ;;
env) print_env ;;
*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
