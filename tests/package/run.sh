#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: run.sh BUILD_DIR
#
# Installs a build into a staging directory, moves that elsewhere, and builds a
# project from outside against it: by CMake and by pkg-config, with the shared
# and with the static library.  Each program runs, and is asked what it loads.
set -euo pipefail

build=$(cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "package: $*" >&2
	exit 1
}

cmake --install "$build" --prefix "$work/first" >/dev/null
# A package is built in one place and used in another.
mv "$work/first" "$work/stage"
stage=$work/stage
libdir=$(dirname "$(find "$stage" -name libweir.a -print -quit)")
version=$(sed -n 's/^Version: //p' "$libdir/pkgconfig/weir.pc")

# check NAME PROGRAM shared|static
check() {
	local output needed
	output=$(LD_LIBRARY_PATH=$libdir "$2") || fail "$1: does not run"
	[[ $output == "weir $version" ]] || fail "$1: says '$output'"
	needed=$(objdump -p "$2" | awk '$1 == "NEEDED" { print $2 }')
	case $3 in
	shared)
		grep -qx 'libweir\.so\.0' <<<"$needed" ||
			fail "$1: does not load libweir.so.0: $needed"
		;;
	static)
		! grep -q libweir <<<"$needed" ||
			fail "$1: loads libweir though linked statically"
		;;
	esac
	echo "ok   $1"
}

if ! {
	cmake -G Ninja -S "$here" -B "$work/cmake" -DCMAKE_C_FLAGS=-Werror \
		-DCMAKE_PREFIX_PATH="$stage" &&
		cmake --build "$work/cmake"
} >"$work/log" 2>&1; then
	cat "$work/log" >&2
	fail "the CMake project does not build"
fi
check "find_package, weir::weir" "$work/cmake/shared" shared
check "find_package, weir::static" "$work/cmake/static" static

export PKG_CONFIG_PATH=$libdir/pkgconfig
read -ra flags < <(pkg-config --cflags --libs weir)
cc -o "$work/pc-shared" "$here/main.c" "${flags[@]}"
check "pkg-config, shared" "$work/pc-shared" shared
read -ra flags < <(pkg-config --static --cflags --libs weir)
cc -static -o "$work/pc-static" "$here/main.c" "${flags[@]}"
check "pkg-config, static" "$work/pc-static" static

# What a user's program links against must need libc and nothing more.
needed=$(objdump -p "$libdir/libweir.so.0" | awk '$1 == "NEEDED" { print $2 }')
[[ -z $(grep -vE '^(libc\.so|libpthread\.so|ld-linux)' <<<"$needed" || true) ]] ||
	fail "libweir.so needs more than libc: $needed"
echo "ok   libweir.so needs libc only"

[[ ! -x $build/weir || -x $stage/bin/weir ]] || fail "bin/weir is not installed"
headers=$here/../../include/weir
while read -r header; do
	cmp -s "$headers/$header" "$stage/include/weir/$header" ||
		fail "$header is not installed"
done < <(cd "$headers" && find . -type f)
echo "ok   headers installed"
