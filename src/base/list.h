/* SPDX-License-Identifier: MIT */
/*
 * list.h - intrusive doubly linked circular lists with a head node.
 *
 * A node that is on no list points at itself, so that removing it twice is
 * harmless and "is it listed" needs no flag.
 */
#ifndef WEIRI_LIST_H
#define WEIRI_LIST_H

#include "base/assert.h"

struct weiri_list {
	struct weiri_list *next, *prev;
};

#define WEIRI_LIST_INITIALIZER(head) \
	{                            \
		&(head), &(head)     \
	}

#define WEIRI_LIST_FOR(node, head)                                   \
	for (struct weiri_list *node = (head)->next; node != (head); \
	     node = node->next)

/* As above, and @node may be removed or freed in the body. */
#define WEIRI_LIST_FOR_SAFE(node, head)                                      \
	for (struct weiri_list *node = (head)->next, *node##_n = node->next; \
	     node != (head); node = node##_n, node##_n = node->next)

WEIRI_INLINE void
weiri_list_init(struct weiri_list *head)
{
	head->next = head->prev = head;
}

WEIRI_INLINE bool
weiri_list_empty(const struct weiri_list *head)
{
	return head->next == head;
}

WEIRI_INLINE void
weiri_list_insert_after(struct weiri_list *at, struct weiri_list *node)
{
	node->prev = at;
	node->next = at->next;
	at->next->prev = node;
	at->next = node;
}

WEIRI_INLINE void
weiri_list_push(struct weiri_list *head, struct weiri_list *node)
{
	weiri_list_insert_after(head, node);
}

WEIRI_INLINE void
weiri_list_append(struct weiri_list *head, struct weiri_list *node)
{
	weiri_list_insert_after(head->prev, node);
}

WEIRI_INLINE void
weiri_list_remove(struct weiri_list *node)
{
	WEIR_ASSERT(node->next->prev == node && node->prev->next == node);
	node->prev->next = node->next;
	node->next->prev = node->prev;
	weiri_list_init(node);
}

#endif /* WEIRI_LIST_H */
