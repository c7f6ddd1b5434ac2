/* SPDX-License-Identifier: MIT */
/*
 * number_as_pointer.c - a value is passed where its address was asked for.
 *
 * What it looks like: scanf("%d", port) without the &.  The number becomes an
 * address; mostly the program dies there, and sometimes that address is memory
 * in use, which is then written over without a trace.  Compilers know printf and
 * scanf (-Wformat); of a program's own call-backs with a void pointer, as here,
 * they know nothing.
 *
 * What weir says: whatever the number is, a free never reads what it points at.
 * It looks up whose memory that is, and it is nobody's:
 *
 *     $ build/release/examples/bugs/number_as_pointer
 *     weir: FAULT foreign-pointer: cache "session": 0x1e61 is not memory of any
 *     pool; pass only what was handed out here and not given back
 *
 *     $ build/release/examples/bugs/number_as_pointer mended
 *     session 7777 is closed
 *
 * 0x1e61 is 7777: a small number in place of an address is a sign.  Give
 * numbers that stand for objects a type of their own, as struct weir_handle is.
 */
#include <weir/cache.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct session {
	int id;
};

static struct weir_cache *sessions;

/* A timer's call-back, which has one word for its argument. */
static void
session_close(void *context)
{
	struct session *session = context;

	weir_cache_free(sessions, session);
}

int
main(int argc, char **argv)
{
	bool mended = argc > 1 && strcmp(argv[1], "mended") == 0;
	struct session *session;

	if (weir_cache_create("session",
		&(struct weir_cache_config){
		    .object_bytes = sizeof(struct session)},
		&sessions) != 0)
		return 1;
	session = weir_cache_alloc(sessions);
	if (session == NULL)
		return 1;
	session->id = 7777;
	if (!mended)
		session_close((void *)(uintptr_t)session->id);
	printf("session %d is closed\n", session->id);
	session_close(session);
	weir_cache_destroy(sessions);
	return 0;
}
