#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: tests/e2e/statistics_doc.sh BUILD [--write]
#
# The example output in docs/STATISTICS.md is what examples/statistics writes,
# letter for letter.  --write puts the output of BUILD there, for when a figure
# or a layout was meant to change.
set -euo pipefail

build=${1:?usage: statistics_doc.sh BUILD [--write]}
doc=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/docs/STATISTICS.md
example=$build/examples/statistics
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ ! -x $example ]]; then
	echo "skipped: no $example (WEIR_EXAMPLES is off)"
	exit 77
fi
# A page of the system that is not 4 KiB moves every figure of memory.
if [[ $(getconf PAGESIZE) != 4096 ]]; then
	echo "skipped: pages of $(getconf PAGESIZE) bytes"
	exit 77
fi

# The fence after the marker: "shown" prints its lines, "fill" replaces them.
block() {
	awk -v mode="$1" -v from="$work/real" '
		/^<!-- output: examples\/statistics -->$/ { armed = 1 }
		inside && /^```$/ { inside = 0 }
		mode == "shown" && inside
		mode == "fill" && !inside
		armed && /^```text$/ {
			armed = 0
			inside = 1
			if (mode == "fill")
				while ((getline line < from) > 0)
					print line
		}' "$doc"
}

"$example" >"$work/real"
if [[ ${2-} == --write ]]; then
	block fill >"$work/doc"
	cat "$work/doc" >"$doc"
fi
block shown >"$work/shown"
if [[ ! -s $work/shown ]]; then
	echo "FAIL $doc has no block after <!-- output: examples/statistics -->"
	exit 1
fi
if ! diff -u --label "docs/STATISTICS.md" --label "examples/statistics" \
	"$work/shown" "$work/real"; then
	echo "FAIL the example in docs/STATISTICS.md is out of date; run"
	echo "     tests/e2e/statistics_doc.sh BUILD --write"
	exit 1
fi
echo "ok   docs/STATISTICS.md shows what examples/statistics writes"
