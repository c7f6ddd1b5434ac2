#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Counts the instructions of whole regions under callgrind and holds them against
# the limits below.
#
#     regions.sh PROGRAM
#
# PROGRAM is regions.c with the static library.  The counts are means over a
# thousand regions, everything called included.
# Of the functions that are called, none may be malloc()'s or a way to the
# system's memory: a region takes neither where its kind knows what it needs.
set -euo pipefail

program=$1

if ! command -v valgrind >/dev/null; then
	echo "skipped: valgrind is not installed, which counts instructions"
	exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The function, its limit, and what it may be in percent of the floor's: the same
# objects from a pointer that moves through a block.
budget() {
	cat <<-'END'
		request_turn          1300  134
		request_limit_turn    1320  136
		request_reset_turn    1215  125
		tiny_turn              272    -
		tiny_limit_turn        298    -
		tiny_reset_turn        200    -
		# a thousand objects each
		fastpath_turn        15700    -
		fastpath_reset_turn  15650    -
	END
}

failed=0
valgrind -q --tool=callgrind --toggle-collect=counted \
	--compress-strings=no --compress-pos=no \
	--callgrind-out-file="$work/out" "$program" >&2
awk '/^fn=/ { name = substr($0, 4); sub(/\..*/, "", name) }
	/^[0-9+*-]/ { sum[name] += $2 }
	END { for (name in sum) print name, sum[name] / 1000 }' \
	"$work/out" >"$work/counts"
budget | awk '
	NR == FNR { count[$1] = $2; next }
	/^#/ { next }
	{
		have = count[$1]
		verdict = "ok"
		if (have == "" || count["floor_turn"] == "")
			verdict = "NOT MEASURED"
		else if (have > $2)
			verdict = "the limit is " $2
		else if ($3 != "-" && have * 100 > count["floor_turn"] * $3)
			verdict = "the floor is " count["floor_turn"]
		printf "%-22s %9.1f  %s\n", $1, have, verdict
		bad += verdict != "ok"
	}
	END { exit bad != 0 }' "$work/counts" - || failed=1
sed -n 's/^cfn=//p' "$work/out" | sort -u >"$work/called"
grep -q '^weir_region_create' "$work/called" || {
	echo "nothing is known of what was called"
	failed=1
}
forbidden='^(malloc|calloc|realloc|free|aligned_alloc|posix_memalign)$'
forbidden+='|^(mmap|munmap|mremap|madvise|brk|sbrk)|^weiri_(pages|span)_'
if grep -E "$forbidden" "$work/called"; then
	echo "is called by regions whose kind knows what they need"
	failed=1
fi
exit "$failed"
