#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Runs the suite with everything under guard, where a program that is correct
# must not notice.
#
#     suite.sh BUILD MODE        MODE as in WEIR_GUARD: full, sample:1
#
# A report outside of a test that expects one fails, and so does a test that is
# not in exempt.txt: there are those that claim what cannot hold under guard, each
# with the reason.  One that is listed and passes is no mistake, since some of them
# depend on the machine.
set -euo pipefail

build=$1 mode=$2
here=$(dirname "$0")
programs=(buffer buffer_share buffer_threads buffer_wait buffer_watch
	broadcast chain chunk
	cache cache_bulk cache_handle cache_limit cache_visit heap
	heap_limit heap_threads region region_blocks region_budget
	region_cleanup region_kind region_mark region_resize region_text
	region_threads region_vec region_watch)
failed=0

# A test's name and a reason, a line; comments begin with #.
exempt() {
	grep -q "^$1 " "$here/exempt.txt"
}

for program in "${programs[@]}"; do
	output=$(WEIR_GUARD=$mode WEIR_TEST_QUICK=1 \
		"$build/tests/unit/test_$program" 2>&1 || true)
	while read -r name; do
		exempt "$name" && continue
		echo "FAIL test_$program, $mode: $name"
		grep -F "$name" <<<"$output" || true
		failed=1
	done < <(sed -n 's/^FAIL \([^:]*\):.*/\1/p' <<<"$output")
	if grep '^weir: FAULT' <<<"$output" >&2; then
		# A test that is exempt may end by one.
		grep -q '^FAIL .*killed by signal' <<<"$output" || failed=1
		echo "a report in test_$program, $mode"
	fi
	tail -n 1 <<<"$output" | sed "s/^/test_$program: /"
done
exit $failed
