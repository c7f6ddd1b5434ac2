/* SPDX-License-Identifier: MIT */
/*
 * pool.h - pools, which are regions, and names.
 *
 * Part of weir/compat/talloc.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_TALLOC_POOL_H
#define WEIR_COMPAT_TALLOC_POOL_H

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

#endif /* WEIR_COMPAT_TALLOC_POOL_H */
