/* SPDX-License-Identifier: MIT */
/*
 * proc.c - see proc.h.
 */
#include "proc.h"

#include "test.h"

#include <stdio.h>
#include <unistd.h>

static FILE *
proc_open(const char *path)
{
	FILE *file = fopen(path, "re");

	if (file == NULL)
		SKIP("no %s", path);
	return file;
}

uint64_t
test_mapped_bytes(void)
{
	FILE *maps = proc_open("/proc/self/maps");
	char line[4500]; /* the longest path, and what is before it */
	unsigned long from, to;
	uint64_t sum = 0;

	while (fgets(line, sizeof(line), maps) != NULL)
		if (sscanf(line, "%lx-%lx", &from, &to) == 2)
			sum += to - from;
	CHECK_EQ(fclose(maps), 0);
	return sum;
}

bool
test_owns_memory(void)
{
	(void)test_mapped_bytes();
	return !TEST_ASAN && !TEST_TSAN && !test_under_valgrind();
}

uint64_t
test_resident_bytes(void)
{
	FILE *statm = proc_open("/proc/self/statm");
	unsigned long pages;

	CHECK_EQ(fscanf(statm, "%*u %lu", &pages), 1);
	CHECK_EQ(fclose(statm), 0);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
