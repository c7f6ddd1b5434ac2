/* SPDX-License-Identifier: MIT */
/*
 * runtime.c - start, end, budget and fork of the library as a whole.
 *
 * Nothing has to be called: the first use of any pool asks for the options,
 * and finding them calls weiri_start() below.  There is no constructor, since
 * one would run in programs that merely link the library, and before those
 * that call weir_init() could do so.
 *
 * Around fork every lock of the library is taken, in the order in which calls
 * nest them, so that the child finds each structure whole:
 *
 *     helper -> registry -> each pool -> list of threads -> each depot
 *            -> pages -> config -> guard
 *
 * The child gives them back in the opposite order, because taking over what
 * the other threads held needs the page supply.
 *
 * Ending is a statement, not a demolition: exit handlers and destructors of
 * static objects may still free, and the system takes the memory back anyway.
 */
#include "config/config.h"
#include "config/invalid.h"
#include "guard/guard.h"
#include "os/os.h"
#include "pages/budget.h"
#include "pages/pages.h"
#include "pools/heap.h"
#include "pools/region_watch.h"
#include "runtime/maintain.h"
#include "slab/local.h"
#include "watch/registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool runtime_ended; /* weir_shutdown() has said what there is to say */

/* ---- fork ---------------------------------------------------------------- */

static void
runtime_fork_prepare(void)
{
	weiri_maintain_fork_lock();
	weiri_registry_fork_lock();
	weiri_local_fork_lock();
	weiri_pages_fork_lock();
	weiri_config_fork_lock();
	weiri_guard_fork_lock();
}

static void
runtime_fork_parent(void)
{
	weiri_guard_fork_unlock();
	weiri_config_fork_unlock();
	weiri_pages_fork_unlock();
	weiri_local_fork_unlock();
	weiri_registry_fork_unlock();
	weiri_maintain_fork_unlock();
}

static void
runtime_fork_child(void)
{
	weiri_guard_fork_child();
	weiri_config_fork_unlock();
	weiri_pages_fork_child();
	weiri_local_fork_child();
	weiri_registry_fork_child();
	weiri_maintain_fork_child();
	/* What is out here is the parent's to report. */
	WEIRI_STORE(&runtime_ended, true);
	weiri_local_fork_tell();
}

static void runtime_at_exit(void);

static void
runtime_install(void)
{
	static const char line[] =
	    "weir: error: no fork handlers for want of memory; children of "
	    "this process must not use pools\n";

	/* Not by weiri_message(), which would start the library again. */
	if (weiri_os_at_fork(runtime_fork_prepare, runtime_fork_parent,
		runtime_fork_child) != 0)
		weiri_os_write_error(line, sizeof(line) - 1);
	/* Without it a program that never says weir_shutdown() gets no report,
	 * which is what a failing atexit() leaves. */
	(void)atexit(runtime_at_exit);
}

void
weiri_start(void)
{
	static weiri_once once = WEIRI_ONCE_INITIALIZER;

	weiri_os_once(&once, runtime_install);
}

/* ---- start and options ---------------------------------------------------- */

int
weir_init(const struct weir_config *config)
{
	return weiri_config_set(config);
}

size_t
weir_options_text(char *buffer, size_t bytes)
{
	struct weiri_text text = {buffer, bytes, 0};

	weiri_config_text(&text);
	return text.used;
}

int
weir_set_limit(uint64_t limit_bytes, uint64_t soft_bytes)
{
	(void)weiri_config(); /* or a later start would undo this */

	if (weiri_budget_set(limit_bytes, soft_bytes) != 0)
		return weiri_invalid(&(struct weiri_invalid){
		    .call = "weir_set_limit",
		    .field = "soft_bytes",
		    .value = soft_bytes,
		    .allowed = "at most limit_bytes, %u, or UINT64_MAX for "
			       "none",
		    .bound = {limit_bytes},
		});
	weiri_config_set_limits(limit_bytes, soft_bytes);
	return 0;
}

/* ---- idle memory ---------------------------------------------------------- */

