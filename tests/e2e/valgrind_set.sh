#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: tests/e2e/valgrind_set.sh BUILD
#
# In mode full valgrind is told where objects begin: a decision taken on memory
# of a pool that was not written yet is reported, and the mended twin is not.
set -euo pipefail

build=${1:?usage: valgrind_set.sh BUILD}
runner=$build/tests/fault/fault_set

if ! command -v valgrind >/dev/null || [[ ! -x $runner ]]; then
	echo "skipped: no valgrind, or no $runner"
	exit 77
fi
if [[ ${WEIR_CONFIG-release} != release ]]; then
	echo "skipped: once is enough, in the release configuration"
	exit 77
fi
"$runner" --knows D || exit 77

# @program, bug or twin, what valgrind's exit status is to be.
expect() {
	local status=0

	WEIR_GUARD=full valgrind -q --error-exitcode=9 "$runner" \
		--run "$1" "$2" >/dev/null 2>"$work" || status=$?
	if ((status != $3)) || { ((status)) &&
		! grep -q "depends on uninitialised value" "$work"; }; then
		echo "FAIL $1 $2: exit status $status, not $3"
		cat "$work"
		exit 1
	fi
	echo "ok   $1 $2"
}

work=$(mktemp)
trap 'rm -f "$work"' EXIT
expect cache_read_unset twin 0
expect cache_read_unset bug 9
