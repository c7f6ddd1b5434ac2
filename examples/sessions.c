/* SPDX-License-Identifier: MIT */
/*
 * sessions.c - typed objects, and links to them that cannot dangle.
 *
 *     script/build && build/release/examples/sessions
 *
 * Or by hand, with the library installed:
 *
 *     cc examples/sessions.c $(pkg-config --cflags --libs weir) -o sessions
 *
 * A server keeps sessions; timers remember which session they are for.  Most
 * sessions end before their timer, and the next one gets their memory: a timer
 * with a pointer would close a stranger's session.  A timer with a handle finds
 * out.  WEIR_CACHE_DEFINE makes the calls typed: what they return needs no cast,
 * and what they take is checked by the compiler.
 */
#include <weir/cache.h>
#include <weir/handle.h>

#include <stdio.h>

struct session {
	unsigned id;
	unsigned uses; /* of this memory: init's state stays over reuse */
};

WEIR_CACHE_DEFINE(session, struct session);

struct timer {
	unsigned due;
	struct weir_handle session;
};

#define TIMERS 8

/* Once for each object's memory, not for each use. */
static void
session_init(void *object, void *context)
{
	struct session *session = (struct session *)object;

	(void)context;
	session->uses = 0;
}

static void
timer_fire(struct weir_cache *sessions, const struct timer *timer)
{
	struct session *session =
	    (struct session *)weir_cache_resolve(sessions, timer->session);

	if (session == NULL) {
		printf("timer %u: its session is gone\n", timer->due);
		return;
	}
	printf("timer %u: session %u times out\n", timer->due, session->id);
	session_free(sessions, session);
}

static bool
session_end(void *object, void *context)
{
	struct weir_cache *sessions = (struct weir_cache *)context;
	struct session *session = (struct session *)object;

	printf("shutdown: session %u ends\n", session->id);
	session_free(sessions, session);
	return true;
}

int
main(void)
{
	static struct weir_cache_config config; /* all defaults */
	struct timer timers[TIMERS];
	struct weir_cache *sessions;
	struct weir_local *local = weir_local();

	/* Size and alignment come from the type. */
	config.flags = WEIR_CACHE_HANDLES;
	config.init = session_init;
	if (session_cache_create("session", &config, &sessions) != 0)
		return 1;
	for (unsigned i = 0; i < TIMERS; i++) {
		struct session *session = session_alloc_at(local, sessions);

		if (session == NULL)
			return 1;
		session->id = i;
		session->uses++;
		timers[i].due = i;
		timers[i].session = weir_cache_handle(sessions, session);
		/* Every other session ends at once; the next takes its place.
		 */
		if (i % 2 == 0)
			session_free_at(local, sessions, session);
	}
	for (unsigned i = 0; i < TIMERS / 2; i++)
		timer_fire(sessions, &timers[i]);
	weir_cache_for_each(sessions, session_end, sessions);
	weir_cache_destroy(sessions);
	return 0;
}
