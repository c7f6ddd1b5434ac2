/* SPDX-License-Identifier: MIT */
/*
 * move.h - objects move to another parent, are referred to, and change their
 * size.
 *
 * Part of weir/compat/talloc.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_TALLOC_MOVE_H
#define WEIR_COMPAT_TALLOC_MOVE_H

/* ---- moving and referring ------------------------------------------------------------ */

static void *
weir_talloc_steal(const void *new_ctx, const void *ptr)
{
	struct weir_talloc_chunk *parent;
	struct weir_talloc_chunk *chunk;

	if (ptr == NULL)
		return NULL;
	parent = weir_talloc_context(new_ctx);
	chunk = weir_talloc_of(ptr);
	/* One that is being freed goes nowhere any more. */
	if (parent != chunk && parent != chunk->parent &&
	    (chunk->flags & WEIR_TALLOC_ENDING) == 0) {
		weir_talloc_unlink(chunk);
		weir_talloc_link(chunk, parent);
	}
	return weir_talloc_object(chunk);
}

void *
_talloc_steal_loc(const void *new_ctx, const void *ptr, const char *location)
{
	if (ptr != NULL && weir_talloc_of(ptr)->refs != NULL &&
	    weir_talloc_of(ptr)->parent != weir_talloc_context(new_ctx))
		weir_talloc_say("WARNING: talloc_steal with references",
		    talloc_get_name(ptr), location);
	return weir_talloc_steal(new_ctx, ptr);
}

void *
_talloc_move(const void *new_ctx, const void *pptr)
{
	void *moved;

	/* Whatever type the pointer has, it is one. */
	memcpy(&moved, pptr, sizeof(moved));
	memset((void *)(uintptr_t)pptr, 0, sizeof(moved));
	return weir_talloc_steal(new_ctx, moved);
}

void *
_talloc_reference_loc(const void *ctx, const void *ptr, const char *location)
{
	struct weir_talloc_chunk *target;
	struct weir_talloc_chunk *chunk;
	struct weir_talloc_ref *ref;

	if (ptr == NULL)
		return NULL;
	target = weir_talloc_of(ptr);
	chunk = weir_talloc_make(weir_talloc_context(ctx), sizeof(*ref), true);
	if (chunk == NULL)
		return NULL;
	ref = (struct weir_talloc_ref *)weir_talloc_object(chunk);
	chunk->name = WEIR_TALLOC_REFERENCE;
	chunk->destructor = weir_talloc_ref_end;
	ref->target = target;
	ref->location = location;
	ref->previous = NULL;
	ref->next = target->refs;
	if (ref->next != NULL)
		ref->next->previous = ref;
	target->refs = ref;
	return weir_talloc_object(target);
}

static struct weir_talloc_ref *
weir_talloc_ref_of(
    struct weir_talloc_chunk *target, struct weir_talloc_chunk *parent)
{
	struct weir_talloc_ref *ref = target->refs;

	while (ref != NULL && weir_talloc_of(ref)->parent != parent)
		ref = ref->next;
	return ref;
}

int
talloc_unlink(const void *ctx, void *ptr)
{
	struct weir_talloc_chunk *parent = weir_talloc_context(ctx);
	struct weir_talloc_chunk *chunk;
	struct weir_talloc_chunk *heir;
	struct weir_talloc_ref *ref;

	if (ptr == NULL)
		return -1;
	chunk = weir_talloc_of(ptr);
	ref = weir_talloc_ref_of(chunk, parent);
	if (ref != NULL)
		return weir_talloc_free_tree(weir_talloc_of(ref));
	if (chunk->parent != parent)
		return -1;
	if (chunk->refs == NULL)
		return weir_talloc_free_tree(chunk);
	/* Who referred first in the list becomes the parent. */
	heir = weir_talloc_of(chunk->refs)->parent;
	if (weir_talloc_free_tree(weir_talloc_of(chunk->refs)) != 0)
		return -1;
	weir_talloc_unlink(chunk);
	weir_talloc_link(chunk, heir);
	return 0;
}

