/* SPDX-License-Identifier: MIT */
/*
 * textbook_heap.c - first fit and best fit, as Knuth has them (2.5).
 *
 * Memory is one row of blocks.  A block begins with a tag - its size, whether
 * it is used and whether the one before it is - and a free block repeats its
 * size at its end, so that a block that is freed finds both neighbours at once
 * and merges with those that are free:
 *
 *     | size, used, before | payload ...          |
 *     | size, free, before | next | prev | ...    | size |
 *
 * Free blocks are in one list, the last freed in front.  First fit takes the
 * first that is large enough, best fit the smallest; what is left over, if it
 * can be a block, stays free.  Behind the last block lies untouched memory,
 * used when none fits.  Nothing is ever given back to the system.
 *
 * Invariant: two free blocks are never neighbours.
 */
#include "textbook.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HEAP_BYTES ((size_t)8 << 30) /* address space, not memory */
#define HEAP_USED ((size_t)1)
#define HEAP_BEFORE_USED ((size_t)2)
#define HEAP_FLAGS ((size_t)15)
#define HEAP_ALIGN ((size_t)16)
#define HEAP_TAG sizeof(size_t)
#define HEAP_BLOCK_MIN ((size_t)32) /* tag, two links, size at the end */

/* `tag` lies just below a multiple of 16, so that the payload is aligned. */
struct heap_block {
	size_t tag;
	struct heap_block *next; /* these two only in a free block */
	struct heap_block *prev;
};

struct textbook_heap {
	pthread_mutex_t lock;
	struct heap_block *free;
	unsigned char *storage;
	unsigned char *top; /* where untouched memory begins */
	size_t top_before_used;
	bool best;
};

static size_t
heap_size(const struct heap_block *block)
{
	return block->tag & ~HEAP_FLAGS;
}

static struct heap_block *
heap_at(void *address)
{
	return address;
}

static struct heap_block *
heap_after(struct heap_block *block)
{
	return heap_at((unsigned char *)block + heap_size(block));
}

/* The size a free block repeats at its end. */
static size_t *
heap_foot(struct heap_block *block)
{
	return (void *)((unsigned char *)heap_after(block) - sizeof(size_t));
}

static bool
heap_is_top(const struct textbook_heap *heap, const struct heap_block *block)
{
	return (const unsigned char *)block == heap->top;
}

static void
heap_link(struct textbook_heap *heap, struct heap_block *block)
{
	block->prev = NULL;
	block->next = heap->free;
	if (heap->free != NULL)
		heap->free->prev = block;
	heap->free = block;
	*heap_foot(block) = heap_size(block);
}

static void
heap_unlink(struct textbook_heap *heap, struct heap_block *block)
{
	if (block->prev != NULL)
		block->prev->next = block->next;
	else
		heap->free = block->next;
	if (block->next != NULL)
		block->next->prev = block->prev;
}

static struct heap_block *
heap_find(const struct textbook_heap *heap, size_t size)
{
	struct heap_block *found = NULL;

	for (struct heap_block *block = heap->free; block != NULL;
	     block = block->next) {
		size_t have = heap_size(block);

		if (have < size)
			continue;
		if (!heap->best || have == size)
			return block;
		if (found == NULL || have < heap_size(found))
			found = block;
	}
	return found;
}

/* Tells the block behind, or the top, whether the one before it is used. */
static void
heap_tell(struct textbook_heap *heap, struct heap_block *after, bool used)
{
	size_t flag = used ? HEAP_BEFORE_USED : 0;

	if (heap_is_top(heap, after))
		heap->top_before_used = flag;
	else
		after->tag = (after->tag & ~HEAP_BEFORE_USED) | flag;
}

static void
heap_split(struct textbook_heap *heap, struct heap_block *block, size_t size)
{
	size_t rest = heap_size(block) - size;
	struct heap_block *second;

	if (rest < HEAP_BLOCK_MIN)
		return;
	block->tag = size | (block->tag & HEAP_FLAGS);
	second = heap_after(block);
	second->tag = rest | HEAP_BEFORE_USED;
	heap_link(heap, second);
}

static struct heap_block *
heap_extend(struct textbook_heap *heap, size_t size)
{
	struct heap_block *block = heap_at(heap->top);

	if (size >
	    (size_t)(heap->storage + HEAP_BYTES - heap->top) - HEAP_ALIGN)
		return NULL;
	block->tag = size | heap->top_before_used;
	heap->top += size;
	return block;
}

void *
textbook_heap_alloc(struct textbook_heap *heap, size_t bytes)
{
	size_t size = (bytes + HEAP_TAG + HEAP_ALIGN - 1) & ~(HEAP_ALIGN - 1);
	struct heap_block *block;

	if (size < HEAP_BLOCK_MIN)
		size = HEAP_BLOCK_MIN;
	pthread_mutex_lock(&heap->lock);
	block = heap_find(heap, size);
	if (block != NULL) {
		heap_unlink(heap, block);
		heap_split(heap, block, size);
	} else {
		block = heap_extend(heap, size);
	}
	if (block != NULL) {
		block->tag |= HEAP_USED;
		heap_tell(heap, heap_after(block), true);
	}
	pthread_mutex_unlock(&heap->lock);
	return block == NULL ? NULL : (unsigned char *)block + HEAP_TAG;
}

void
textbook_heap_free(struct textbook_heap *heap, void *object)
{
	struct heap_block *block = heap_at((unsigned char *)object - HEAP_TAG);
	struct heap_block *after;

	pthread_mutex_lock(&heap->lock);
	block->tag &= ~HEAP_USED;
	if (!(block->tag & HEAP_BEFORE_USED)) {
		size_t before = *(
		    size_t *)(void *)((unsigned char *)block - sizeof(size_t));
		struct heap_block *first =
		    heap_at((unsigned char *)block - before);

		heap_unlink(heap, first);
		first->tag += heap_size(block);
		block = first;
	}
	after = heap_after(block);
	if (!heap_is_top(heap, after) && !(after->tag & HEAP_USED)) {
		heap_unlink(heap, after);
		block->tag += heap_size(after);
	}
	heap_tell(heap, heap_after(block), false);
	heap_link(heap, block);
	pthread_mutex_unlock(&heap->lock);
}

size_t
textbook_heap_usable(const void *object)
{
	const struct heap_block *block =
	    (const void *)((const unsigned char *)object - HEAP_TAG);

	return heap_size(block) - HEAP_TAG;
}

struct textbook_heap *
textbook_heap_open(bool best)
{
	struct textbook_heap *heap = calloc(1, sizeof(*heap));

	if (heap == NULL)
		return NULL;
	heap->storage = mmap(NULL, HEAP_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (heap->storage == MAP_FAILED) {
		free(heap);
		return NULL;
	}
	pthread_mutex_init(&heap->lock, NULL);
	heap->best = best;
	heap->top = heap->storage + HEAP_ALIGN - HEAP_TAG;
	heap->top_before_used = HEAP_BEFORE_USED;
	return heap;
}

void
textbook_heap_close(struct textbook_heap *heap)
{
	pthread_mutex_destroy(&heap->lock);
	munmap(heap->storage, HEAP_BYTES);
	free(heap);
}
