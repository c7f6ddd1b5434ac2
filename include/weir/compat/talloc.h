/* SPDX-License-Identifier: MIT */
/*
 * talloc.h - the calls of Samba's talloc, over weir.
 *
 * For code written against talloc.h: include this wherever that was; one file
 * of the program defines WEIR_COMPAT_IMPLEMENTATION before it does.
 *
 * Every object of talloc is freed, moved and resized by itself, which no region
 * can do.  Objects therefore come from the heap, each behind a header that holds
 * its place in the tree.  A talloc_pool() is a region: what is allocated below
 * it lies there, and the memory comes back when the last of it is freed.
 *
 * A tree is freed without recursion.  docs/MIGRATION.md tells what differs from
 * talloc, and what is left out.
 */
#ifndef WEIR_COMPAT_TALLOC_H
#define WEIR_COMPAT_TALLOC_H

#include <weir/heap.h>
#include <weir/region.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

WEIR_BEGIN_DECLS

typedef void TALLOC_CTX;

#define WEIR_TALLOC_TEXT_(line) #line
#define WEIR_TALLOC_TEXT(line) WEIR_TALLOC_TEXT_(line)
#ifndef __location__
#define __location__ __FILE__ ":" WEIR_TALLOC_TEXT(__LINE__)
#endif

#if defined(__GNUC__)
#define WEIR_TALLOC_TYPEOF(ptr) __typeof__(ptr)
#else
#define WEIR_TALLOC_TYPEOF(ptr) void *
#endif

/* ---- objects -------------------------------------------------------------- */

void *talloc_named(const void *ctx, size_t size, const char *fmt, ...)
    WEIR_PRINTF(3, 4);
void *talloc_named_const(const void *ctx, size_t size, const char *name);
void *talloc_init(const char *fmt, ...) WEIR_PRINTF(1, 2);
void *_talloc_zero(const void *ctx, size_t size, const char *name);
void *_talloc_memdup(
    const void *ctx, const void *p, size_t size, const char *name);
void *_talloc_array(
    const void *ctx, size_t el_size, unsigned count, const char *name);
void *_talloc_zero_array(
    const void *ctx, size_t el_size, unsigned count, const char *name);
void *_talloc_realloc(
    const void *ctx, void *ptr, size_t size, const char *name);
void *_talloc_realloc_array(const void *ctx, void *ptr, size_t el_size,
    unsigned count, const char *name);
void *talloc_realloc_fn(const void *ctx, void *ptr, size_t size);

#define talloc(ctx, type) (type *)talloc_named_const(ctx, sizeof(type), #type)
#define talloc_size(ctx, size) talloc_named_const(ctx, size, __location__)
#define talloc_ptrtype(ctx, ptr) \
	(WEIR_TALLOC_TYPEOF(ptr)) talloc_size(ctx, sizeof(*(ptr)))
