/* SPDX-License-Identifier: MIT */
/*
 * textbook.h - the pools and heaps that text books teach, to be measured.
 *
 * They live in a file of their own and are called like any library.
 */
#ifndef BENCH_OBJECT_TEXTBOOK_H
#define BENCH_OBJECT_TEXTBOOK_H

#include <stdbool.h>
#include <stddef.h>

/* One lock around an array of free objects. */
struct textbook_mutex;
struct textbook_mutex *textbook_mutex_open(size_t bytes, size_t objects);
void *textbook_mutex_alloc(struct textbook_mutex *pool);
void textbook_mutex_free(struct textbook_mutex *pool, void *object);
void textbook_mutex_close(struct textbook_mutex *pool);

/* A lock-free list of free objects, with a tag against ABA. */
struct textbook_list;
struct textbook_list *textbook_list_open(size_t bytes, size_t objects);
void *textbook_list_alloc(struct textbook_list *pool);
void textbook_list_free(struct textbook_list *pool, void *object);
void textbook_list_close(struct textbook_list *pool);

/* A heap with boundary tags: first fit or best fit, one lock. */
struct textbook_heap;
struct textbook_heap *textbook_heap_open(bool best);
void *textbook_heap_alloc(struct textbook_heap *heap, size_t bytes);
void textbook_heap_free(struct textbook_heap *heap, void *object);
size_t textbook_heap_usable(const void *object);
void textbook_heap_close(struct textbook_heap *heap);

#endif /* BENCH_OBJECT_TEXTBOOK_H */
