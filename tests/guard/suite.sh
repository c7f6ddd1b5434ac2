#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Runs the suite with everything under guard, where a program that is correct
# must not notice.
#
#     suite.sh BUILD MODE        MODE as in WEIR_GUARD: full, sample:1
#
# All programs of the unit, model and torture tests run but two, two at a time.  One
# that fails fails, and so does a report outside of a test that expects one.  A test of
# what cannot hold under guard says so itself (NOT_UNDER_GUARD in
# tests/support/test.h); it is told here with its reason.
set -euo pipefail

build=$1 mode=$2
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT

# These cause reports in the open, to look at what comes after them.
reports=(test_fault test_guard test_guard_buddy test_guard_ready test_guard_state
	test_guard_vm)

# The debug menu is for pools in mode off; these two put things on it.
apart=(test_guard_menu test_guard_menu_fail)

# The longest first, so that none is left alone at the end.
first=(test_maintain test_cache_wait test_shards test_net_slow)

programs() {
	local program path

	for program in "${first[@]}"; do
		ls "$build"/tests/{unit,torture}/"$program" 2>/dev/null || true
	done
	for path in "$build"/tests/{unit,model,torture}/test_*; do
		[[ " ${first[*]} ${apart[*]} " == *" ${path##*/} "* ]] ||
			echo "$path"
	done
}

# shellcheck disable=SC2317 # run by xargs
run() {
	local name=${1##*/} status=0

	WEIR_GUARD=$mode WEIR_TEST_QUICK=1 WEIR_BUILD=$build timeout 200 "$1" \
		>"$output/$name" 2>&1 || status=$?
	echo "$status" >"$output/$name.status"
}
export -f run
export build mode output

programs | xargs -P 2 -I {} bash -c 'run {}'

failed=0 passed=0
for file in "$output"/*.status; do
	file=${file%.status}
	name=${file##*/}
	status=$(<"$file.status")
	if [[ $status != 0 && $status != 77 ]]; then
		echo "FAIL $name, $mode: status $status"
		tail -n 40 "$file"
		failed=1
	fi
	if grep -q '^weir: FAULT' "$file" &&
		[[ " ${reports[*]} " != *" $name "* ]]; then
		echo "FAIL $name, $mode: a report"
		grep '^weir: FAULT' "$file"
		failed=1
	fi
	grep '^skip .*under guard' "$file" | sed "s/^/$name: /" || true
	passed=$((passed + $(grep -c '^ok ' "$file" || true)))
done
echo "$passed tests passed, $mode"
exit $failed
