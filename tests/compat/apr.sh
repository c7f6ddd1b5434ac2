#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: apr.sh BUILD
#
# The Apache Portable Runtime of Debian's source package with
# memory/unix/apr_pools.c replaced by weir/compat/apr_pools.h, and nothing else
# changed: its own test suite, all of which lives in pools.
#
# The source is WEIR_APR_SOURCE, or fetched once to BUILD/compat.  Building takes
# minutes, so this is part of the long run alone (WEIR_TEST_LONG).
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
	./configure --disable-shared CPPFLAGS="-I$root/include" \
		LIBS="$build/libweir.a -lpthread"
	make -j2
	# The parts of the suite, and the programs some of them start.
	make -j2 -C test all
}

stamp=$work/apr-built
if [[ ! -f $stamp || $build/libweir.a -nt $stamp ||
	$root/include/weir/compat/apr_pools.h -nt $stamp ]]; then
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

cd "$apr/test"
# testdso loads modules of shared libraries, which are not built here.
mapfile -t parts < <(./testall -l | grep -vx testdso)
((${#parts[@]} > 40)) || fail "only ${#parts[@]} parts"
if ! timeout 600 ./testall "${parts[@]}" >"$work/apr-test.log" 2>&1 ||
	! grep -q '^All tests passed' "$work/apr-test.log"; then
	grep -v SUCCESS "$work/apr-test.log" >&2
	fail "apr's own tests"
fi
echo "apr over regions: ${#parts[@]} parts of its test suite pass"
