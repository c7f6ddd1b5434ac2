/* SPDX-License-Identifier: MIT */
/*
 * allocator.h - allocators: APR's locks, and nodes for those who want them.
 *
 * Without APR there are none, and one lock of the shim's own.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_ALLOCATOR_H
#define WEIR_COMPAT_APR_POOLS_ALLOCATOR_H

#ifdef APR_POOLS_H

struct apr_allocator_t {
	apr_pool_t *owner;
	apr_thread_mutex_t *mutex;
};

#define WEIR_APR_NODE_ALIGN ((apr_size_t)4096)

apr_status_t
apr_allocator_create(apr_allocator_t **allocator)
{
	*allocator = (apr_allocator_t *)weir_calloc(1, sizeof(**allocator));
	return *allocator != NULL ? APR_SUCCESS : APR_ENOMEM;
}

void
apr_allocator_destroy(apr_allocator_t *allocator)
{
	weir_free(allocator);
}

void
apr_allocator_mutex_set(apr_allocator_t *allocator, apr_thread_mutex_t *mutex)
{
	allocator->mutex = mutex;
}

apr_thread_mutex_t *
apr_allocator_mutex_get(apr_allocator_t *allocator)
{
	return allocator->mutex;
}

void
apr_allocator_owner_set(apr_allocator_t *allocator, apr_pool_t *pool)
{
	allocator->owner = pool;
}

apr_pool_t *
apr_allocator_owner_get(apr_allocator_t *allocator)
{
	return allocator->owner;
}

/* What is kept for later is the heap's to decide, for all pools together. */
void
apr_allocator_max_free_set(apr_allocator_t *allocator, apr_size_t size)
{
	(void)allocator;
	(void)size;
}

/* The whole node, as its users divide it: two pages or more, 0 is too large. */
apr_size_t
apr_allocator_align(apr_allocator_t *allocator, apr_size_t size)
{
	(void)allocator;
	if (size > SIZE_MAX - APR_MEMNODE_T_SIZE - WEIR_APR_NODE_ALIGN)
		return 0;
	size = APR_ALIGN(size + APR_MEMNODE_T_SIZE, WEIR_APR_NODE_ALIGN);
	return size < 2 * WEIR_APR_NODE_ALIGN ? 2 * WEIR_APR_NODE_ALIGN : size;
}

apr_memnode_t *
apr_allocator_alloc(apr_allocator_t *allocator, apr_size_t size)
{
	apr_size_t bytes = apr_allocator_align(allocator, size);
	apr_memnode_t *node =
	    bytes == 0 ? NULL : (apr_memnode_t *)weir_alloc(bytes);

	if (node == NULL)
		return NULL;
	node->next = NULL;
	node->ref = NULL;
	node->index = (apr_uint32_t)(bytes / WEIR_APR_NODE_ALIGN - 1);
	node->free_index = 0;
	node->first_avail = (char *)node + APR_MEMNODE_T_SIZE;
	node->endp = (char *)node + bytes;
	return node;
}

/* A list of them. */
void
apr_allocator_free(apr_allocator_t *allocator, apr_memnode_t *node)
{
	(void)allocator;
	while (node != NULL) {
		apr_memnode_t *next = node->next;

		weir_free(node);
		node = next;
	}
}

/* Of the children of a pool: as APR, where its allocator has one. */
static void
weir_apr_lock(apr_pool_t *parent)
{
	if (parent->allocator->mutex != NULL)
		apr_thread_mutex_lock(parent->allocator->mutex);
}

static void
weir_apr_unlock(apr_pool_t *parent)
{
	if (parent->allocator->mutex != NULL)
		apr_thread_mutex_unlock(parent->allocator->mutex);
}

#else /* !APR_POOLS_H */

static pthread_mutex_t weir_apr_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Only the children of the global pool are made by several threads. */
static void
weir_apr_lock(apr_pool_t *parent)
{
	if (parent == weir_apr_global)
		pthread_mutex_lock(&weir_apr_mutex);
}

static void
weir_apr_unlock(apr_pool_t *parent)
{
	if (parent == weir_apr_global)
		pthread_mutex_unlock(&weir_apr_mutex);
}

#endif /* !APR_POOLS_H */

#endif /* WEIR_COMPAT_APR_POOLS_ALLOCATOR_H */
