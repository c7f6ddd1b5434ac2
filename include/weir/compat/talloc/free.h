/* SPDX-License-Identifier: MIT */
/*
 * free.h - objects end, each after those below it, without recursion.
 *
 * Part of weir/compat/talloc.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_TALLOC_FREE_H
#define WEIR_COMPAT_TALLOC_FREE_H

static int weir_talloc_free_tree(struct weir_talloc_chunk *top);

static bool
weir_talloc_below(
    const struct weir_talloc_chunk *low, const struct weir_talloc_chunk *high)
{
	while (low != NULL && low != high)
		low = low->parent;
	return low != NULL;
}

static int
weir_talloc_ref_end(void *ptr)
{
	struct weir_talloc_ref *ref = (struct weir_talloc_ref *)ptr;

	if (ref->next != NULL)
		ref->next->previous = ref->previous;
	if (ref->previous != NULL)
		ref->previous->next = ref->next;
	else
		ref->target->refs = ref->next;
	return 0;
}

/*
 * Takes a chunk out of the tree so that its children and memory can follow.
 * -1: it stays, because its destructor said so or something refers to it.
 */
static int
weir_talloc_begin_end(struct weir_talloc_chunk *chunk)
{
	int (*destructor)(void *) = chunk->destructor;

	/* References from below it do not keep it; another one does, and is
	 * used up instead. */
	while (chunk->refs != NULL) {
		struct weir_talloc_chunk *ref = weir_talloc_of(chunk->refs);
		bool below = weir_talloc_below(ref, chunk);

		weir_talloc_free_tree(ref);
		if (!below)
			return -1;
	}
	if ((chunk->flags & WEIR_TALLOC_IN_CALL) != 0)
		return -1;
	if (destructor != NULL) {
		int refused;

		chunk->flags |= WEIR_TALLOC_IN_CALL;
		refused = destructor(weir_talloc_object(chunk));
		chunk->flags &= ~WEIR_TALLOC_IN_CALL;
		if (refused == -1)
			return -1;
		/* It ran: once is enough, unless it put another one here. */
		if (chunk->destructor == destructor)
			chunk->destructor = NULL;
	}
	weir_talloc_unlink(chunk);
	chunk->flags |= WEIR_TALLOC_ENDING;
	return 0;
}

/*
 * One that stays goes to who refers to it, which may be what is being freed: then
 * it is met again, without that reference.  Else to the nearest that lives,
 * above what it was below.
 */
static void
weir_talloc_abandon(
    struct weir_talloc_chunk *child, struct weir_talloc_chunk *keeper)
{
	if (keeper == NULL) {
		keeper = child->parent->parent;
		while (
		    keeper != NULL && (keeper->flags & WEIR_TALLOC_ENDING) != 0)
			keeper = keeper->parent;
	}
	if (keeper == NULL)
		keeper = weir_talloc_context(NULL);
	weir_talloc_unlink(child);
	weir_talloc_link(child, keeper);
}

/* Frees what is below a chunk, children before their parents. */
static void
weir_talloc_free_below(struct weir_talloc_chunk *top)
{
	struct weir_talloc_chunk *chunk = top;

	for (;;) {
		struct weir_talloc_chunk *child = chunk->child;
		struct weir_talloc_chunk *keeper = NULL;

		if (child == NULL) {
			struct weir_talloc_chunk *parent = chunk->parent;

			if (chunk == top)
				return;
			weir_talloc_release(chunk);
			chunk = parent;
			continue;
		}
		if (child->refs != NULL)
			keeper = weir_talloc_of(child->refs)->parent;
		if (weir_talloc_begin_end(child) == 0)
			chunk = child;
		else if (child->parent == chunk)
			weir_talloc_abandon(child, keeper);
	}
}

static int
weir_talloc_free_tree(struct weir_talloc_chunk *top)
{
	if ((top->flags & WEIR_TALLOC_ENDING) != 0)
		return 0;
	if (weir_talloc_begin_end(top) != 0)
		return -1;
	weir_talloc_free_below(top);
	weir_talloc_release(top);
	return 0;
}

int
_talloc_free(void *ptr, const char *location)
{
	struct weir_talloc_chunk *chunk;

	if (ptr == NULL)
		return -1;
	chunk = weir_talloc_of(ptr);
	if (chunk->refs == NULL)
		return weir_talloc_free_tree(chunk);
	/* Without a parent, the only reference must be meant. */
	if (chunk->refs->next == NULL &&
	    (chunk->parent == NULL ||
		weir_talloc_object(chunk->parent) == weir_talloc_null))
		return talloc_unlink(NULL, ptr);
	weir_talloc_say("ERROR: talloc_free with references",
	    talloc_get_name(ptr), location);
	return -1;
}

/* Its name stays, where that is a child. */
void
talloc_free_children(void *ptr)
{
	struct weir_talloc_chunk *chunk;
	struct weir_talloc_chunk *name = NULL;

	if (ptr == NULL)
		return;
	chunk = weir_talloc_of(ptr);
	for (name = chunk->child; name != NULL; name = name->older)
		if (chunk->name == (const char *)weir_talloc_object(name))
			break;
	if (name != NULL)
		weir_talloc_unlink(name);
	while (chunk->child != NULL) {
		struct weir_talloc_chunk *child = chunk->child;
		struct weir_talloc_chunk *keeper = NULL;

		if (child->refs != NULL)
			keeper = weir_talloc_of(child->refs)->parent;
		if (weir_talloc_free_tree(child) != 0 && child->parent == chunk)
			weir_talloc_abandon(child, keeper);
	}
	if (name != NULL)
		weir_talloc_link(name, chunk);
}

void
_talloc_set_destructor(const void *ptr, int (*destructor)(void *))
{
	weir_talloc_of(ptr)->destructor = destructor;
}

#endif /* WEIR_COMPAT_TALLOC_FREE_H */