int
talloc_increase_ref_count(const void *ptr)
{
	return talloc_reference(NULL, ptr) != NULL ? 0 : -1;
}

size_t
talloc_reference_count(const void *ptr)
{
	size_t count = 0;

	for (struct weir_talloc_ref *ref = weir_talloc_of(ptr)->refs;
	     ref != NULL; ref = ref->next)
		count++;
	return count;
}

void *
talloc_reparent(const void *old_parent, const void *new_parent, const void *ptr)
{
	struct weir_talloc_chunk *parent = weir_talloc_context(old_parent);
	struct weir_talloc_ref *ref;

	if (ptr == NULL)
		return NULL;
	if (weir_talloc_of(ptr)->parent == parent)
		return weir_talloc_steal(new_parent, ptr);
	ref = weir_talloc_ref_of(weir_talloc_of(ptr), parent);
	if (ref == NULL || weir_talloc_steal(new_parent, ref) == NULL)
		return NULL;
	return weir_talloc_object(weir_talloc_of(ptr));
}

/* ---- resizing -------------------------------------------------------------------------- */

/* All that points at a chunk which moved. */
static void
weir_talloc_moved(
    struct weir_talloc_chunk *to, const struct weir_talloc_chunk *from)
{
	if (to->newer != NULL)
		to->newer->older = to;
	else if (to->parent != NULL && to->parent->child == from)
		to->parent->child = to;
	if (to->older != NULL)
		to->older->newer = to;
	for (struct weir_talloc_chunk *child = to->child; child != NULL;
	     child = child->older)
		child->parent = to;
}

static struct weir_talloc_chunk *
weir_talloc_resize(struct weir_talloc_chunk *chunk, size_t bytes)
{
	struct weir_talloc_chunk *made;

	if (chunk->pool == NULL)
		return (struct weir_talloc_chunk *)weir_realloc(
		    chunk, WEIR_TALLOC_HEADER + bytes);
	if (bytes <= chunk->bytes)
		return chunk;
	made = (struct weir_talloc_chunk *)weir_region_alloc(
	    chunk->pool->region, WEIR_TALLOC_HEADER + bytes);
	if (made == NULL)
		return NULL;
	memcpy(made, chunk, WEIR_TALLOC_HEADER + chunk->bytes);
	chunk->magic = WEIR_TALLOC_DEAD;
	return made;
}

void *
_talloc_realloc(const void *ctx, void *ptr, size_t size, const char *name)
{
	struct weir_talloc_chunk *chunk;
	struct weir_talloc_chunk *made;

	if (ptr == NULL)
		return talloc_named_const(ctx, size, name);
	if (size == 0) {
		talloc_unlink(ctx, ptr);
		return NULL;
	}
	chunk = weir_talloc_of(ptr);
	/* Who refers to it would be left behind. */
	if (chunk->refs != NULL || (chunk->flags & WEIR_TALLOC_OWNS) != 0 ||
	    size > SIZE_MAX - WEIR_TALLOC_HEADER)
		return NULL;
	made = weir_talloc_resize(chunk, size);
	if (made == NULL)
		return NULL;
	if (made != chunk)
		weir_talloc_moved(made, chunk);
	made->bytes = size;
	made->name = name;
	return weir_talloc_object(made);
}

void *
_talloc_realloc_array(const void *ctx, void *ptr, size_t el_size,
    unsigned count, const char *name)
{
	if (el_size != 0 && count > SIZE_MAX / el_size)
		return NULL;
	return _talloc_realloc(ctx, ptr, el_size * count, name);
}

void *
talloc_realloc_fn(const void *ctx, void *ptr, size_t size)
{
	return _talloc_realloc(ctx, ptr, size, NULL);
}

#endif /* WEIR_COMPAT_TALLOC_MOVE_H */
