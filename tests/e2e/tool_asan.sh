#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: tests/e2e/tool_asan.sh BUILD
#
# A program built with AddressSanitizer, and the library as it is shipped, built
# without: in mode tool a read of a freed object is told with both stacks, by
# AddressSanitizer, and by weir with the pool's name; the mended program is silent,
# its leaks looked for as well.
set -euo pipefail

build=${1:?usage: tool_asan.sh BUILD}
include=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../include" && pwd)
compiler=${CC:-cc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ ${WEIR_CONFIG-release} != release ]]; then
	echo "skipped: about the library as it is shipped"
	exit 77
fi
cat >"$work/program.c" <<'PROGRAM'
#include <string.h>
#include <weir/weir.h>

static struct weir_cache *cache;

__attribute__((noinline)) static char *
take_connection(void)
{
	return weir_cache_alloc(cache);
}

__attribute__((noinline)) static void
drop_connection(char *connection)
{
	weir_cache_free(cache, connection);
}

int
main(int argc, char **argv)
{
	const struct weir_cache_config config = {.object_bytes = 500};
	char *connection, late = 0;

	(void)argv;
	if (weir_cache_create("conn", &config, &cache) != 0)
		return 2;
	connection = take_connection();
	memset(connection, 0, 500);
	drop_connection(connection);
	if (argc > 1)
		late = *(volatile char *)(connection + 7);
	weir_cache_destroy(cache);
	return late;
}
PROGRAM
if ! "$compiler" -g -O1 -fno-omit-frame-pointer -fsanitize=address \
	-I"$include" "$work/program.c" -L"$build" -lweir \
	-Wl,-rpath,"$build" -o "$work/program" 2>"$work/errors"; then
	echo "skipped: $compiler has no AddressSanitizer: $(tail -1 "$work/errors")"
	exit 77
fi
export WEIR_GUARD=tool
if ! "$work/program" >"$work/said" 2>&1 || [[ -s $work/said ]]; then
	echo "FAIL the mended program is not silent"
	cat "$work/said"
	exit 1
fi
if "$work/program" bug >"$work/said" 2>&1; then
	echo "FAIL the bug was not found"
	exit 1
fi
for wanted in "heap-use-after-free" "in drop_connection" \
	"in take_connection" \
	'weir: FAULT use-after-free: cache "conn": read at 0x'; do
	if ! grep -q "$wanted" "$work/said"; then
		echo "FAIL nothing of '$wanted' in the report"
		cat "$work/said"
		exit 1
	fi
done
echo "ok   both tell of an object of the shipped library"
