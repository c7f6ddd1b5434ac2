/* SPDX-License-Identifier: MIT */
/*
 * state.c - objects of caches that are freed with what init set up broken: a next
 * use begins with it, and is the one that fails.
 */
#include "bug.h"

#include <pthread.h>

/* A connection: the first three are for good, the others of one use. */
struct conn {
	pthread_mutex_t lock;
	struct conn *next, *before; /* itself, while it is in no list */
	char *text;
	size_t text_bytes;
	int fd;
	char peer[40];
};

static void
conn_init(void *object, void *context)
{
	struct conn *conn = object;

	(void)context;
	NEED(pthread_mutex_init(&conn->lock, NULL) == 0);
	conn->next = conn->before = conn;
	conn->text_bytes = 16;
	conn->text = malloc(conn->text_bytes);
	NEED(conn->text != NULL);
}

static void
conn_fini(void *object, void *context)
{
	struct conn *conn = object;

	(void)context;
	free(conn->text);
	(void)pthread_mutex_destroy(&conn->lock);
}

static bool
conn_verify(const void *object, void *context)
{
	const struct conn *conn = object;

	(void)context;
	return conn->next == conn && conn->before == conn &&
	       conn->text != NULL && conn->text_bytes >= 16;
}

static struct weir_cache *
conn_cache(
    enum weir_check_level check, unsigned flags, weir_cache_verify_fn verify)
{
	struct weir_cache *cache;

	NEED(
	    weir_cache_create("conn",
		&(struct weir_cache_config){.object_bytes = sizeof(struct conn),
		    .check = check,
		    .flags = flags,
		    .init = conn_init,
		    .fini = conn_fini,
		    .verify = verify},
		&cache) == 0);
	return cache;
}

/* Takes and uses one as it should be. */
static struct conn *
conn_take(struct weir_cache *cache)
{
	struct conn *conn = weir_cache_alloc(cache);

	NEED(conn != NULL && conn->next == conn);
	conn->fd = 7;
	memset(conn->peer, 'p', sizeof(conn->peer));
	NEED(pthread_mutex_lock(&conn->lock) == 0);
	memcpy(conn->text, "hello", 6);
	NEED(pthread_mutex_unlock(&conn->lock) == 0);
	return conn;
}

/* ---- bugs ---------------------------------------------------------------------- */

BUG(cache_state_still_in_a_list, ROW(STATE), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), TEXT("is not as init left it"),
    GUARDED(NOW, "broken-state"))
{
	struct weir_cache *cache =
	    conn_cache(WEIR_CHECK_EACH, WEIR_CACHE_VERIFY, NULL);
	struct conn *conn = conn_take(cache), *other = conn_take(cache);

	conn->next = conn->before = other;
	MENDED(conn->next = conn->before = conn);
	BUG_HERE(weir_cache_free(cache, conn));
	MENDED(weir_cache_free(cache, conn));
	weir_cache_free(cache, other);
	weir_cache_destroy(cache);
}

BUG(cache_state_still_locked, ROW(STATE), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), TEXT("is not as init left it"), NO_SANITIZER,
    GUARDED(NOW, "broken-state"))
{
	struct weir_cache *cache =
	    conn_cache(WEIR_CHECK_EACH, WEIR_CACHE_VERIFY, NULL);
	struct conn *conn = conn_take(cache);

	NEED(pthread_mutex_lock(&conn->lock) == 0);
	MENDED(NEED(pthread_mutex_unlock(&conn->lock) == 0));
	BUG_HERE(weir_cache_free(cache, conn));
	MENDED(weir_cache_free(cache, conn));
	weir_cache_destroy(cache);
}

/* The text may grow, and must be there. */
BUG(cache_state_verify_says_no, ROW(STATE), POOL(CACHE), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), TEXT("says its verify"),
    GUARDED(NOW, "broken-state"))
{
	struct weir_cache *cache = conn_cache(WEIR_CHECK_EACH, 0, conn_verify);
	struct conn *conn = conn_take(cache);

	MENDED(conn->text = realloc(conn->text, conn->text_bytes = 64));
	if (bug) {
		free(conn->text);
		conn->text = NULL;
	}
	BUG_HERE(weir_cache_free(cache, conn));
	MENDED(weir_cache_free(cache, conn));
	weir_cache_destroy(cache);
}

BUG(batch_state_still_in_a_list, ROW(STATE), POOL(BATCH), NAMES("conn"),
    STACKS(BUG_STACK_ALLOC), TEXT("is not as init left it"),
    GUARDED(NOW, "broken-state"))
{
	struct weir_cache *cache =
	    conn_cache(WEIR_CHECK_BATCH, WEIR_CACHE_VERIFY, NULL);
	struct conn *conn = conn_take(cache);

	conn->next = NULL;
	MENDED(conn->next = conn);
	BUG_HERE(weir_cache_free(cache, conn));
	MENDED(weir_cache_free(cache, conn));
	weir_cache_destroy(cache);
}

/* ---- correct programs ---------------------------------------------------------- */

static void
conn_leave(void *object, void *context)
{
	struct conn *conn = object;

	(void)context;
	conn->next->before = conn->before;
	conn->before->next = conn->next;
	conn->next = conn->before = conn;
}

/* What a use leaves behind its dtor puts right, before anybody looks. */
GOOD(good_state_is_put_back_by_dtor)
{
	struct weir_cache *cache;
	struct conn *conns[20];

	NEED(
	    weir_cache_create("conn",
		&(struct weir_cache_config){.object_bytes = sizeof(struct conn),
		    .flags = WEIR_CACHE_VERIFY | WEIR_CACHE_HANDLES,
		    .init = conn_init,
		    .fini = conn_fini,
		    .dtor = conn_leave,
		    .verify = conn_verify},
		&cache) == 0);
	for (size_t round = 0; round < 10; round++) {
		for (size_t i = 0; i < 20; i++) {
			conns[i] = conn_take(cache);
			conns[i]->next = conns[0]->next;
			conns[i]->before = conns[0];
			conns[0]->next->before = conns[i];
			conns[0]->next = conns[i];
		}
		for (size_t i = 20; i > 0; i--)
			weir_cache_free(cache, conns[i - 1]);
	}
	weir_cache_destroy(cache);
}

static void
one_byte_init(void *object, void *context)
{
	*(char *)object = *(const char *)context;
}

/* The smallest objects, and what init wrote nothing to. */
GOOD(good_state_of_every_size)
{
	static const size_t sizes[] = {1, 3, 8, 9, 24, 200, 5000, 70000};
	static char mark = 'm';

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct weir_cache *cache;
		char *object;

		NEED(weir_cache_create("any",
			 &(struct weir_cache_config){.object_bytes = sizes[s],
			     .flags = WEIR_CACHE_VERIFY,
			     .init = one_byte_init,
			     .context = &mark},
			 &cache) == 0);
		for (size_t i = 0; i < 40; i++) {
			object = weir_cache_alloc(cache);
			NEED(object[0] == 'm');
			memset(object + 1, (int)i, sizes[s] - 1);
			weir_cache_free(cache, object);
		}
		weir_cache_destroy(cache);
	}
}
