/* SPDX-License-Identifier: MIT */
/*
 * wait.h - what a depot does for a get that it has nothing for: fail, let it
 * wait its turn, or tell somebody when there is room again.
 */
#ifndef WEIRI_WAIT_H
#define WEIRI_WAIT_H

#include "base/list.h"
#include "os/os.h"

struct weiri_depot;
struct weir_local;

enum weiri_wait_policy {
	WEIRI_WAIT_FAIL = 0,
	WEIRI_WAIT_TURN,
	WEIRI_WAIT_NOTIFY,
};

struct weiri_wait_config {
	enum weiri_wait_policy policy;
	uint64_t timeout_ns;         /* of a get that names none */
	uint64_t low;                /* slots in use at which to notify */
	void (*notify)(void *owner); /* no lock held */
	bool (*room)(void *owner);   /* has the owner room, too?  NULL: yes */
};

/* In each depot. */
struct weiri_wait {
	struct weiri_wait_config config;
	/* Waiters, or 1 while a notification is due.  Changed under the lock,
	 * but for the notification's; read by every get and put without. */
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) uint32_t attention;
	/* Under the depot's lock. */
	struct weiri_list waiters; /* oldest first */
	uint64_t waits, timeouts;
	uint64_t handoffs; /* slots given to waiters */
	uint64_t longest;  /* most hand-offs a waiter saw go before its own */
	uint64_t passed;   /* waiters that saw more than were ahead of them */
};

void weiri_wait_init(
    struct weiri_depot *depot, const struct weiri_wait_config *config);

/* ---- depots with WEIRI_WAIT_TURN ----------------------------------------- */

#define WEIRI_WAIT_FOREVER UINT64_MAX

/* A slot, now or within the time; NULL after it, or in a hook at once. */
void *weiri_wait_get(struct weiri_depot *depot, uint64_t timeout_ns);
void weiri_wait_put(struct weiri_depot *depot, void *slot);

/* In the child of a fork, which has none of the waiting threads. */
void weiri_wait_forget(struct weiri_depot *depot);

/* Slots or room for new ones came by another way than a put.  No lock. */
void weiri_wait_serve(struct weiri_depot *depot);

/* ---- depots with WEIRI_WAIT_NOTIFY --------------------------------------- */

/* After a get failed, and after every put.  No lock. */
void weiri_wait_failed(struct weiri_depot *depot);
void weiri_wait_freed(struct weiri_depot *depot);

/* ---- memory ------------------------------------------------------------ */

/* Somebody waits, or wants to be told, and there may be memory now: tries to
 * get some, and passes it on.  No lock. */
void weiri_wait_look(struct weiri_depot *depot);

/* As above, for all depots with a quota; in a hook, after it. */
void weiri_wait_look_again(void);

/* ---- hooks ------------------------------------------------------------- */

/* Not 0 while the thread is in a hook that the library called: one that waits
 * there may wait for what its own thread is about to give back. */
extern __thread unsigned weiri_wait_depth
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* What became due in a hook of this thread, and waits for its end. */
extern __thread bool weiri_wait_due
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

WEIRI_COLD void weiri_wait_catch_up(void);

/* Around hooks. */
WEIRI_INLINE void
weiri_wait_enter(void)
{
	weiri_wait_depth++;
}

WEIRI_INLINE void
weiri_wait_leave(void)
{
	if (WEIR_LIKELY(weiri_wait_depth > 0))
		weiri_wait_depth--;
	if (weiri_wait_depth == 0 && WEIR_UNLIKELY(weiri_wait_due))
		weiri_wait_catch_up();
}

/* Before a fault: its hook may leave by longjmp(), out of all hooks and calls
 * that the thread is in. */
WEIRI_COLD void weiri_wait_abandon(void);

#endif /* WEIRI_WAIT_H */