/*
 * Pools give to the page supply, which passes some of it to the system at once
 * and the rest when told to: only the charge knows the sum.  What other threads
 * take meanwhile is missing from it.
 */
size_t
weir_trim(void)
{
	struct weiri_budget_figures before, after;

	weiri_budget_read(&before);
	(void)weiri_pool_trim_all();
	(void)weiri_pages_trim();
	weiri_budget_read(&after);
	if (after.charged_bytes >= before.charged_bytes)
		return 0;
	return (size_t)(before.charged_bytes - after.charged_bytes);
}

/* ---- the end --------------------------------------------------------------- */

struct runtime_leaks {
	uint64_t objects;
	bool report;
	char told[WEIRI_NAME_BYTES]; /* buffer pool reported as not destroyed */
};

static void
runtime_report_objects(
    struct weiri_text *text, const struct weir_pool_stats *stats)
{
	weiri_text_u64(text, stats->in_use);
	weiri_text_str(text, stats->in_use == 1 ? " object, " : " objects, ");
	weiri_text_u64(text, stats->bytes_in_use);
	weiri_text_str(text, stats->bytes_in_use == 1 ? " byte" : " bytes");
}

/*
 * Of pools with nothing out only those are told that a program destroys: kinds
 * of regions and the default heap live as long as the process, and the tiers of
 * a buffer pool, named pool/bytes, are one pool.
 */
static bool
runtime_tells(struct runtime_leaks *leaks, struct weir_pool_stats *stats)
{
	char *slash;

	if (stats->in_use > 0)
		return true;
	if (stats->kind == WEIR_POOL_REGION ||
	    stats->id == weiri_heap_default.pool.id)
		return false;
	if (stats->kind != WEIR_POOL_BUFFER)
		return true;
	slash = strrchr(stats->name, '/');
	if (slash != NULL)
		*slash = '\0';
	if (strcmp(leaks->told, stats->name) == 0)
		return false;
	memcpy(leaks->told, stats->name, sizeof(leaks->told));
	return true;
}

static void
runtime_report_leak(const struct weir_pool_stats *stats)
{
	char line[256];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "leak: ");
	weiri_text_str(&text, weiri_pool_kind_text(stats->kind));
	weiri_text_str(&text, " \"");
	weiri_text_str(&text, stats->name);
	weiri_text_str(&text, "\": ");
	if (stats->in_use == 0)
		weiri_text_str(&text, "not destroyed");
	else
		runtime_report_objects(&text, stats);
	weiri_message(WEIR_MESSAGE_WARNING, line);
}

static bool
runtime_count_leaks(struct weiri_pool *pool, void *context)
{
	struct runtime_leaks *leaks = context;
	struct weir_pool_stats stats;

	if (pool->internal)
		return true;
	weiri_pool_stats(pool, &stats);
	leaks->objects += stats.in_use;
	if (leaks->report && runtime_tells(leaks, &stats))
		runtime_report_leak(&stats);
	return true;
}

static uint64_t
runtime_take_stock(void)
{
	struct runtime_leaks leaks = {
	    .report = (weiri_config()->flags & WEIR_REPORT_LEAKS) != 0,
	};

	weiri_pool_walk(runtime_count_leaks, &leaks);
	if (leaks.report) {
		weiri_region_report_leaks();
		(void)weir_guard_leaks(WEIR_LEAKS_ALL, NULL, NULL);
	}
	return leaks.objects;
}

uint64_t
weir_shutdown(void)
{
	weir_maintain_stop();
	(void)weir_trim();
	WEIRI_STORE(&runtime_ended, true);
	return runtime_take_stock();
}

/*
 * Only where asked for, only in the process that started the library, and with
 * nothing of the program: what a message hook needs may have ended already.
 */
static void
runtime_at_exit(void)
{
	if (WEIRI_LOAD(&runtime_ended) || !weiri_config_started() ||
	    (weiri_config()->flags & WEIR_REPORT_LEAKS) == 0)
		return;
	weiri_config_forget_hooks();
	(void)runtime_take_stock();
}