#define talloc_new(ctx) talloc_named_const(ctx, 0, "talloc_new: " __location__)
#define talloc_zero(ctx, type) (type *)_talloc_zero(ctx, sizeof(type), #type)
#define talloc_zero_size(ctx, size) _talloc_zero(ctx, size, __location__)
#define talloc_memdup(ctx, p, size) _talloc_memdup(ctx, p, size, __location__)
#define talloc_array(ctx, type, count) \
	(type *)_talloc_array(ctx, sizeof(type), count, #type)
#define talloc_array_size(ctx, size, count) \
	_talloc_array(ctx, size, count, __location__)
#define talloc_array_ptrtype(ctx, ptr, count) \
	(WEIR_TALLOC_TYPEOF(ptr)) talloc_array_size(ctx, sizeof(*(ptr)), count)
#define talloc_zero_array(ctx, type, count) \
	(type *)_talloc_zero_array(ctx, sizeof(type), count, #type)
#define talloc_array_length(ctx) (talloc_get_size(ctx) / sizeof(*(ctx)))
#define talloc_realloc(ctx, p, type, count) \
	(type *)_talloc_realloc_array(ctx, p, sizeof(type), count, #type)
#define talloc_realloc_size(ctx, ptr, size) \
	_talloc_realloc(ctx, ptr, size, __location__)

/* ---- ends ----------------------------------------------------------------- */

int _talloc_free(void *ptr, const char *location);
void talloc_free_children(void *ptr);
void _talloc_set_destructor(const void *ptr, int (*destructor)(void *));

#define talloc_free(ptr) _talloc_free(ptr, __location__)
#define TALLOC_FREE(ctx)                  \
	do {                              \
		if ((ctx) != NULL) {      \
			talloc_free(ctx); \
			(ctx) = NULL;     \
		}                         \
	} while (0)
#if defined(__GNUC__) && !defined(__cplusplus)
/* The destructor takes the type of the object. */
#define talloc_set_destructor(ptr, function)                               \
	__extension__({                                                    \
		int (*weir_talloc_fn)(WEIR_TALLOC_TYPEOF(ptr)) = function; \
		_talloc_set_destructor(                                    \
		    (ptr), (int (*)(void *))weir_talloc_fn);               \
	})
#else
#define talloc_set_destructor(ptr, function) \
	_talloc_set_destructor((ptr), (int (*)(void *))(function))
#endif

/* ---- the tree --------------------------------------------------------------- */

void *_talloc_steal_loc(
    const void *new_ctx, const void *ptr, const char *location);
void *_talloc_move(const void *new_ctx, const void *pptr);
void *_talloc_reference_loc(
    const void *ctx, const void *ptr, const char *location);
int talloc_unlink(const void *ctx, void *ptr);
int talloc_increase_ref_count(const void *ptr);
size_t talloc_reference_count(const void *ptr);
void *talloc_reparent(
    const void *old_parent, const void *new_parent, const void *ptr);
void *talloc_parent(const void *ptr);
const char *talloc_parent_name(const void *ptr);
int talloc_is_parent(const void *ctx, const void *ptr);
void *talloc_find_parent_byname(const void *ctx, const char *name);
size_t talloc_total_size(const void *ptr);
size_t talloc_total_blocks(const void *ptr);
size_t talloc_get_size(const void *ptr);

#define talloc_steal(ctx, ptr) \
	((WEIR_TALLOC_TYPEOF(ptr))_talloc_steal_loc((ctx), (ptr), __location__))
#define talloc_move(ctx, pptr) \
	((WEIR_TALLOC_TYPEOF(*(pptr)))_talloc_move((ctx), (const void *)(pptr)))
#define talloc_reference(ctx, ptr)                       \
	((WEIR_TALLOC_TYPEOF(ptr))_talloc_reference_loc( \
	    (ctx), (ptr), __location__))
#define talloc_find_parent_bytype(ptr, type) \
	(type *)talloc_find_parent_byname(ptr, #type)

void *talloc_pool(const void *ctx, size_t size);
void *_talloc_pooled_object(const void *ctx, size_t type_size,
    const char *type_name, unsigned subobjects, size_t subobjects_size);
#define talloc_pooled_object(ctx, type, subobjects, subobjects_size) \
	(type *)_talloc_pooled_object(                               \
	    (ctx), sizeof(type), #type, (subobjects), (subobjects_size))

/* ---- names ------------------------------------------------------------------- */

const char *talloc_set_name(const void *ptr, const char *fmt, ...)
    WEIR_PRINTF(2, 3);
void talloc_set_name_const(const void *ptr, const char *name);
const char *talloc_get_name(const void *ptr);
void *talloc_check_name(const void *ptr, const char *name);
void *_talloc_get_type_abort(
    const void *ptr, const char *name, const char *location);
#define talloc_set_type(ptr, type) talloc_set_name_const(ptr, #type)
#define talloc_get_type(ptr, type) (type *)talloc_check_name(ptr, #type)
#define talloc_get_type_abort(ptr, type) \
	(type *)_talloc_get_type_abort(ptr, #type, __location__)

/* ---- strings ------------------------------------------------------------------ */

char *talloc_strdup(const void *ctx, const char *p);
char *talloc_strndup(const void *ctx, const char *p, size_t n);
char *talloc_strdup_append(char *s, const char *a);
char *talloc_strdup_append_buffer(char *s, const char *a);
char *talloc_strndup_append(char *s, const char *a, size_t n);
char *talloc_strndup_append_buffer(char *s, const char *a, size_t n);
char *talloc_asprintf(const void *ctx, const char *fmt, ...) WEIR_PRINTF(2, 3);
char *talloc_vasprintf(const void *ctx, const char *fmt, va_list ap)
    WEIR_PRINTF(2, 0);
char *talloc_asprintf_append(char *s, const char *fmt, ...) WEIR_PRINTF(2, 3);
char *talloc_asprintf_append_buffer(char *s, const char *fmt, ...)
    WEIR_PRINTF(2, 3);
char *talloc_vasprintf_append(char *s, const char *fmt, va_list ap)
    WEIR_PRINTF(2, 0);
char *talloc_vasprintf_append_buffer(char *s, const char *fmt, va_list ap)
    WEIR_PRINTF(2, 0);

/* ---- reports --------------------------------------------------------------------- */

void talloc_report_depth_cb(const void *ptr, int depth, int max_depth,
    void (*callback)(const void *ptr, int depth, int max_depth, int is_ref,
	void *private_data),
    void *private_data);
void talloc_report_depth_file(
    const void *ptr, int depth, int max_depth, FILE *f);
void talloc_report_full(const void *ptr, FILE *f);
void talloc_report(const void *ptr, FILE *f);
void talloc_enable_null_tracking(void);
void talloc_disable_null_tracking(void);
void talloc_set_abort_fn(void (*abort_fn)(const char *reason));
void talloc_set_log_fn(void (*log_fn)(const char *message));

#ifdef WEIR_COMPAT_IMPLEMENTATION

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

/* ---- pools -------------------------------------------------------------------------- */

static struct weir_talloc_chunk *
weir_talloc_make_pool(
    const void *ctx, size_t bytes, size_t room, const void *site)
{
	struct weir_region_config config;
	struct weir_talloc_chunk *parent = weir_talloc_context(ctx);
	struct weir_talloc_pool *pool =
	    (struct weir_talloc_pool *)weir_calloc(1, sizeof(*pool));
	struct weir_talloc_chunk *chunk;

	if (pool == NULL)
		return NULL;
	memset(&config, 0, sizeof(config));
	config.first_bytes =
	    room < WEIR_REGION_FIRST_MAX ? room : WEIR_REGION_FIRST_MAX;
	if (config.first_bytes < WEIR_REGION_BLOCK_MIN)
		config.first_bytes = WEIR_REGION_BLOCK_MIN;
	config.site = site;
	if (weir_region_create(&weir_talloc_kind, &config, &pool->region) !=
	    0) {
		weir_free(pool);
		return NULL;
	}
	chunk = weir_talloc_make(parent, bytes, false);
	if (chunk == NULL) {
		weir_talloc_pool_end(pool);
		return NULL;
	}
	chunk->flags |= WEIR_TALLOC_OWNS;
	chunk->pool = pool;
	return chunk;
}

WEIR_NOINLINE void *
talloc_pool(const void *ctx, size_t size)
{
	struct weir_talloc_chunk *chunk =
	    weir_talloc_make_pool(ctx, 0, size, WEIR_CALLER());

	if (chunk == NULL)
		return NULL;
	chunk->name = "talloc_pool";
	return weir_talloc_object(chunk);
}

WEIR_NOINLINE void *
_talloc_pooled_object(const void *ctx, size_t type_size, const char *type_name,
    unsigned subobjects, size_t subobjects_size)
{
	size_t room = (size_t)subobjects * (WEIR_TALLOC_HEADER + 16);
	struct weir_talloc_chunk *chunk;

	if (subobjects_size > SIZE_MAX - room)
		return NULL;
	chunk = weir_talloc_make_pool(
	    ctx, type_size, room + subobjects_size, WEIR_CALLER());
	if (chunk == NULL)
		return NULL;
	chunk->name = type_name;
	return weir_talloc_object(chunk);
}

/* ---- names ---------------------------------------------------------------------------- */

void
talloc_set_name_const(const void *ptr, const char *name)
{
	weir_talloc_of(ptr)->name = name;
}

static const char *weir_talloc_set_name(
    const void *ptr, const char *fmt, va_list ap) WEIR_PRINTF(2, 0);

/* The text is a child, so that it ends with what it names. */
static const char *
weir_talloc_set_name(const void *ptr, const char *fmt, va_list ap)
{
	char *name = talloc_vasprintf(ptr, fmt, ap);

	weir_talloc_of(ptr)->name = name;
	if (name != NULL)
		talloc_set_name_const(name, ".name");
	return name;
}

const char *
talloc_set_name(const void *ptr, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	const char *name = weir_talloc_set_name(ptr, fmt, ap);
	va_end(ap);
	return name;
}

void *
talloc_named(const void *ctx, size_t size, const char *fmt, ...)
{
	void *ptr = talloc_named_const(ctx, size, NULL);
	const char *name;
	va_list ap;

	if (ptr == NULL)
		return NULL;
	va_start(ap, fmt);
	name = weir_talloc_set_name(ptr, fmt, ap);
	va_end(ap);
	if (name != NULL)
		return ptr;
	talloc_free(ptr);
	return NULL;
}

void *
talloc_init(const char *fmt, ...)
{
	void *ptr = talloc_named_const(NULL, 0, NULL);
	const char *name;
	va_list ap;

	if (ptr == NULL)
		return NULL;
	va_start(ap, fmt);
	name = weir_talloc_set_name(ptr, fmt, ap);
	va_end(ap);
	if (name != NULL)
		return ptr;
	talloc_free(ptr);
	return NULL;
}

const char *
talloc_get_name(const void *ptr)
{
	const char *name = weir_talloc_of(ptr)->name;

	return name != NULL ? name : "UNNAMED";
}

void *
talloc_check_name(const void *ptr, const char *name)
{
	if (ptr == NULL || strcmp(talloc_get_name(ptr), name) != 0)
		return NULL;
	return weir_talloc_object(weir_talloc_of(ptr));
}

void *
_talloc_get_type_abort(const void *ptr, const char *name, const char *location)
{
	void *found = talloc_check_name(ptr, name);
	char text[256];

	if (found != NULL)
		return found;
	snprintf(text, sizeof(text), "%s: Type mismatch: name[%s] expected[%s]",
	    location, ptr != NULL ? talloc_get_name(ptr) : "NULL", name);
	weir_talloc_die(text);
	return NULL;
}

/* ---- freeing ------------------------------------------------------------------------- */

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

/* ---- what is known of the tree ---------------------------------------------------------- */

void *
talloc_parent(const void *ptr)
{
	struct weir_talloc_chunk *parent =
	    ptr == NULL ? NULL : weir_talloc_of(ptr)->parent;

	return parent == NULL ? NULL : weir_talloc_object(parent);
}

const char *
talloc_parent_name(const void *ptr)
{
	const void *parent = talloc_parent(ptr);

	return parent == NULL ? NULL : talloc_get_name(parent);
}

/* Is @ptr the context itself or above it? */
int
talloc_is_parent(const void *ctx, const void *ptr)
{
	if (ctx == NULL || ptr == NULL)
		return 0;
	return weir_talloc_below(weir_talloc_of(ctx), weir_talloc_of(ptr));
}

void *
talloc_find_parent_byname(const void *ctx, const char *name)
{
	struct weir_talloc_chunk *chunk =
	    ctx == NULL ? NULL : weir_talloc_of(ctx);

	while (chunk != NULL &&
	       (chunk->name == NULL || strcmp(chunk->name, name) != 0))
		chunk = chunk->parent;
	return chunk == NULL ? NULL : weir_talloc_object(chunk);
}

/* The chunk after another in the tree below @top, parents first. */
static struct weir_talloc_chunk *
weir_talloc_next(
    struct weir_talloc_chunk *chunk, const struct weir_talloc_chunk *top)
{
	if (chunk->child != NULL)
		return chunk->child;
	while (chunk != top && chunk->older == NULL)
		chunk = chunk->parent;
	return chunk == top ? NULL : chunk->older;
}

size_t
talloc_total_size(const void *ptr)
{
	struct weir_talloc_chunk *top = weir_talloc_context(ptr);
	size_t bytes = 0;

	for (struct weir_talloc_chunk *chunk = top; chunk != NULL;
	     chunk = weir_talloc_next(chunk, top))
		if (chunk->destructor != weir_talloc_ref_end)
			bytes += chunk->bytes;
	return bytes;
}

size_t
talloc_total_blocks(const void *ptr)
{
	struct weir_talloc_chunk *top = weir_talloc_context(ptr);
	size_t blocks = 0;

	for (struct weir_talloc_chunk *chunk = top; chunk != NULL;
	     chunk = weir_talloc_next(chunk, top))
		blocks++;
	return blocks;
}

void
talloc_report_depth_cb(const void *ptr, int depth, int max_depth,
    void (*callback)(const void *ptr, int depth, int max_depth, int is_ref,
	void *private_data),
    void *private_data)
{
	struct weir_talloc_chunk *top = weir_talloc_context(ptr);
	struct weir_talloc_chunk *chunk = top;

	while (chunk != NULL) {
		bool is_ref = chunk->destructor == weir_talloc_ref_end;
		void *object = weir_talloc_object(chunk);

		if (is_ref)
			object = weir_talloc_object(
			    ((struct weir_talloc_ref *)object)->target);
		if (max_depth < 0 || depth < max_depth)
			callback(
			    object, depth, max_depth, is_ref, private_data);
		/* One step, and what that does to the depth. */
		if (chunk->child != NULL) {
			chunk = chunk->child;
			depth++;
			continue;
		}
		while (chunk != top && chunk->older == NULL) {
			chunk = chunk->parent;
			depth--;
		}
		chunk = chunk == top ? NULL : chunk->older;
	}
}

static void
weir_talloc_report_line(
    const void *ptr, int depth, int max_depth, int is_ref, void *private_data)
{
	FILE *file = (FILE *)private_data;
	const char *name = talloc_get_name(ptr);

	(void)max_depth;
	if (is_ref) {
		fprintf(file, "%*sreference to: %s\n", depth * 4, "", name);
		return;
	}
	fprintf(file,
	    "%*s%-30s contains %6lu bytes in %3lu blocks (ref %lu) %p\n",
	    depth * 4, "", name, (unsigned long)talloc_total_size(ptr),
	    (unsigned long)talloc_total_blocks(ptr),
	    (unsigned long)talloc_reference_count(ptr), ptr);
}

void
talloc_report_depth_file(const void *ptr, int depth, int max_depth, FILE *f)
{
	if (f == NULL)
		return;
	talloc_report_depth_cb(
	    ptr, depth, max_depth, weir_talloc_report_line, f);
	fflush(f);
}

void
talloc_report_full(const void *ptr, FILE *f)
{
	talloc_report_depth_file(ptr, 0, -1, f);
}

void
talloc_report(const void *ptr, FILE *f)
{
	talloc_report_depth_file(ptr, 0, 1, f);
}

void
talloc_enable_null_tracking(void)
{
	if (weir_talloc_null == NULL)
		weir_talloc_null = talloc_named_const(NULL, 0, "null_context");
}

/* What is below it has no parent from now on. */
void
talloc_disable_null_tracking(void)
{
	void *null = weir_talloc_null;
	struct weir_talloc_chunk *chunk;

	if (null == NULL)
		return;
	weir_talloc_null = NULL;
	chunk = weir_talloc_of(null);
	while (chunk->child != NULL) {
		struct weir_talloc_chunk *child = chunk->child;

		weir_talloc_unlink(child);
		weir_talloc_link(child, NULL);
	}
	talloc_free(null);
}

/* ---- strings ----------------------------------------------------------------------------- */

static char *
weir_talloc_text(const void *ctx, const char *p, size_t length)
{
	char *text = (char *)talloc_named_const(ctx, length + 1, NULL);

	if (text == NULL)
		return NULL;
	memcpy(text, p, length);
	text[length] = '\0';
	talloc_set_name_const(text, text);
	return text;
}

char *
talloc_strdup(const void *ctx, const char *p)
{
	return p == NULL ? NULL : weir_talloc_text(ctx, p, strlen(p));
}

static size_t
weir_talloc_strnlen(const char *p, size_t n)
{
	const char *end = (const char *)memchr(p, '\0', n);

	return end != NULL ? (size_t)(end - p) : n;
}

char *
talloc_strndup(const void *ctx, const char *p, size_t n)
{
	return p == NULL ? NULL
			 : weir_talloc_text(ctx, p, weir_talloc_strnlen(p, n));
}

/* Room for so many characters more behind the first @used; its name follows. */
static char *
weir_talloc_longer(char *s, size_t used, size_t more)
{
	char *text = (char *)_talloc_realloc(NULL, s, used + more + 1, NULL);

	if (text != NULL)
		talloc_set_name_const(text, text);
	return text;
}

static size_t
weir_talloc_used(const char *s)
{
	size_t bytes = talloc_get_size(s);

	return bytes == 0 ? 0 : bytes - 1;
}

static char *
weir_talloc_append(char *s, size_t used, const char *a, size_t length)
{
	char *text = weir_talloc_longer(s, used, length);

	if (text == NULL)
		return NULL;
	memcpy(text + used, a, length);
	text[used + length] = '\0';
	return text;
}

char *
talloc_strdup_append(char *s, const char *a)
{
	if (s == NULL)
		return talloc_strdup(NULL, a);
	return a == NULL ? s : weir_talloc_append(s, strlen(s), a, strlen(a));
}

char *
talloc_strdup_append_buffer(char *s, const char *a)
{
	if (s == NULL)
		return talloc_strdup(NULL, a);
	return a == NULL
		   ? s
		   : weir_talloc_append(s, weir_talloc_used(s), a, strlen(a));
}

char *
talloc_strndup_append(char *s, const char *a, size_t n)
{
	if (s == NULL)
		return talloc_strndup(NULL, a, n);
	return a == NULL ? s
			 : weir_talloc_append(
			       s, strlen(s), a, weir_talloc_strnlen(a, n));
}

char *
talloc_strndup_append_buffer(char *s, const char *a, size_t n)
{
	if (s == NULL)
		return talloc_strndup(NULL, a, n);
	return a == NULL ? s
			 : weir_talloc_append(s, weir_talloc_used(s), a,
			       weir_talloc_strnlen(a, n));
}

static int weir_talloc_measure(const char *fmt, va_list ap) WEIR_PRINTF(1, 0);

static int
weir_talloc_measure(const char *fmt, va_list ap)
{
	va_list again;
	int length;

	va_copy(again, ap);
	length = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	return length;
}

char *
talloc_vasprintf(const void *ctx, const char *fmt, va_list ap)
{
	int length = weir_talloc_measure(fmt, ap);
	char *text;

	if (length < 0)
		return NULL;
	text = (char *)talloc_named_const(ctx, (size_t)length + 1, NULL);
	if (text == NULL)
		return NULL;
	vsnprintf(text, (size_t)length + 1, fmt, ap);
	talloc_set_name_const(text, text);
	return text;
}

static char *weir_talloc_print(
    char *s, size_t used, const char *fmt, va_list ap) WEIR_PRINTF(3, 0);

static char *
weir_talloc_print(char *s, size_t used, const char *fmt, va_list ap)
{
	int length = weir_talloc_measure(fmt, ap);
	char *text;

	/* Nothing to add: as in talloc, the string as it is. */
	if (length <= 0)
		return s;
	text = weir_talloc_longer(s, used, (size_t)length);
	if (text != NULL)
		vsnprintf(text + used, (size_t)length + 1, fmt, ap);
	return text;
}

char *
talloc_vasprintf_append(char *s, const char *fmt, va_list ap)
{
	if (s == NULL)
		return talloc_vasprintf(NULL, fmt, ap);
	return weir_talloc_print(s, strlen(s), fmt, ap);
}

char *
talloc_vasprintf_append_buffer(char *s, const char *fmt, va_list ap)
{
	if (s == NULL)
		return talloc_vasprintf(NULL, fmt, ap);
	return weir_talloc_print(s, weir_talloc_used(s), fmt, ap);
}

char *
talloc_asprintf(const void *ctx, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *text = talloc_vasprintf(ctx, fmt, ap);
	va_end(ap);
	return text;
}

char *
talloc_asprintf_append(char *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *text = talloc_vasprintf_append(s, fmt, ap);
	va_end(ap);
	return text;
}

char *
talloc_asprintf_append_buffer(char *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *text = talloc_vasprintf_append_buffer(s, fmt, ap);
	va_end(ap);
	return text;
}

#endif /* WEIR_COMPAT_IMPLEMENTATION */

WEIR_END_DECLS

#endif /* WEIR_COMPAT_TALLOC_H */
