#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: run.sh FUZZ_OPS DIRECTORY
#
# Has libFuzzer look for an input that tells the pools from their shadow, for 10
# seconds, or 10 minutes with WEIR_TEST_LONG: from the kept inputs on, and from
# those that earlier runs here found.  An input that fails is left in DIRECTORY.
set -euo pipefail

program=$1
directory=$2/found
seconds=10
[[ -z ${WEIR_TEST_LONG:-} ]] || seconds=600
here=$(cd "$(dirname "$0")" && pwd)

mkdir -p "$directory"
# The pools' memory is the library's own: nothing for a leak checker to see.
export ASAN_OPTIONS=detect_leaks=0
exec "$program" -max_total_time="$seconds" -max_len=2048 -timeout=60 \
	-rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$2/" \
	"$directory" "$here/seeds"
