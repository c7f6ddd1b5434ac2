/* SPDX-License-Identifier: MIT */
/*
 * chunk.h - objects: what lies before each, its place in the tree, its memory.
 *
 * Part of weir/compat/talloc.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_TALLOC_CHUNK_H
#define WEIR_COMPAT_TALLOC_CHUNK_H

/*
 * What lies before every object.  A reference is a small object of its own,
 * below the context that refers; it hangs in a list of what it refers to.
 *
 *   T1  An object is in the list of its parent's children, or has no parent.
 *   T2  While it is being freed it is in no list; parent still says where the
 *       walk goes on, and WEIR_TALLOC_ENDING is set.
 *   T3  pool->objects counts the objects in its region; the pool itself is none.
 */
struct weir_talloc_chunk {
	uint32_t magic;
	uint32_t flags;
	size_t bytes;
	struct weir_talloc_chunk *parent;
	struct weir_talloc_chunk *child; /* the newest */
	struct weir_talloc_chunk *newer;
	struct weir_talloc_chunk *older;
	struct weir_talloc_ref *refs;
	struct weir_talloc_pool *pool; /* whose region it lies in, or NULL */
	int (*destructor)(void *ptr);
	const char *name;
};

struct weir_talloc_ref {
	struct weir_talloc_ref *next;
	struct weir_talloc_ref *previous;
	struct weir_talloc_chunk *target;
	const char *location;
};

/* Lives on as long as an object of it does. */
struct weir_talloc_pool {
	struct weir_region *region;
	size_t objects;
	bool freed; /* the object that talloc_pool() returned */
};

#define WEIR_TALLOC_LIVE UINT32_C(0x77746c63)
#define WEIR_TALLOC_DEAD UINT32_C(0x77746c64)

#define WEIR_TALLOC_ENDING 1u  /* it is being freed */
#define WEIR_TALLOC_IN_CALL 2u /* its destructor is running */
#define WEIR_TALLOC_OWNS 4u    /* pool is its own; it lies in the heap */

#define WEIR_TALLOC_HEADER \
	((sizeof(struct weir_talloc_chunk) + 15) & ~(size_t)15)
#define WEIR_TALLOC_REFERENCE ".reference"

static struct weir_region_kind weir_talloc_kind =
    WEIR_REGION_KIND("talloc_pool");
static void *weir_talloc_null; /* parent of those without, once it is wanted */
static void (*weir_talloc_abort)(const char *reason);
static void (*weir_talloc_log)(const char *message);

static void
weir_talloc_say(const char *what, const char *name, const char *where)
{
	char text[256];

	if (weir_talloc_log == NULL)
		return;
	snprintf(text, sizeof(text), "%s: %s at %s\n", what, name, where);
	weir_talloc_log(text);
}

static void
weir_talloc_die(const char *reason)
{
	if (weir_talloc_log != NULL)
		weir_talloc_log(reason);
	if (weir_talloc_abort == NULL)
		abort();
	weir_talloc_abort(reason);
}

void
talloc_set_abort_fn(void (*abort_fn)(const char *reason))
{
	weir_talloc_abort = abort_fn;
}

void
talloc_set_log_fn(void (*log_fn)(const char *message))
{
	weir_talloc_log = log_fn;
}

static void
weir_talloc_log_stderr(const char *message)
{
	fputs(message, stderr);
}

void
talloc_set_log_stderr(void)
{
	weir_talloc_log = weir_talloc_log_stderr;
}

/* ---- headers and links -------------------------------------------------------- */

static void *
weir_talloc_object(const struct weir_talloc_chunk *chunk)
{
	return (char *)(uintptr_t)chunk + WEIR_TALLOC_HEADER;
}

static struct weir_talloc_chunk *
weir_talloc_of(const void *ptr)
{
	struct weir_talloc_chunk *chunk =
	    (struct weir_talloc_chunk *)((uintptr_t)ptr - WEIR_TALLOC_HEADER);

	if (WEIR_LIKELY(chunk->magic == WEIR_TALLOC_LIVE))
		return chunk;
	weir_talloc_die(chunk->magic == WEIR_TALLOC_DEAD
			    ? "Bad talloc magic value - access after free"
			    : "Bad talloc magic value - unknown value");
	return NULL;
}

/* Of an object that may be NULL: then what stands for none. */
static struct weir_talloc_chunk *
weir_talloc_context(const void *ctx)
{
	if (ctx == NULL)
		ctx = weir_talloc_null;
	return ctx == NULL ? NULL : weir_talloc_of(ctx);
}

