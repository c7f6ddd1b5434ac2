/* SPDX-License-Identifier: MIT */
/*
 * support.c - what the programs of the set have in common.  A file of its own,
 * so that no compiler sees through what is hidden here.
 */
#include "bug.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

void
bug_mark(const char *mark)
{
	char line[32];
	int bytes = snprintf(line, sizeof(line), "@%s\n", mark);

	if (write(STDERR_FILENO, line, (size_t)bytes) != bytes)
		_exit(126);
}

void
bug_need_failed(const char *file, int line)
{
	(void)fprintf(
	    stderr, "%s:%d: the program itself went wrong\n", file, line);
	_exit(125);
}

void *
bug_hide(const void *address)
{
	return (void *)(uintptr_t)address;
}

void
bug_read(const void *address, size_t bytes)
{
	const volatile char *from = address;

	for (size_t i = 0; i < bytes; i++)
		(void)from[i];
}

void
bug_write(void *address, size_t bytes)
{
	volatile char *to = address;

	for (size_t i = 0; i < bytes; i++)
		to[i] = 0x5a;
}

struct thread_run {
	void (*run)(void *);
	void *context;
};

static void *
thread_main(void *argument)
{
	const struct thread_run *run = argument;

	run->run(run->context);
	return NULL;
}

void
bug_on_thread(void (*run)(void *), void *context)
{
	struct thread_run argument = {run, context};
	pthread_t thread;

	NEED(pthread_create(&thread, NULL, thread_main, &argument) == 0);
	NEED(pthread_join(thread, NULL) == 0);
}

void
bug_forge(void *address, size_t bytes, const void *fake)
{
	const void **word = bug_hide(address);

	for (size_t i = 0; i < bytes / sizeof(fake); i++)
		word[i] = bug_hide(fake);
}

bool
bug_distinct(void *const *addresses, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < i; k++)
			if (addresses[i] == addresses[k])
				return false;
	return true;
}

/* ---- pools ----------------------------------------------------------------------- */

struct weir_cache *
bug_cache(const char *name, size_t bytes)
{
	struct weir_cache *cache;

	NEED(weir_cache_create(name,
		 &(struct weir_cache_config){.object_bytes = bytes},
		 &cache) == 0);
	return cache;
}

struct weir_cache *
bug_cache_batch(const char *name, size_t bytes)
{
	struct weir_cache *cache;

	NEED(weir_cache_create(name,
		 &(struct weir_cache_config){
		     .object_bytes = bytes, .check = WEIR_CHECK_BATCH},
		 &cache) == 0);
	return cache;
}

struct weir_heap *
bug_heap(const char *name)
{
	struct weir_heap *heap;

	NEED(weir_heap_create(name, NULL, &heap) == 0);
	return heap;
}

struct weir_region *
bug_region(struct weir_region *parent)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND(BUG_REGION);
	const struct weir_region_config config = {.parent = parent};
	struct weir_region *region;

	NEED(weir_region_create(
		 &kind, parent != NULL ? &config : NULL, &region) == 0);
	return region;
}

struct weir_region_vm *
bug_region_vm(const char *name)
{
	struct weir_region_vm *region;

	NEED(weir_region_vm_create(name,
		 &(struct weir_region_vm_config){.reserve_bytes = 16 << 20},
		 &region) == 0);
	return region;
}

struct weir_buffer_pool *
bug_buffers(const char *name)
{
	struct weir_buffer_pool *pool;

	NEED(weir_buffer_pool_create(name, NULL, &pool) == 0);
	return pool;
}

void *
bug_pages(size_t count)
{
	void *pages = mmap(NULL, count * 4096, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(pages != MAP_FAILED);
	return pages;
}

struct weir_buddy *
bug_buddy(const char *name, void *base, size_t unit_bytes)
{
	struct weir_buddy *buddy;

	NEED(weir_buddy_create(name,
		 &(struct weir_buddy_config){
		     .unit_count = 64, .base = base, .unit_bytes = unit_bytes},
		 &buddy) == 0);
	return buddy;
}
