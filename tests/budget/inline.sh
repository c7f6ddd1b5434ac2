#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Counts what the inline calls of regions are made of under callgrind -
# instructions, loads, stores, branches - and holds that against what
# weir/region.h says of them.
#
#     inline.sh PROGRAM
#
# PROGRAM is inline.c with the static library.  The return of the function around
# each call, an instruction that loads, is not the call's and not counted.
set -euo pipefail

program=$1

if ! command -v valgrind >/dev/null; then
	echo "skipped: valgrind is not installed, which counts instructions"
	exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The function; its instructions, loads, stores and branches at most.
budget() {
	cat <<-'END'
		inline_alloc          8 2 1 1
		inline_constant       7 2 1 1
		inline_aligned        9 2 1 1
		inline_aligned_any   13 2 1 2
	END
}

valgrind -q --tool=callgrind --cache-sim=yes --branch-sim=yes \
	--toggle-collect=counted --compress-strings=no --compress-pos=no \
	--callgrind-out-file="$work/out" "$program" >&2
# Columns by their names; a line leaves out zeros at its end.
awk '/^events:/ { for (i = 2; i <= NF; i++) at[$i] = i }
	/^fn=/ { name = substr($0, 4); sub(/[.\x27].*/, "", name) }
	/^[0-9+*-]/ {
		split("Ir Dr Dw Bc", want, " ")
		for (i = 1; i <= 4; i++)
			sum[name, i] += $at[want[i]]
		seen[name] = 1
	}
	END {
		for (name in seen)
			print name, sum[name, 1] / 1000, sum[name, 2] / 1000,
				sum[name, 3] / 1000, sum[name, 4] / 1000
	}' "$work/out" >"$work/counts"
budget | awk '
	NR == FNR {
		for (i = 2; i <= 5; i++)
			count[$1, i] = $i
		have[$1] = 1
		next
	}
	{
		verdict = "ok"
		line = ""
		for (i = 2; i <= 5; i++) {
			is = count[$1, i] - (i <= 3)
			line = line sprintf(" %8.2f", is)
			if (is > $i)
				verdict = "the limits are " $2 " " $3 " " $4 " " $5
		}
		# An object is written down somewhere.
		if (!have[$1] || count[$1, 4] < 1)
			verdict = "NOT MEASURED"
		printf "%-20s%s  %s\n", $1, line, verdict
		bad += verdict != "ok"
	}
	END { exit bad != 0 }' "$work/counts" -