static void
weir_talloc_link(
    struct weir_talloc_chunk *linked, struct weir_talloc_chunk *parent)
{
	linked->parent = parent;
	linked->newer = NULL;
	linked->older = NULL;
	if (parent == NULL)
		return;
	linked->older = parent->child;
	if (linked->older != NULL)
		linked->older->newer = linked;
	parent->child = linked;
}

/* The parent stays written where it was: see T2. */
static void
weir_talloc_unlink(struct weir_talloc_chunk *chunk)
{
	if (chunk->older != NULL)
		chunk->older->newer = chunk->newer;
	if (chunk->newer != NULL)
		chunk->newer->older = chunk->older;
	else if (chunk->parent != NULL && chunk->parent->child == chunk)
		chunk->parent->child = chunk->older;
	chunk->newer = NULL;
	chunk->older = NULL;
}

/* ---- memory ---------------------------------------------------------------------- */

static struct weir_talloc_chunk *
weir_talloc_make(struct weir_talloc_chunk *parent, size_t bytes, bool pooled)
{
	struct weir_talloc_pool *pool =
	    pooled && parent != NULL ? parent->pool : NULL;
	struct weir_talloc_chunk *chunk;

	if (bytes > SIZE_MAX - WEIR_TALLOC_HEADER)
		return NULL;
	chunk =
	    (struct weir_talloc_chunk *)(pool != NULL
					     ? weir_region_alloc(pool->region,
						   WEIR_TALLOC_HEADER + bytes)
					     : weir_alloc(
						   WEIR_TALLOC_HEADER + bytes));
	if (chunk == NULL)
		return NULL;
	memset(chunk, 0, sizeof(*chunk));
	chunk->magic = WEIR_TALLOC_LIVE;
	chunk->bytes = bytes;
	chunk->pool = pool;
	chunk->name = "UNNAMED";
	if (pool != NULL)
		pool->objects++;
	weir_talloc_link(chunk, parent);
	return chunk;
}

static void
weir_talloc_pool_end(struct weir_talloc_pool *pool)
{
	weir_region_destroy(pool->region);
	weir_free(pool);
}

static void
weir_talloc_release(struct weir_talloc_chunk *chunk)
{
	struct weir_talloc_pool *pool = chunk->pool;

	chunk->magic = WEIR_TALLOC_DEAD;
	if (pool == NULL) {
		weir_free(chunk);
	} else if ((chunk->flags & WEIR_TALLOC_OWNS) != 0) {
		pool->freed = true;
		weir_free(chunk);
		if (pool->objects == 0)
			weir_talloc_pool_end(pool);
	} else if (--pool->objects == 0) {
		if (pool->freed)
			weir_talloc_pool_end(pool);
		else
			weir_region_reset(pool->region);
	}
}

void *
talloc_named_const(const void *ctx, size_t size, const char *name)
{
	struct weir_talloc_chunk *chunk =
	    weir_talloc_make(weir_talloc_context(ctx), size, true);

	if (chunk == NULL)
		return NULL;
	chunk->name = name;
	return weir_talloc_object(chunk);
}

void *
_talloc_zero(const void *ctx, size_t size, const char *name)
{
	void *object = talloc_named_const(ctx, size, name);

	return object == NULL ? NULL : memset(object, 0, size);
}

void *
_talloc_memdup(const void *ctx, const void *p, size_t size, const char *name)
{
	void *object;

	if (p == NULL && size > 0)
		return NULL;
	object = talloc_named_const(ctx, size, name);
	if (object != NULL && size > 0)
		memcpy(object, p, size);
	return object;
}

void *
_talloc_array(const void *ctx, size_t el_size, unsigned count, const char *name)
{
	if (el_size != 0 && count > SIZE_MAX / el_size)
		return NULL;
	return talloc_named_const(ctx, el_size * count, name);
}

void *
_talloc_zero_array(
    const void *ctx, size_t el_size, unsigned count, const char *name)
{
	if (el_size != 0 && count > SIZE_MAX / el_size)
		return NULL;
	return _talloc_zero(ctx, el_size * count, name);
}

size_t
talloc_get_size(const void *ptr)
{
	struct weir_talloc_chunk *chunk = weir_talloc_context(ptr);

	return chunk == NULL ? 0 : chunk->bytes;
}

#endif /* WEIR_COMPAT_TALLOC_CHUNK_H */
