/* SPDX-License-Identifier: MIT */
/*
 * bench_net_limits.c - that no limit is passed is a test, not a measurement: it
 * is run here, and its verdict is a row of the figures.
 *
 * The test (tests/model/test_limits_kernel_model.c) has both back ends, and
 * io_uring without each of its features, go through random steps over a kernel
 * that is simulated, with failures of it and of memory.  It is built with the
 * others, beside the tool; each of its cases prints a line of what it looked at,
 * and a byte above a limit ends it.
 */
#include "bench_net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMITS_PROGRAM "tests/model/test_limits_kernel_model"
#define LIMITS_PATH_BYTES 4096
#define LIMITS_STEPS UINT64_C(10000000) /* in all cases together */

struct limits_sum {
	uint64_t cases, steps, looks, near;
};

/* Beside the tool that runs; false: there is none. */
static bool
limits_path(char *path)
{
	ssize_t bytes = readlink("/proc/self/exe", path, LIMITS_PATH_BYTES - 1);
	char *slash;

	if (bytes <= 0)
		return false;
	path[bytes] = '\0';
	slash = strrchr(path, '/');
	if (slash == NULL ||
	    (size_t)(slash - path) + sizeof(LIMITS_PROGRAM) + 1 >
		LIMITS_PATH_BYTES)
		return false;
	memcpy(slash + 1, LIMITS_PROGRAM, sizeof(LIMITS_PROGRAM));
	return access(path, X_OK) == 0;
}

/* The number that ends where @unit begins; 0 without one. */
static uint64_t
limits_number(const char *line, const char *unit)
{
	const char *end = strstr(line, unit);

	if (end == NULL)
		return 0;
	while (end > line && end[-1] >= '0' && end[-1] <= '9')
		end--;
	return strtoull(end, NULL, 10);
}

/* "limits CASE: N steps, N looks, N near a limit, ..." */
static void
limits_line(const char *line, struct limits_sum *sum)
{
	if (strncmp(line, "limits ", 7) != 0)
		return;
	sum->cases++;
	sum->steps += limits_number(line, " steps");
	sum->looks += limits_number(line, " looks");
	sum->near += limits_number(line, " near a limit");
}

/* Its exit status, or -1. */
static int
limits_run(const char *path, bool quick, struct limits_sum *sum)
{
	char command[LIMITS_PATH_BYTES + 64];
	char line[512];
	FILE *output;
	int status;

	/* A quoted path: a build directory has no quotes in its name. */
	snprintf(command, sizeof(command), "%s=1 '%s' 2>/dev/null",
	    quick ? "WEIR_TEST_QUICK" : "WEIR_TEST_LONG", path);
	output = popen(command, "r");
	if (output == NULL)
		return -1;
	while (fgets(line, sizeof(line), output) != NULL)
		limits_line(line, sum);
	status = pclose(output);
	return status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void
bench_net_limits(struct bench_net *net)
{
	struct limits_sum sum = {0};
	char path[LIMITS_PATH_BYTES];
	char what[BENCH_UNIT_BYTES];
	struct bench_net_figure figure = {
	    .name = "N12",
	    .peer = "weir",
	    .what = what,
	    .unit = "B",
	    .target = 0,
	    .why = "a byte above, or the test did not run: script/test",
	};

	snprintf(
	    what, sizeof(what), "bytes above a limit in 10^7 random steps");
	if (!limits_path(path))
		figure.why = "not built: " LIMITS_PROGRAM;
	else if (limits_run(path, net->quick, &sum) == 0 && sum.near > 0)
		figure.value = bench_net_single(0, (unsigned)sum.cases);
	if (sum.steps > 0) {
		if (sum.steps < LIMITS_STEPS)
			snprintf(what, sizeof(what),
			    "bytes above a limit in %" PRIu64 " random steps",
			    sum.steps);
		bench_net_row(net, "limits", "weir", "steps", "",
		    bench_net_single((double)sum.steps, 1));
		bench_net_row(net, "limits", "weir", "near_a_limit", "looks",
		    bench_net_single((double)sum.near, 1));
	}
	bench_net_add(net, &figure);
}
