# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# lib.sh - what the scripts share: where the tree is, what must be installed,
# how a preset is configured and built.  Sourced, never run.

set -euo pipefail
WEIR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$WEIR_ROOT"

say() { printf '%s\n' "$*" >&2; }
die() {
	say "${0##*/}: $*"
	exit 1
}

# Prints the comment block at the top of the calling script and ends.
usage() {
	awk 'NR > 2 && !/^#/ { exit } NR > 2 { sub(/^# ?/, ""); print }' "$0"
	exit "${1:-0}"
}

# ---- what must be installed ----------------------------------------------

# One line a package: name, and what shows that it is there - a command or, with
# a slash, a file (a pattern is one whose directory has a machine's name in it).
# Looking beats asking dpkg: it is faster, and it counts what was installed in
# another way or on another distribution.
packages_for() {
	case $1 in
	build)
		cat <<-'LIST'
			gcc gcc
			g++ g++
			libc6-dev /usr/include/stdlib.h
			cmake cmake
			ninja-build ninja
			pkg-config pkg-config
		LIST
		;;
	contenders)
		cat <<-'LIST'
			libuv1-dev /usr/include/uv.h
			libasio-dev /usr/include/asio.hpp
			gnuplot-nox gnuplot
		LIST
		;;
	opponents)
		cat <<-'LIST'
			libmimalloc2.0 /usr/lib/*/libmimalloc.so.2
			libjemalloc2 /usr/lib/*/libjemalloc.so.2
			libtcmalloc-minimal4 /usr/lib/*/libtcmalloc_minimal.so.4
			libtbbmalloc2 /usr/lib/*/libtbbmalloc.so.2
			libdpdk-dev /usr/include/dpdk/rte_mempool.h
			libapr1-dev /usr/include/apr-1.0/apr_pools.h
			libtalloc-dev /usr/include/talloc.h
			libglib2.0-0 /usr/lib/*/libglib-2.0.so.0
			libboost-dev /usr/include/boost/pool/pool.hpp
			libck-dev /usr/include/ck_stack.h
			gnuplot-nox gnuplot
			valgrind valgrind
		LIST
		;;
	clang) echo "clang clang" ;;
	lint)
		cat <<-'LIST'
			clang-format clang-format
			python3 python3
			binutils nm
		LIST
		;;
	tidy) echo "clang-tidy clang-tidy" ;;
	coverage)
		cat <<-'LIST'
			gcovr gcovr
			python3 python3
		LIST
		;;
	test)
		cat <<-'LIST'
			python3 python3
			curl curl
			wrk wrk
			dpkg-dev dpkg-source
			valgrind valgrind
			libc6-dbg /usr/lib/debug/.build-id
			spin spin
		LIST
		;;
	*) die "no package list '$1'" ;;
	esac
}

is_there() {
	if [[ $1 == /* ]]; then
		compgen -G "$1" >/dev/null
	else
		command -v "$1" >/dev/null
	fi
}

# need SET...: installs what is missing of these sets, or says what to install.
need() {
	local set package probe missing=() as_root=()

	for set in "$@"; do
		while read -r package probe; do
			is_there "$probe" ||
				[[ " ${missing[*]} " == *" $package "* ]] ||
				missing+=("$package")
		done < <(packages_for "$set")
	done
	((${#missing[@]})) || return 0

	if ! command -v apt-get >/dev/null; then
		say "missing, by their Debian names: ${missing[*]}"
		die "install them with this system's package manager, then repeat"
	fi
	if ((EUID != 0)); then
		if ! command -v sudo >/dev/null || [[ -n ${WEIR_NO_INSTALL-} ]]; then
			say "missing: ${missing[*]}"
			die "run as root: apt-get install -y ${missing[*]}"
		fi
		as_root=(sudo)
	elif [[ -n ${WEIR_NO_INSTALL-} ]]; then
		die "run: apt-get install -y ${missing[*]}"
	fi
	say "installing ${missing[*]}"
	apt_get update
	apt_get install --no-install-recommends "${missing[@]}"
}

# Quiet unless it fails.  Uses as_root of need().
apt_get() {
	local log
	log=$(mktemp)
	if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get -y -q -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
		"$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		rm -f "$log"
		die "apt-get $* failed"
	fi
	rm -f "$log"
}

# ---- configure and build -------------------------------------------------

presets() {
	sed -n '/"configurePresets"/,/"buildPresets"/s/.*"name": "\([^"]*\)".*/\1/p' \
		CMakePresets.json | grep -vx base
}

# configure PRESET DIRECTORY [CMAKE OPTION...]: does nothing when it was done.
# The optional libraries found are part of a configuration, so it is done again
# when they came since.
configure() {
	local preset=$1 dir=$2 found probe
	shift 2
	found="$* nginx=${WEIR_NGINX_SOURCE-}"
	while read -r _ probe; do
		if is_there "$probe"; then
			found+=" $probe"
		fi
	done < <(packages_for contenders && packages_for opponents)
	if [[ -f $dir/build.ninja && $dir/configured -nt CMakePresets.json &&
		$(<"$dir/configured") == "$found" ]]; then
		return 0
	fi
	rm -f "$dir/configured"
	cmake --preset "$preset" -B "$dir" \
		-DWEIR_NGINX_SOURCE="${WEIR_NGINX_SOURCE-}" "$@" || return
	printf '%s\n' "$found" >"$dir/configured"
}

# build PRESET [CMAKE OPTION...] in build/PRESET; build_clang, with the same
# arguments, in build/clang-PRESET.
build() {
	local preset=$1
	shift
	configure "$preset" "build/$preset" "$@" && build_dir "build/$preset"
}

build_clang() {
	local preset=$1
	shift
	configure "$preset" "build/clang-$preset" -DCMAKE_C_COMPILER=clang \
		-DCMAKE_CXX_COMPILER=clang++ \
		-DWEIR_CONFIG_NAME="clang-$preset" -DWEIR_TREE_TESTS=OFF "$@" &&
		build_dir "build/clang-$preset"
}

build_dir() {
	cmake --build "$1" --parallel "${WEIR_JOBS:-$(nproc)}"
}
