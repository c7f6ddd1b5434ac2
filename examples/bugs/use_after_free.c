/* SPDX-License-Identifier: MIT */
/*
 * use_after_free.c - memory is used that was given back.
 *
 * What it looks like: a timer remembers a connection, the connection ends, its
 * memory serves the next one, and the timer closes a stranger:
 *
 *     $ build/release/examples/bugs/use_after_free
 *     the timer closes bob
 *     weir: FAULT double-free: cache "conn": object 0x... is free already; find
 *     its two owners: each object is freed once
 *
 * What weir says: in release builds the mistake shows when bob's own free comes,
 * too late to tell who was first.  In full mode, and in sample mode if this
 * object was picked, the stale pointer itself is caught, with the stacks of who
 * took the object and who gave it back:
 *
 *     $ WEIR_GUARD=full build/release/examples/bugs/use_after_free
 *     weir: FAULT use-after-free: cache "conn"
 *
 * The mended program remembers a handle (weir/handle.h), which names one use of
 * an object and knows when that is over:
 *
 *     $ build/release/examples/bugs/use_after_free mended
 *     the timer finds its connection gone
 *     bob is still there
 */
#include <weir/cache.h>
#include <weir/handle.h>

#include <stdio.h>
#include <string.h>

struct conn {
	char user[24];
};

static struct weir_cache *conns;

static struct conn *
conn_open(const char *user)
{
	struct conn *conn = weir_cache_alloc(conns);

	if (conn != NULL)
		(void)snprintf(conn->user, sizeof(conn->user), "%s", user);
	return conn;
}

static void
timer_wrongly(struct conn *conn)
{
	printf("the timer closes %s\n", conn->user);
	(void)fflush(stdout);
	weir_cache_free(conns, conn);
}

static void
timer(struct weir_handle handle)
{
	struct conn *conn = weir_cache_resolve(conns, handle);

	if (conn == NULL)
		printf("the timer finds its connection gone\n");
	else
		weir_cache_free(conns, conn);
}

int
main(int argc, char **argv)
{
	bool mended = argc > 1 && strcmp(argv[1], "mended") == 0;
	struct conn *alice, *bob;
	struct weir_handle handle;

	if (weir_cache_create("conn",
		&(struct weir_cache_config){.object_bytes = sizeof(struct conn),
		    .flags = WEIR_CACHE_HANDLES},
		&conns) != 0)
		return 1;
	alice = conn_open("alice");
	if (alice == NULL)
		return 1;
	handle = weir_cache_handle(conns, alice); /* for the timer */
	weir_cache_free(conns, alice);

	bob = conn_open("bob");
	if (bob == NULL)
		return 1;
	if (mended) {
		timer(handle);
		printf("%s is still there\n", bob->user);
	} else {
		timer_wrongly(alice);
	}
	weir_cache_free(conns, bob);
	weir_cache_destroy(conns);
	return 0;
}
