/* SPDX-License-Identifier: MIT */
/*
 * serve_memory.c - the malloc twin: the same engine, malloc for every piece.
 *
 * Each buffer is one malloc, descriptor and right-sized payload together; each
 * operation and connection is one malloc.  Whatever differs between the two
 * servers in a measurement is then the pools and nothing else.
 */
#include "serve.h"

#include <pthread.h>
#include <stdlib.h>

static _Thread_local struct serve_malloc_counts memory_counts;
static struct serve_malloc_counts memory_total;
static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;

static void
memory_release(struct weir_buffer *buffer, void *context)
{
	(void)context;
	memory_counts.buffers_given++;
	free(buffer);
}

static struct weir_buffer *
memory_acquire(size_t bytes, void *context)
{
	struct weir_buffer *buffer = malloc(sizeof(*buffer) + bytes);

	(void)context;
	if (buffer == NULL)
		return NULL;
	memory_counts.buffers_taken++;
	weir_buffer_init_external(
	    buffer, buffer + 1, bytes, memory_release, NULL);
	return buffer;
}

static void *
memory_object(enum weir_net_object kind, size_t object_bytes, void *context)
{
	void *object = malloc(object_bytes);

	(void)kind;
	(void)context;
	if (object != NULL)
		memory_counts.objects_taken++;
	return object;
}

static void
memory_object_free(enum weir_net_object kind, void *object, void *context)
{
	(void)kind;
	(void)context;
	memory_counts.objects_given++;
	free(object);
}

const struct weir_net_memory *
serve_malloc(void)
{
	static const struct weir_net_memory memory = {
	    .buffer_acquire = memory_acquire,
	    .object_alloc = memory_object,
	    .object_free = memory_object_free,
	};

	return &memory;
}

void
serve_malloc_collect(void)
{
	pthread_mutex_lock(&memory_lock);
	memory_total.buffers_taken += memory_counts.buffers_taken;
	memory_total.buffers_given += memory_counts.buffers_given;
	memory_total.objects_taken += memory_counts.objects_taken;
	memory_total.objects_given += memory_counts.objects_given;
	pthread_mutex_unlock(&memory_lock);
	memory_counts = (struct serve_malloc_counts){0};
}

struct serve_malloc_counts
serve_malloc_total(void)
{
	struct serve_malloc_counts total;

	pthread_mutex_lock(&memory_lock);
	total = memory_total;
	pthread_mutex_unlock(&memory_lock);
	return total;
}
