/* SPDX-License-Identifier: MIT */
/*
 * guard.c - a change of the guard's mode, and the threads it has to reach.
 *
 * The guard knows pools and objects but no magazines.  What threads have loaded
 * is called back, as for a limit that was lowered: each gives its own up when it
 * next comes to the slow path, or says that it has time.  Pools that keep something
 * back for the guard's sake are told, too.
 */
#include "guard/guard.h"
#include "slab/local.h"
#include "watch/registry.h"

static void
guard_tell(void)
{
	weiri_local_recall_all();
	weiri_pool_guard_all();
}

int
weir_debug_set(const char *menu)
{
	int error = weiri_debug_apply(menu);

	if (error == 0)
		guard_tell();
	return error;
}

int
weir_guard_set(const struct weir_guard_config *config)
{
	int error = weiri_guard_apply(config);

	if (error == 0)
		guard_tell();
	return error;
}
