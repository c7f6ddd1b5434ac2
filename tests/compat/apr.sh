#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: apr.sh BUILD
#
# The Apache Portable Runtime of Debian's source package with
# memory/unix/apr_pools.c replaced by weir/compat/apr_pools.h, and nothing else
# changed: its own test suite, and that of apr-util over it, both of which live in
# pools.
#
# The sources are WEIR_APR_SOURCE and WEIR_APR_UTIL_SOURCE, or fetched once to
# BUILD/compat.  Building takes minutes, so this is part of the long run alone
# (WEIR_TEST_LONG).
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source-path=SCRIPTDIR
source ./_source.sh

root=$(cd ../.. && pwd)
build=$(cd "${1:?usage: apr.sh BUILD}" && pwd)
work=$build/compat
apr=$work/apr

[[ -n ${WEIR_TEST_LONG-} ]] || skip "takes minutes; WEIR_TEST_LONG=1 runs it"
for tool in make cc timeout; do
	command -v "$tool" >/dev/null || skip "needs $tool"
done
[[ -f $build/libweir.a ]] || skip "needs the static library"

# ---- build ---------------------------------------------------------------

mkdir -p "$work"
source=${WEIR_APR_SOURCE-}
[[ -n $source ]] || source=$(debian_source apr "$work/source" \
	2>"$work/source.log") || skip "no source of apr: offline, or no Debian"
[[ -f $source/memory/unix/apr_pools.c ]] || skip "no apr in $source"

build_apr() {
	rm -rf "$apr"
	cp -r "$source" "$apr"
	{
		for header in apr apr_atomic apr_general apr_lib apr_pools \
			apr_portable apr_thread_mutex apr_thread_proc; do
			echo "#include \"$header.h\""
		done
		echo "#define WEIR_COMPAT_IMPLEMENTATION"
		echo "#include <weir/compat/apr_pools.h>"
	} >"$apr/memory/unix/apr_pools.c"
	cd "$apr"
	./configure --prefix="$work/apr-root" --disable-shared \
		CPPFLAGS="-I$root/include" LIBS="$build/libweir.a -lpthread"
	make -j2
	make install
	# The parts of the suite, and the programs some of them start.
	make -j2 -C test all
}

stamp=$work/apr-built
if [[ ! -f $stamp || $build/libweir.a -nt $stamp ||
	! -x $work/apr-root/bin/apr-1-config ||
	-n $(find "$root/include/weir" -newer "$stamp" -name '*.h') ]]; then
	rm -f "$stamp"
	(build_apr) >"$work/apr.log" 2>&1 || {
		tail -n 30 "$work/apr.log" >&2
		fail "apr does not build"
	}
	touch "$stamp"
fi
nm "$apr/test/testall" | grep ' [Tt] weir_region_create$' >/dev/null ||
	fail "this apr has no regions"

# ---- run -----------------------------------------------------------------

# suite NAME DIR LEFT-OUT LEAST: the parts of DIR/testall, at least so many.  Some
# wait for sockets and processes for a fixed time, which a busy machine exceeds:
# what fails is run once more, alone.
suite() {
	local name=$1 log=$work/$1-test.log parts again
	cd "$2"
	mapfile -t parts < <(./testall -l | grep -vxE "$3")
	((${#parts[@]} >= $4)) || fail "$name: only ${#parts[@]} parts"
	timeout 600 ./testall "${parts[@]}" >"$log" 2>&1 || :
	if ! grep -q '^All tests passed' "$log"; then
		mapfile -t again < <(sed -n 's/ *: *FAILED .*//p' "$log")
		if ((${#again[@]} == 0)) ||
			! timeout 300 ./testall "${again[@]}" >"$log.again" 2>&1 ||
			! grep -q '^All tests passed' "$log.again"; then
			grep -v SUCCESS "$log" >&2
			fail "$name's own tests"
		fi
		echo "$name: at the second go: ${again[*]}"
	fi
	echo "$name over regions: ${#parts[@]} parts of its test suite pass"
}

# testdso loads modules of shared libraries, which are not built here.
suite apr "$apr/test" testdso 40

# ---- apr-util, a user of APR -----------------------------------------------

util=$work/apr-util
source=${WEIR_APR_UTIL_SOURCE-}
[[ -n $source ]] || source=$(debian_source apr-util "$work/source" \
	2>"$work/source.log") || skip "no source of apr-util"
[[ -f $source/include/apu_version.h ]] || skip "no apr-util in $source"
[[ -f /usr/include/expat.h ]] || skip "apr-util needs libexpat1-dev"

# What it needs other libraries for is left out, but for expat.
build_util() {
	rm -rf "$util"
	cp -r "$source" "$util"
	cd "$util"
	./configure --with-apr="$work/apr-root" --disable-util-dso \
		--without-pgsql --without-mysql --without-sqlite3 \
		--without-oracle --without-odbc --without-ldap --without-gdbm \
		--without-ndbm --without-berkeley-db --without-openssl \
		--without-nss
	make -j2
	# APR's static library says nothing of weir, which it wants behind it.
	make -j2 -C test all APRUTIL_LIBS="-lexpat -lcrypt \
		$work/apr-root/lib/libapr-1.la $build/libweir.a -lpthread"
}

stamp=$work/apr-util-built
if [[ ! -f $stamp || $work/apr-built -nt $stamp ]]; then
	rm -f "$stamp"
	(build_util) >"$work/apr-util.log" 2>&1 || {
		tail -n 30 "$work/apr-util.log" >&2
		fail "apr-util does not build"
	}
	touch "$stamp"
fi
nm "$util/test/testall" | grep ' [Tt] weir_region_create$' >/dev/null ||
	fail "this apr-util has no regions"
# Servers that testmemcache and testredis want are not there.
suite apr-util "$util/test" 'testmemcache|testredis' 8
