/* SPDX-License-Identifier: MIT */
/*
 * no_free.h - for peers whose objects do not end one by one.
 */
#ifndef BENCH_OBJECT_NO_FREE_H
#define BENCH_OBJECT_NO_FREE_H

static BENCH_INLINE void
peer_free(
    struct peer_local local, struct peer_pool *pool, void *object, size_t bytes)
{
	(void)local;
	(void)pool;
	(void)object;
	(void)bytes;
}

static size_t
peer_usable(struct peer_pool *pool, void *object, size_t bytes)
{
	(void)pool;
	(void)object;
	return bytes;
}

#endif /* BENCH_OBJECT_NO_FREE_H */
