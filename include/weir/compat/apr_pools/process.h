/* SPDX-License-Identifier: MIT */
/*
 * process.h - subprocesses that end with a pool; with APR alone.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_PROCESS_H
#define WEIR_COMPAT_APR_POOLS_PROCESS_H

#ifdef APR_POOLS_H

#define WEIR_APR_PATIENCE_US (3 * 1000 * 1000) /* from SIGTERM to SIGKILL */
#define WEIR_APR_LOOK_US (WEIR_APR_PATIENCE_US / 64)

struct weir_apr_process {
	struct weir_apr_process *next;
	apr_proc_t *process;
	apr_kill_conditions_e how;
};

void
apr_pool_note_subprocess(
    apr_pool_t *pool, apr_proc_t *process, apr_kill_conditions_e how)
{
	struct weir_apr_process *noted =
	    (struct weir_apr_process *)apr_palloc(pool, sizeof(*noted));

	if (noted == NULL)
		return;
	noted->process = process;
	noted->how = how;
	noted->next = pool->processes;
	pool->processes = noted;
}

/* Those that ended need nothing more; true if one of the patient ones runs. */
static bool
weir_apr_reap(struct weir_apr_process *list, bool all)
{
	bool waits = false;

	for (; list != NULL; list = list->next) {
		if (!all && list->how != APR_KILL_AFTER_TIMEOUT)
			continue;
		if (apr_proc_wait(list->process, NULL, NULL, APR_NOWAIT) !=
		    APR_CHILD_NOTDONE)
			list->how = APR_KILL_NEVER;
		else
			waits = true;
	}
	return waits;
}

static bool
weir_apr_terminate(struct weir_apr_process *list)
{
	bool waits = false;

	for (; list != NULL; list = list->next) {
		if (list->how == APR_KILL_ALWAYS)
			apr_proc_kill(list->process, SIGKILL);
		else if (list->how == APR_KILL_AFTER_TIMEOUT ||
			 list->how == APR_KILL_ONLY_ONCE)
			waits |= apr_proc_kill(list->process, SIGTERM) ==
				 APR_SUCCESS;
	}
	return waits;
}

static void
weir_apr_end_processes(struct weir_apr_process *list)
{
	apr_interval_time_t pause = WEIR_APR_LOOK_US;
	bool waits;

	if (list == NULL)
		return;
	weir_apr_reap(list, true);
	waits = weir_apr_terminate(list);
	if (waits)
		apr_sleep(pause);
	while (waits && weir_apr_reap(list, false) &&
	       pause < WEIR_APR_PATIENCE_US) {
		apr_sleep(pause);
		pause *= 2;
	}
	for (struct weir_apr_process *each = list; each != NULL;
	     each = each->next)
		if (each->how == APR_KILL_AFTER_TIMEOUT)
			apr_proc_kill(each->process, SIGKILL);
	for (struct weir_apr_process *each = list; each != NULL;
	     each = each->next)
		if (each->how != APR_KILL_NEVER)
			(void)apr_proc_wait(
			    each->process, NULL, NULL, APR_WAIT);
}

#endif /* APR_POOLS_H */

#endif /* WEIR_COMPAT_APR_POOLS_PROCESS_H */
