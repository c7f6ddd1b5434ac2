/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - a scenario once for each of its requests to the system, which fails.
 */
#ifndef OOM_SWEEP_H
#define OOM_SWEEP_H

#include "support/test.h"

#include "os/os.h"
#include "pages/pages.h"

#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

/* Runs to the end, or as far as memory allows: true if nothing was refused. */
typedef bool (*scenario_fn)(void);

static void
expect_nothing_kept(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	(void)weir_trim();
	CHECK(weiri_pages_check());
	CHECK_EQ(weir_stats_read(&stats), 0);
	CHECK_EQ(stats.bytes_in_spans, 0);
	CHECK_EQ(stats.bytes_charged,
	    stats.bytes_in_spans + stats.bytes_retained + stats.bytes_metadata);
}

/* Exit status: 0 the n-th call was reached, 3 it was not. */
static int
sweep_once(scenario_fn scenario, int64_t n, bool persistent)
{
	weiri_os_fail_nth(n, persistent);

	bool whole = scenario();
	bool reached = weiri_os_calls() >= n;

	weiri_os_fail_nth(0, false);
	CHECK(reached || whole);
	expect_nothing_kept();
	CHECK(scenario());
	expect_nothing_kept();
	return reached ? 0 : 3;
}

static WEIRI_UNUSED void
sweep(scenario_fn scenario, bool persistent)
{
	int64_t n = 1;

	for (;; n++) {
		int status;
		pid_t child = fork();

		CHECK_NE(child, -1);
		if (child == 0)
			_exit(sweep_once(scenario, n, persistent));
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFEXITED(status));
		if (WEXITSTATUS(status) == 3)
			break;
		CHECK_EQ(WEXITSTATUS(status), 0);
		CHECK_LT(n, 10000);
	}
	/* A sweep that met no site would prove nothing. */
	CHECK_GT(n, 3);
}

#endif /* OOM_SWEEP_H */
