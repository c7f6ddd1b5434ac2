#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What is configured follows what is there: configure of script/lib.sh does
# nothing twice, and an optional part that is named later, or no more, gets into
# a build directory that was there before.  What is not there is no error.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/script"
cp "$project/script/lib.sh" "$work/script"
cat >"$work/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.21)
project(configured LANGUAGES NONE)
set(WEIR_NGINX_SOURCE "$ENV{WEIR_NGINX_SOURCE}" CACHE PATH "as the project has it")
file(APPEND runs "from:${WEIR_NGINX_SOURCE}\n")
END
cat >"$work/CMakePresets.json" <<'END'
{
	"version": 3,
	"configurePresets": [{ "name": "plain", "generator": "Ninja" }]
}
END
touch -d '1 minute ago' "$work/CMakePresets.json"

# shellcheck source=script/lib.sh
source "$work/script/lib.sh"
cd "$work"

# An optional part that is here or not, whatever the machine has.
packages_for() {
	[[ $1 == contenders ]] || return 0
	echo "some-part $work/part"
}

# expect LINE...: what CMake saw in its runs so far.
expect() {
	[[ $(<runs) == "$(printf '%s\n' "$@")" ]] || {
		echo "FAIL wanted ($*), have ($(paste -sd' ' runs))" >&2
		exit 1
	}
}

unset WEIR_NGINX_SOURCE
configure plain build >log
configure plain build >log
expect from:
export WEIR_NGINX_SOURCE=/some/where
configure plain build >log
configure plain build >log
expect from: from:/some/where
unset WEIR_NGINX_SOURCE
configure plain build >log
expect from: from:/some/where from:
touch part
configure plain build >log
configure plain build >log
expect from: from:/some/where from: from:
echo "ok configure"
