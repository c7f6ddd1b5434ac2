/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ops.c - ops_run() for libFuzzer, which looks for inputs that take the
 * library where none has been.
 *
 *     build/clang-hardened/tests/fuzz/fuzz_ops -max_total_time=600 tests/fuzz/seeds
 *
 * writes an input that fails to a file; given as the only argument, that file is
 * run alone, here and in test_ops.
 */
#include "ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	ops_run(data, bytes);
	return 0;
}
