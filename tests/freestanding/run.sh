#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: tests/freestanding/run.sh ARCHIVE PROGRAM COMPILER
#
# ARCHIVE is the pools compiled freestanding, PROGRAM start.c linked with it and
# nothing else.  The archive may ask for mem* and for nothing else; the program
# must do its work; on x86 a free is one locked instruction and no loop of them;
# and the same sources pass as 32-bit code where COMPILER makes that.
set -euo pipefail

archive=$1 program=$(realpath "$2") compiler=$3
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# needs_only_mem FILE: what it does not define itself is mem* and no more.
needs_only_mem() {
	local all others
	all=$(comm -23 \
		<(nm -u "$1" | awk 'NF == 2 { print $2 }' | sort -u) \
		<(nm --defined-only "$1" | awk 'NF == 3 { print $3 }' |
			sort -u))
	others=$(grep -vxE 'mem(cpy|set|move|cmp)' <<<"$all" || true)
	[[ -z $others ]] || fail "$1 needs ${others//$'\n'/ }"
	echo "$(basename "$1") needs: ${all//$'\n'/ }"
}

# locked FUNCTION: "locked instructions, compare-exchanges" of its code.
locked() {
	objdump -d --no-show-raw-insn "$archive" | awk -v name="<$1>:" '
		/^[0-9a-f]+ </ { inside = ($2 == name); seen += inside }
		inside && /\tlock / { locks++ }
		inside && /cmpxchg/ { loops++ }
		END { print seen + 0, locks + 0, loops + 0 }'
}

needs_only_mem "$archive"
! nm "$program" | grep -qE '^ +[Uw] ' || fail "$program has open symbols"
"$program" || fail "$program: check in line $? of start.c (modulo 256)"
echo "$(basename "$program"): ok"

if [[ $(uname -m) == x86_64 ]]; then
	[[ $(locked weir_bounded_free) == "1 1 0" ]] ||
		fail "weir_bounded_free is not one locked instruction"
	[[ $(locked weir_bounded_try_free) == "1 1 0" ]] ||
		fail "weir_bounded_try_free is not one locked instruction"
	read -r _ locks loops <<<"$(locked weir_bounded_alloc_hint)"
	((locks > 0 && loops == 0)) ||
		fail "weir_bounded_alloc_hint has a loop of compare-exchanges"
	echo "free: one locked instruction; alloc: no loop of them"

	if "$compiler" -m32 -std=c17 -O2 -ffreestanding -nostdlib -static \
		-fno-pic -fno-stack-protector -Wall -Wextra -Werror \
		-I "$root/include" -I "$root/src" -o "$work/start32" \
		"$here/start.c" "$root/src/pools/bounded.c" \
		"$root/src/pools/bounded_layout.c" \
		"$root/src/pools/region_alone.c" \
		"$root/src/pools/region_fixed.c" \
		2>"$work/errors"; then
		status=0
		"$work/start32" || status=$?
		if [[ $status == 126 ]]; then
			echo "32-bit: builds; this kernel does not run it"
		elif [[ $status != 0 ]]; then
			fail "32-bit: check in line $status of start.c"
		else
			echo "32-bit: ok"
		fi
	elif grep -qE 'pools/(bounded|region)|start\.c' "$work/errors"; then
		cat "$work/errors" >&2
		fail "32-bit: does not compile"
	else
		echo "32-bit: this compiler does not make it"
	fi
fi
