#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: talloc.sh BUILD
#
# One program, talloc_trace.c, compiled against talloc itself and against
# weir/compat/talloc.h: for many seeds both must write down the same life of a
# tree, to the order of its destructors.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source-path=SCRIPTDIR
source ./_source.sh

root=$(cd ../.. && pwd)
build=$(cd "${1:?usage: talloc.sh BUILD}" && pwd)
work=$build/compat
seeds=40
[[ -z ${WEIR_TEST_QUICK-} ]] || seeds=8
[[ -z ${WEIR_TEST_LONG-} ]] || seeds=1000

command -v cc >/dev/null || skip "needs cc"
[[ -f $build/libweir.a ]] || skip "needs the static library"
mkdir -p "$work"
cc -O1 -g -w talloc_trace.c -ltalloc -o "$work/trace-talloc" 2>/dev/null ||
	skip "needs libtalloc-dev"
cc -O1 -g -std=gnu17 -Wall -Wextra -Werror -DTRACE_WEIR -I"$root/include" \
	talloc_trace.c "$build/libweir.a" -lpthread -o "$work/trace-weir" ||
	fail "the trace does not build over weir"

lines=0
for ((seed = 1; seed <= seeds; seed++)); do
	for which in talloc weir; do
		timeout 60 "$work/trace-$which" "$seed" 2000 \
			>"$work/$which.trace" || fail "seed $seed: $which ended with $?"
	done
	cmp "$work/talloc.trace" "$work/weir.trace" || {
		diff "$work/talloc.trace" "$work/weir.trace" | head -n 6 >&2
		fail "seed $seed: weir differs from talloc"
	}
	lines=$((lines + $(wc -l <"$work/weir.trace")))
done
((lines > seeds * 300)) || fail "only $lines lines were compared"
echo "talloc over weir: $seeds seeds, $lines lines, all as talloc's"
