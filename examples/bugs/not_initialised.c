/* SPDX-License-Identifier: MIT */
/*
 * not_initialised.c - memory is read before anything was written there.
 *
 * What it looks like: malloc() and pools hand memory out as it is.  Fresh pages
 * read as zero, so tests pass; in a server that has run for a while the memory
 * was somebody's, and the fields that nobody set are those of the object before:
 *
 *     $ build/release/examples/bugs/not_initialised
 *     session of bob: may administrate
 *
 * What weir says: nothing, for no call is wrong.  In full mode memory that was
 * not written yet holds a pattern, so that the fault shows in the first test:
 *
 *     $ WEIR_GUARD=full build/release/examples/bugs/not_initialised
 *     session of bob: may do something unheard-of
 *
 * The mended program has the pool clear what it hands out, once for all callers
 * (WEIR_CACHE_ZERO); what a use begins with otherwise belongs into ctor.
 *
 *     $ build/release/examples/bugs/not_initialised mended
 *     session of bob: may read
 *
 * Valgrind and MemorySanitizer name the first decision taken on such a value.
 */
#include <weir/cache.h>

#include <stdio.h>
#include <string.h>

enum right {
	RIGHT_READ,
	RIGHT_ADMINISTRATE,
};

struct session {
	char user[24];
	unsigned right; /* enum right */
};

static struct weir_cache *sessions;

static struct session *
session_open(const char *user)
{
	struct session *session = weir_cache_alloc(sessions);

	/* Everybody begins with RIGHT_READ, which is 0; so where is it set? */
	if (session != NULL)
		(void)snprintf(
		    session->user, sizeof(session->user), "%s", user);
	return session;
}

static const char *
right_text(unsigned right)
{
	if (right == RIGHT_READ)
		return "read";
	return right == RIGHT_ADMINISTRATE ? "administrate"
					   : "do something unheard-of";
}

int
main(int argc, char **argv)
{
	bool mended = argc > 1 && strcmp(argv[1], "mended") == 0;
	struct session *session;

	if (weir_cache_create("session",
		&(struct weir_cache_config){
		    .object_bytes = sizeof(struct session),
		    .flags = mended ? WEIR_CACHE_ZERO : 0},
		&sessions) != 0)
		return 1;
	session = session_open("alice");
	if (session == NULL)
		return 1;
	session->right = RIGHT_ADMINISTRATE;
	weir_cache_free(sessions, session);

	session = session_open("bob");
	if (session == NULL)
		return 1;
	printf("session of %s: may %s\n", session->user,
	    right_text(session->right));
	weir_cache_free(sessions, session);
	weir_cache_destroy(sessions);
	return 0;
}
