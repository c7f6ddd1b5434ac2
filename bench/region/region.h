/* SPDX-License-Identifier: MIT */
/*
 * region.h - what peers with regions share: the cleanup that is registered, and
 * cleanups as a list of nodes, for opponents without their own - what programs
 * write on top of them.
 */
#ifndef BENCH_REGION_REGION_H
#define BENCH_REGION_REGION_H

/* Cleanups that ran, and that should have. */
static uint64_t region_cleaned;
static uint64_t region_cleanups;

BENCH_UNUSED static void
region_cleanup(void *object)
{
	(void)object;
	region_cleaned++;
}

struct region_node {
	struct region_node *next;
	void (*run)(void *object);
	void *object;
};

static BENCH_INLINE void
region_list_push(
    struct region_node **list, struct region_node *node, void *object)
{
	node->run = region_cleanup;
	node->object = object;
	node->next = *list;
	*list = node;
}

/* Newest first; the nodes are the caller's to free. */
static BENCH_INLINE void
region_list_run(struct region_node *node)
{
	for (; node != NULL; node = node->next)
		node->run(node->object);
}

#endif /* BENCH_REGION_REGION_H */
