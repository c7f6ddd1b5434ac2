#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Counts the instructions of the hot calls of caches and heaps under callgrind and holds
# them against the budget below: linked statically, shared, and loaded by name.
#
#     run.sh COMPILER STATIC SHARED DLOPEN LIBRARY
#
# COMPILER is CMake's name and version of it, the others are the programs made
# of calls.c and libweir.so.  The counts are exact for the compiler they were
# taken with: more is a regression, less is a gain to be written down.  Another
# compiler has to stay below the limit.
set -euo pipefail

compiler=$1 static=$2 shared=$3 dlopen=$4 library=$5
[[ $compiler == "GNU 12."* ]] && exact=1 || exact=0

if ! command -v valgrind >/dev/null; then
	echo "skipped: valgrind is not installed, which counts instructions"
	exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What callgrind calls it, the exact count or -, the limit, and instructions that
# are not the call's: of those in line, the return and the use of the object.
budget() {
	cat <<-'END'
		# one object, through a call
		weir_cache_alloc'batch_alloc           11    14
		weir_cache_free'batch_free             12    14
		weir_cache_alloc'word_alloc            18    24
		weir_cache_free'word_free              26    38
		weir_cache_alloc'table_alloc           23    34
		weir_cache_free'table_free             30    47
		weir_cache_alloc'byte_alloc            83   120
		weir_cache_free'byte_free              91   130
		# in line
		batch_alloc_at'                         8    10  -1
		batch_free_at'                          8    10  -2
		word_alloc_at'                         15    21  -1
		word_free_at'                          24    36  -2
		table_alloc_at'                        20    30  -1
		table_free_at'                         28    44  -2
		# a heap: its size known when the program runs, or compiled
		weir_alloc'heap_alloc                  24    30
		weir_free'heap_free                    28    40
		weir_alloc_class'constant_alloc        24    30
		weir_free_sized'constant_free          38    60
		weir_alloc'default_batch_alloc         24    30
		weir_free'default_batch_free           26    40
		weir_heap_alloc'heap_each_alloc        25    30
		weir_heap_free'heap_each_free          38    60
		weir_heap_alloc'heap_batch_alloc       25    30
		weir_heap_free'heap_batch_free         24    40
		# handles
		weir_cache_alloc'handles_alloc         18    24
		weir_cache_free'handles_free          104   135
		weir_cache_handle'handles_make         61    80
		weir_cache_resolve'handles_good        29    34
		weir_cache_resolve'handles_stale       27    32
		# many at once, for all of them; the C library's memcpy()
		# depends on the processor
		weir_cache_alloc_bulk'batch8_alloc      -    85
		weir_cache_free_bulk'batch8_free        -   150
		weir_cache_alloc_bulk'batch32_alloc     -   105
		weir_cache_free_bulk'batch32_free       -   350
		weir_cache_alloc_bulk'word8_alloc       -   140
		weir_cache_free_bulk'word8_free         -   270
		weir_cache_alloc_bulk'word32_alloc      -   310
		weir_cache_free_bulk'word32_free        -   800
		# with a visit to the depot, whose way depends on who was there
		weir_cache_alloc_bulk'batch126_alloc    -   700
		weir_cache_free_bulk'batch126_free      -  1500
		weir_cache_alloc_bulk'word126_alloc     -  1500
		weir_cache_free_bulk'word126_free       -  3300
	END
}

# PROGRAM [ARGUMENT]: a line for each function and caller, with the count of a
# round, what it called in it.
count() {
	valgrind -q --tool=callgrind --separate-callers=1 \
		--compress-strings=no --compress-pos=no \
		--callgrind-out-file="$work/out" "$@" >&2
	awk '/^fn=/ { name = substr($0, 4) }
		/^[0-9]/ { sum[name] += $2 }
		END { for (name in sum) print name, sum[name] / 1000 }' \
		"$work/out"
}

failed=0
measure() {
	local how=$1
	shift
	count "$@" >"$work/counts"
	BUDGET_DEFAULT_BATCH=1 count "$@" >>"$work/counts"
	budget | awk -v how="$how" -v exact="$exact" '
		NR == FNR { count[$1] = $2; next }
		/^#/ { next }
		{
			name = $1
			have = ""
			for (c in count)
				if (c == name || (name ~ /\x27$/ && index(c, name) == 1))
					have = count[c] + $4
			if (have == "" && how == "dlopen" && name ~ /_at/)
				next
			verdict = "ok"
			if (have == "")
				verdict = "NOT MEASURED"
			else if (exact && $2 != "-" && have != $2)
				verdict = "the budget is " $2
			else if (have > $3)
				verdict = "the limit is " $3
			printf "%-7s %-38s %7s  %s\n", how, name, have, verdict
			bad += verdict != "ok"
		}
		END { exit bad != 0 }' "$work/counts" - || failed=1
}

measure static "$static"
measure shared "$shared"
measure dlopen "$dlopen" "$library"
exit $failed
