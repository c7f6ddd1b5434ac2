/* SPDX-License-Identifier: MIT */
/*
 * textbook_pool.c - two pools of a fixed number of equal objects.
 *
 * Mutex: an array of the free objects, last in first out, under one lock.
 *
 * List: a stack of free objects through their first word, Treiber's.  The head
 * is one word of 64 bits: the index of the first free object and a tag that
 * changes with every push and pop.  Without the tag a thread that was
 * preempted between reading the head and its compare-and-swap may find the same
 * object on top of other ones, and hands a used one out (ABA).  With it that
 * needs 2^32 calls during one preemption.
 *
 * In both, objects are rounded up to 16 bytes and begin at a cache line.
 */
#include "textbook.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define TEXTBOOK_LINE 64u

static unsigned char *
textbook_objects(size_t *bytes, size_t objects)
{
	size_t total;

	*bytes = (*bytes + 15) & ~(size_t)15;
	total = *bytes * objects;
	total = (total + TEXTBOOK_LINE - 1) & ~(size_t)(TEXTBOOK_LINE - 1);
	return aligned_alloc(TEXTBOOK_LINE, total);
}

/* ---- one lock ---------------------------------------------------------- */

struct textbook_mutex {
	pthread_mutex_t lock;
	size_t count;
	unsigned char *storage;
	void *free[];
};

struct textbook_mutex *
textbook_mutex_open(size_t bytes, size_t objects)
{
	struct textbook_mutex *pool =
	    malloc(sizeof(*pool) + objects * sizeof(void *));

	if (pool == NULL)
		return NULL;
	pool->storage = textbook_objects(&bytes, objects);
	if (pool->storage == NULL) {
		free(pool);
		return NULL;
	}
	pthread_mutex_init(&pool->lock, NULL);
	pool->count = objects;
	for (size_t i = 0; i < objects; i++)
		pool->free[i] = pool->storage + (objects - 1 - i) * bytes;
	return pool;
}

void *
textbook_mutex_alloc(struct textbook_mutex *pool)
{
	void *object = NULL;

	pthread_mutex_lock(&pool->lock);
	if (pool->count > 0)
		object = pool->free[--pool->count];
	pthread_mutex_unlock(&pool->lock);
	return object;
}

void
textbook_mutex_free(struct textbook_mutex *pool, void *object)
{
	pthread_mutex_lock(&pool->lock);
	pool->free[pool->count++] = object;
	pthread_mutex_unlock(&pool->lock);
}

void
textbook_mutex_close(struct textbook_mutex *pool)
{
	pthread_mutex_destroy(&pool->lock);
	free(pool->storage);
	free(pool);
}

/* ---- the lock-free list -------------------------------------------------- */

struct textbook_list {
	/* Low half: index of the first free object plus 1.  High half: tag. */
	_Alignas(TEXTBOOK_LINE) _Atomic uint64_t head;
	_Alignas(TEXTBOOK_LINE) unsigned char *storage;
	size_t bytes;
};

static _Atomic uint32_t *
list_next(const struct textbook_list *pool, uint32_t index)
{
	return (void *)(pool->storage + (size_t)(index - 1) * pool->bytes);
}

struct textbook_list *
textbook_list_open(size_t bytes, size_t objects)
{
	struct textbook_list *pool =
	    aligned_alloc(TEXTBOOK_LINE, sizeof(*pool));

	if (pool == NULL)
		return NULL;
	pool->storage = textbook_objects(&bytes, objects);
	pool->bytes = bytes;
	if (pool->storage == NULL) {
		free(pool);
		return NULL;
	}
	for (uint32_t i = 1; i <= objects; i++)
		atomic_init(list_next(pool, i), i < objects ? i + 1 : 0);
	atomic_init(&pool->head, 1);
	return pool;
}

void *
textbook_list_alloc(struct textbook_list *pool)
{
	uint64_t head = atomic_load_explicit(&pool->head, memory_order_acquire);
	uint64_t next;

	do {
		if ((uint32_t)head == 0)
			return NULL;
		/* May be stale, even an owner's data: then the tag differs. */
		next = atomic_load_explicit(
		    list_next(pool, (uint32_t)head), memory_order_relaxed);
		next |= ((head >> 32) + 1) << 32;
	} while (!atomic_compare_exchange_weak_explicit(&pool->head, &head,
	    next, memory_order_acquire, memory_order_acquire));
	return list_next(pool, (uint32_t)head);
}

void
textbook_list_free(struct textbook_list *pool, void *object)
{
	size_t offset = (size_t)((unsigned char *)object - pool->storage);
	uint32_t index = (uint32_t)(offset / pool->bytes) + 1;
	uint64_t head = atomic_load_explicit(&pool->head, memory_order_relaxed);
	uint64_t next;

	do {
		atomic_store_explicit(list_next(pool, index), (uint32_t)head,
		    memory_order_relaxed);
		next = index | ((head >> 32) + 1) << 32;
		/* Pairs with the acquire in textbook_list_alloc(). */
	} while (!atomic_compare_exchange_weak_explicit(&pool->head, &head,
	    next, memory_order_release, memory_order_relaxed));
}

void
textbook_list_close(struct textbook_list *pool)
{
	free(pool->storage);
	free(pool);
}
