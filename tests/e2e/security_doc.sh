#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: tests/e2e/security_doc.sh BUILD [--write]
#
# The table of what is found in docs/SECURITY-MODEL.md is what the set of
# one-bug programs measures.  --write puts the result of BUILD there, for when
# more, or something else, is found than before.
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
