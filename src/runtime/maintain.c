/* SPDX-License-Identifier: MIT */
/*
 * maintain.c - when idle memory is given back, and by whom.
 *
 *     event loop  weir_maintain(budget) --+
 *     helper      weir_maintain(all)    --+--> one pass at a time (slab/)
 *     any thread  weir_thread_poll()    -----> its own magazines
 *
 * A pass is due a sixteenth of an epoch after the one before began, an epoch
 * being a quarter of decay_ms: so what decays goes in sixteen small portions.
 * Until then a call is a look at the clock.  A pass that a budget cut short goes
 * on at the next call, whoever makes it.
 *
 * There is no helper thread unless the program or the environment asks for one:
 * a library that starts threads on its own surprises programs that fork, change
 * their credentials or count their threads.
 *
 * Invariants:
 *
 *   H1  maintain_pass belongs to whoever set maintain_busy; nobody waits for it.
 *   H2  maintain_running and maintain_stopping change under maintain_mutex; the
 *       helper is there exactly while the first is set, and ended by the one
 *       that set the second.
 *   H3  A fork's child has no helper and no pass under way, unless its thread is
 *       inside one itself, in a hook.
 */
#include "runtime/maintain.h"

#include "config/config.h"
#include "guard/guard.h"
#include "os/os.h"
#include "slab/maintain.h"

#include <errno.h>

#define MAINTAIN_EPOCHS 4
#define MAINTAIN_PASSES 16 /* an epoch */

#define MAINTAIN_NS_PER_MS UINT64_C(1000000)

/* What fini hooks may need beside the library's own few hundred bytes. */
#define MAINTAIN_STACK_BYTES ((size_t)256 << 10)

static struct weiri_maintain maintain_pass;
static bool maintain_busy;
static bool maintain_unfinished;     /* the pass under way goes on at once */
static uint64_t maintain_due_ns;     /* when the next one begins */
static __thread bool maintain_inside /* this thread set maintain_busy */
    __attribute__((tls_model("initial-exec")));

static struct weiri_mutex maintain_mutex = WEIRI_MUTEX_INITIALIZER;
static struct weiri_os_helper maintain_helper;
static bool maintain_running;
static bool maintain_stopping; /* somebody waits for it to end */

/* ---- passes -------------------------------------------------------------- */

static uint64_t
maintain_epoch_ns(void)
{
	uint64_t decay_ms = WEIRI_LOAD(&weiri_config()->decay_ms);

	if (decay_ms == WEIR_DECAY_NEVER)
		return WEIRI_DECAY_NEVER;
	if (decay_ms == WEIR_DECAY_AT_ONCE)
		return 0;
	/* What overflows is longer than any process lives. */
	if (decay_ms > WEIRI_DECAY_NEVER / MAINTAIN_NS_PER_MS)
		return WEIRI_DECAY_NEVER - 1;
	return decay_ms * MAINTAIN_NS_PER_MS / MAINTAIN_EPOCHS;
}

static bool
maintain_is_due(uint64_t now_ns)
{
	return WEIRI_LOAD(&maintain_unfinished) ||
	       now_ns >= WEIRI_LOAD(&maintain_due_ns);
}

/* By the one that set maintain_busy. */
static bool
maintain_go_on(uint64_t now_ns, uint64_t budget_ns)
{
	uint64_t end_ns = now_ns + weiri_min(budget_ns, UINT64_MAX - now_ns);
	uint64_t epoch_ns = maintain_epoch_ns();
	bool more;

	if (epoch_ns == WEIRI_DECAY_NEVER)
		return false;
	if (!maintain_pass.under_way)
		WEIRI_STORE(
		    &maintain_due_ns, now_ns + epoch_ns / MAINTAIN_PASSES);
	maintain_pass.epoch_ns = epoch_ns;
	more = weiri_maintain_run(&maintain_pass, end_ns);
	WEIRI_STORE(&maintain_unfinished, more);
	return more;
}

bool
weir_maintain(uint64_t budget_ns)
{
	uint64_t now_ns = weiri_os_now_ns();
	bool more;

	if (!maintain_is_due(now_ns)) {
		weir_thread_poll();
		return false;
	}
	if (__atomic_exchange_n(&maintain_busy, true, __ATOMIC_ACQUIRE)) {
		/* The pass is another's; this thread's magazines are not. */
		if (!maintain_inside)
			weir_thread_poll();
		return false;
	}
	maintain_inside = true;
	more = maintain_go_on(now_ns, budget_ns);
	maintain_inside = false;
	/* Pairs with the acquire of the next one. */
	__atomic_store_n(&maintain_busy, false, __ATOMIC_RELEASE);
	weir_thread_poll();
	return more;
}

void
weir_thread_poll(void)
{
	if (WEIR_UNLIKELY(
		WEIRI_LOAD(&weiri_local_round) != weiri_local()->round))
		weiri_local_shed();
}

void
weir_set_decay(uint64_t decay_ms)
{
	weiri_config_set_decay(decay_ms != 0 ? decay_ms : WEIR_DECAY_AT_ONCE);
	WEIRI_STORE(&maintain_due_ns, 0);
}

/* ---- the helper ---------------------------------------------------------- */

static void
maintain_turn(void)
{
	(void)weir_maintain(UINT64_MAX);
}

int
weir_maintain_start(uint64_t interval_ms)
{
	int error = -EALREADY;

	if (interval_ms == 0 || interval_ms > WEIRI_MAINTAIN_MS_MAX)
		return -EINVAL;
	(void)weiri_config(); /* fork handlers before the lock */
	weiri_mutex_lock(&maintain_mutex);
	if (!maintain_running) {
		error = weiri_os_helper_start(&maintain_helper, maintain_turn,
		    interval_ms * MAINTAIN_NS_PER_MS, MAINTAIN_STACK_BYTES);
		maintain_running = error == 0;
	}
	weiri_mutex_unlock(&maintain_mutex);
	return error;
}

void
weir_maintain_stop(void)
{
	bool stop;

	weiri_mutex_lock(&maintain_mutex);
	/* A hook on the helper would wait for itself. */
	stop = maintain_running && !maintain_stopping &&
	       !weiri_os_helper_is_self(&maintain_helper);
	if (stop)
		maintain_stopping = true;
	weiri_mutex_unlock(&maintain_mutex);
	if (!stop)
		return;
	/* Not under the lock: a hook on the helper may fork. */
	weiri_os_helper_stop(&maintain_helper);
	weiri_mutex_lock(&maintain_mutex);
	maintain_running = maintain_stopping = false;
	weiri_mutex_unlock(&maintain_mutex);
}

void
weiri_started(void)
{
	uint64_t interval_ms = weiri_config()->maintain_ms;

	weiri_debug_start();
	if (interval_ms == 0 || weir_maintain_start(interval_ms) == 0)
		return;
	weiri_message(WEIR_MESSAGE_WARNING,
	    "the system gives no thread for maintain_ms; call weir_maintain()");
}

/* ---- fork ---------------------------------------------------------------- */

void
weiri_maintain_fork_lock(void)
{
	weiri_mutex_lock(&maintain_mutex);
}

void
weiri_maintain_fork_unlock(void)
{
	weiri_mutex_unlock(&maintain_mutex);
}

void
weiri_maintain_fork_child(void)
{
	maintain_running = maintain_stopping = false;
	if (!maintain_inside) {
		maintain_busy = false;
		maintain_unfinished = false;
		maintain_pass.under_way = false;
	}
	weiri_mutex_unlock(&maintain_mutex);
}
