#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: tests/e2e/security_doc.sh BUILD [--write]
#
# The table of what is found in docs/SECURITY-MODEL.md is what the set of
# one-bug programs measures.  --write puts the result of BUILD there, for when
# more, or something else, is found than before.
#
# The table of what the tools find takes minutes to measure.  Here it is only
# looked at whether it is of the set as it is: each row of as many bugs, and the
# sums those of the rows.  A long run has valgrind's column measured.
set -euo pipefail

build=${1:?usage: security_doc.sh BUILD [--write]}
doc=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/docs/SECURITY-MODEL.md
runner=$build/tests/fault/fault_set
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ ! -x $runner ]]; then
	echo "skipped: no $runner"
	exit 77
fi
# A sanitizer stops some of the bugs before the library is asked; a debug build
# asks more, such as whose thread it is.
case ${WEIR_CONFIG-} in
debug)
	echo "skipped: the page is about release builds"
	exit 77
	;;
*asan* | *tsan*)
	echo "skipped: ${WEIR_CONFIG} leaves programs out"
	exit 77
	;;
esac

# Between the markers: "shown" prints the lines, "fill" replaces them.
block() {
	awk -v mode="$1" -v from="$work/real" '
		/^<!-- \/output -->$/ { inside = 0 }
		mode == "shown" && inside
		mode == "fill" && !inside
		/^<!-- output: fault_set --table -->$/ {
			inside = 1
			if (mode == "fill")
				while ((getline line < from) > 0)
					print line
		}' "$doc"
}

"$runner" --table >"$work/real"
if [[ ${2-} == --write ]]; then
	block fill >"$work/doc"
	cat "$work/doc" >"$doc"
fi
block shown >"$work/shown"
if ! diff -u --label "docs/SECURITY-MODEL.md" --label "fault_set --table" \
	"$work/shown" "$work/real"; then
	echo "FAIL the table in docs/SECURITY-MODEL.md is out of date; run"
	echo "     tests/e2e/security_doc.sh BUILD --write"
	exit 1
fi
echo "ok   docs/SECURITY-MODEL.md shows what the set measures"

# Each row of the other table: text, found by the one, of, by the other, of.
tools() {
	awk -F ' *[|] *' '
		/^\| bug \| AddressSanitizer \| Valgrind \|$/ { inside = 1; next }
		/^$/ { inside = 0 }
		inside && !/---/ {
			gsub(/[*]/, "")
			split($3, one, " of ")
			split($4, other, " of ")
			print $2 "|" one[1] "|" one[2] "|" other[1] "|" other[2]
		}' "$doc"
}

tools >"$work/tools"
"$runner" --rows | tr -d '*' >"$work/rows"
if ! awk -F '|' '
	function bad(what) { print "FAIL " what; failed = 1 }
	NR == FNR { bugs[$1] = $2; next }
	$1 == "all" {
		if ($2 != found1 || $4 != found2)
			bad("the rows do not add up to those of all")
	}
	$1 ~ /^reported of .* programs without a bug$/ {
		split($1, words, " ")
		if (words[3] != bugs["programs"])
			bad("there are " bugs["programs"] " programs without a bug")
	}
	$1 in bugs {
		seen[$1] = 1
		if ($3 != bugs[$1] || $5 != bugs[$1])
			bad("of \"" $1 "\" there are " bugs[$1])
		if ($2 > $3 || $4 > $5)
			bad("more than all are found in \"" $1 "\"")
		found1 += $2
		found2 += $4
	}
	END {
		for (row in bugs)
			if (row != "programs" && !(row in seen))
				bad("no row \"" row "\"")
		exit failed
	}' "$work/rows" "$work/tools"; then
	echo "     in docs/SECURITY-MODEL.md, under AddressSanitizer, Valgrind:"
	echo "     measure it anew with fault_set --tool asan|valgrind"
	exit 1
fi
echo "ok   its table of the tools is of the set as it is"

if [[ -n ${WEIR_TEST_LONG-} ]] && command -v valgrind >/dev/null; then
	"$runner" --tool valgrind | sed -n 's/^| \(.*\) | \([0-9]* of [0-9]*\) |$/\1|\2/p' \
		>"$work/real"
	awk -F '|' '$1 in rows { print $1 "|" $4 " of " $5 }
		NR == FNR { rows[$1] = 1 }' "$work/rows" "$work/tools" |
		grep -v '^all|' >"$work/shown"
	if ! diff -u --label "docs/SECURITY-MODEL.md" \
		--label "fault_set --tool valgrind" "$work/shown" "$work/real"; then
		echo "FAIL valgrind's column in docs/SECURITY-MODEL.md is out of date"
		exit 1
	fi
	echo "ok   and valgrind finds so many"
fi
