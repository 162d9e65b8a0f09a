#!/usr/bin/env bash
# Checks the Dockerfile and the compose file as far as that goes without a container engine:
# hadolint on the Dockerfile, then what hadolint does not see (scripts/tools/check_container.py), then whether cargo
# finds in the image what it builds.
# Where docker is here, compose's own check runs too.
#
#   scripts/lint-container.sh [DIRECTORY]     default: the root of this project
#
# Exit status: 0 clean; 1 a mistake was found; 3 something needed is not on this machine.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "${1:-$scripts/..}"
status=0
note() { echo "lint-container: $*" >&2; }

type -P python3 >/dev/null || { note "python3 is not here: it is needed to read the files"; exit 3; }

dockerfiles=()
for file in Dockerfile Dockerfile.*; do
    case $file in *.dockerignore) continue ;; esac
    [ ! -f "$file" ] || dockerfiles+=("$file")
done
compose=()
for file in compose.yaml compose.yml docker-compose.yaml docker-compose.yml; do
    [ ! -f "$file" ] || compose+=("$file")
done
[ ${#dockerfiles[@]} -gt 0 ] || { note "there is no Dockerfile in $PWD"; status=1; }
[ ${#compose[@]} -gt 0 ] || { note "there is no compose file in $PWD"; status=1; }

if [ ${#dockerfiles[@]} -gt 0 ]; then
    if hadolint=$("$scripts/tools.sh" hadolint); then
        config=()
        [ ! -f .hadolint.yaml ] || config=(--config .hadolint.yaml)
        "$hadolint" --no-color --failure-threshold warning "${config[@]}" "${dockerfiles[@]}" || status=1
    else
        note "hadolint cannot be had, the Dockerfile is checked without it"
    fi
fi

[ ${#dockerfiles[@]} -eq 0 ] && [ ${#compose[@]} -eq 0 ] ||
    python3 "$scripts/tools/check_container.py" "${dockerfiles[@]}" "${compose[@]}" || status=1

# What is built in the image is what .dockerignore lets in: cargo must find every part of the workspace there.
if [ -f .dockerignore ] && [ -f Cargo.toml ] && type -P cargo >/dev/null; then
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    sed -n 's/^!//p' .dockerignore | while read -r path; do cp -R "$path" "$context/"; done
    cargo metadata --manifest-path "$context/Cargo.toml" --locked --offline --no-deps --format-version 1 >/dev/null ||
        { note ".dockerignore keeps out what the workspace needs"; status=1; }
fi

if [ ${#compose[@]} -gt 0 ] && type -P docker >/dev/null && docker compose version >/dev/null 2>&1; then
    docker compose --file "${compose[0]}" config --quiet || status=1
fi

[ $status -ne 0 ] || note "clean: ${dockerfiles[*]} ${compose[*]}"
exit $status
