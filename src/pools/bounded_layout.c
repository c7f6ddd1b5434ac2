/* SPDX-License-Identifier: MIT */
/*
 * bounded_layout.c - the storage of a bounded pool: made, found again, ended.
 *
 * Everything in the header but the name and the failures follows from four
 * numbers of the configuration.  So attaching computes the header once more and
 * compares: a pool of another library, of another word size or with a stray
 * write in its header is refused whole, and no field needs a check of its own.
 *
 * Init clears the magic number first and writes it last.  Whoever attaches
 * meanwhile sees no pool, or all of it.
 */
#include "pools/bounded.h"

/* Of live and of finished pools; the low bits tell the word size apart. */
#define BOUNDED_MAGIC (UINT32_C(0x626e6400) + BOUNDED_WORD_BITS)
#define BOUNDED_DEAD (UINT32_C(0x64656100) + BOUNDED_WORD_BITS)

/* ---- faults ------------------------------------------------------------ */

#if __STDC_HOSTED__
void
weiri_bounded_fault(const struct weir_bounded *pool,
    enum weir_fault_class fault_class, const void *address, size_t number,
    const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "bounded",
	    .pool_name = pool->name,
	    .address = address,
	    .number = number,
	    .detail = detail,
	});
}
#else
__attribute__((weak, cold)) void
weir_bounded_fault(const struct weir_bounded *pool,
    enum weir_fault_class fault_class, const void *address)
{
	(void)pool;
	(void)fault_class;
	(void)address;
	__builtin_trap();
}

void
weiri_bounded_fault(const struct weir_bounded *pool,
    enum weir_fault_class fault_class, const void *address, size_t number,
    const char *detail)
{
	(void)number;
	(void)detail;
	weir_bounded_fault(pool, fault_class, address);
}
#endif

/* ---- layout ------------------------------------------------------------ */

static size_t
layout_log2(size_t power)
{
	return bounded_lowest((bounded_bits)power);
}

/* Newton's iteration: each step doubles the number of right bits, and an odd
 * number is its own inverse modulo 8. */
static size_t
layout_inverse(size_t odd)
{
	size_t inverse = odd;

	for (unsigned bits = 3; bits < BOUNDED_WORD_BITS; bits *= 2)
		inverse *= 2 - odd * inverse;
	return inverse;
}

static bool
layout_config_valid(const struct weir_bounded_config *config)
{
	size_t bytes = config->object_bytes, align = config->object_align;
	size_t count = config->object_count;
	/* A quarter of it: no sum of the layout's arithmetic wraps. */
	const size_t most = SIZE_MAX / 4;

	if (bytes == 0 || bytes > most || align > most ||
	    (align & (align - 1)) != 0)
		return false;
	if (count == 0 || count > WEIR_BOUNDED_COUNT_MAX)
		return false;
	/* A word takes 64 bytes at most and tracks 8 objects at least. */
	if (WEIR_BOUNDED_STRIDE(bytes, align) > (most - align) / count ||
	    count > most / 8)
		return false;
	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		if (config->reserved[i] != 0)
			return false;
	return (config->flags & ~(unsigned)WEIR_BOUNDED_COMPACT) == 0;
}

size_t
weir_bounded_storage_bytes(const struct weir_bounded_config *config)
{
	if (!layout_config_valid(config))
		return 0;
	return WEIR_BOUNDED_BYTES(config->object_bytes, config->object_align,
	    config->object_count, config->flags);
}

/* All of the header that follows from a valid configuration, but the magic. */
static void
layout_make(struct weir_bounded *pool, const struct weir_bounded_config *config)
{
	size_t bytes = config->object_bytes, count = config->object_count;
	size_t align = WEIR_BOUNDED_OBJECT_ALIGN_(bytes, config->object_align);
	size_t span = WEIR_BOUNDED_SPAN_(count, config->flags);

	pool->word_count = (uint32_t)WEIR_BOUNDED_WORDS_(count, config->flags);
	pool->word_stride =
	    (uint32_t)WEIR_BOUNDED_WORD_STRIDE_(count, config->flags);
	pool->span_shift = (uint32_t)layout_log2(span);
	pool->object_count = count;
	pool->stride = WEIR_BOUNDED_ROUND_(bytes, align);
	pool->stride_shift = layout_log2(pool->stride & (0 - pool->stride));
	pool->stride_inverse =
	    layout_inverse(pool->stride >> pool->stride_shift);
	pool->version = BOUNDED_LAYOUT_VERSION;
	pool->flags = config->flags;
	pool->object_bytes = bytes;
	pool->object_align = align;
	pool->objects_offset = WEIR_BOUNDED_ROUND_(
	    sizeof(*pool) + (size_t)pool->word_count * pool->word_stride,
	    align);
	pool->storage_bytes = pool->objects_offset + count * pool->stride;
}

bool
weiri_bounded_header_valid(const struct weir_bounded *pool)
{
	struct weir_bounded_config config = {
	    .object_bytes = pool->object_bytes,
	    .object_align = pool->object_align,
	    .object_count = pool->object_count,
	    .flags = pool->flags,
	};
	struct weir_bounded want;

	if (pool->version != BOUNDED_LAYOUT_VERSION ||
	    config.object_align == 0 || !layout_config_valid(&config))
		return false;
	layout_make(&want, &config);
	return want.word_count == pool->word_count &&
	       want.word_stride == pool->word_stride &&
	       want.span_shift == pool->span_shift &&
	       want.stride == pool->stride &&
	       want.stride_shift == pool->stride_shift &&
	       want.stride_inverse == pool->stride_inverse &&
	       want.objects_offset == pool->objects_offset &&
	       want.storage_bytes == pool->storage_bytes &&
	       pool->name[BOUNDED_NAME_BYTES - 1] == '\0';
}

/* ---- life -------------------------------------------------------------- */

static bool
layout_aligned(const void *storage, size_t align)
{
	if (align < WEIR_BOUNDED_ALIGN)
		align = WEIR_BOUNDED_ALIGN;
	return ((uintptr_t)storage & (align - 1)) == 0;
}

int
weir_bounded_init(void *storage, size_t storage_bytes, const char *name,
    const struct weir_bounded_config *config, struct weir_bounded **out)
{
	size_t need = weir_bounded_storage_bytes(config);
	struct weir_bounded *pool = storage;

	*out = NULL;
	if (need == 0 || storage == NULL || storage_bytes < need ||
	    !layout_aligned(storage, config->object_align))
		return -EINVAL;
	/* An attach that comes too early finds no pool rather than half: as an
	 * acquire the exchange stays ahead of the writes below. */
	(void)__atomic_exchange_n(&pool->magic, 0, __ATOMIC_ACQUIRE);
	memset((char *)pool + sizeof(pool->magic), 0,
	    sizeof(*pool) - sizeof(pool->magic));
	layout_make(pool, config);
	if (name == NULL)
		name = "unnamed";
	for (size_t i = 0; i < BOUNDED_NAME_BYTES - 1 && name[i] != '\0'; i++)
		pool->name[i] = name[i];
	for (size_t i = 0; i < pool->word_count; i++) {
		struct bounded_word *word = bounded_word(pool, i);

		word->free = bounded_word_mask(pool, i);
		word->touched = 0;
	}
	/* Pairs with the acquire in weir_bounded_attach. */
	__atomic_store_n(&pool->magic, BOUNDED_MAGIC, __ATOMIC_RELEASE);
	*out = pool;
	return 0;
}

int
weir_bounded_attach(
    void *storage, size_t storage_bytes, struct weir_bounded **out)
{
	struct weir_bounded *pool = storage;

	*out = NULL;
	if (storage == NULL || !layout_aligned(storage, 1) ||
	    storage_bytes < sizeof(*pool))
		return -EINVAL;

	uint32_t magic = __atomic_load_n(&pool->magic, __ATOMIC_ACQUIRE);

	if (magic == 0 || magic == BOUNDED_DEAD)
		return -EAGAIN;
	if (magic != BOUNDED_MAGIC || !weiri_bounded_header_valid(pool))
		return -EPROTO;
	if (storage_bytes < pool->storage_bytes ||
	    !layout_aligned(storage, pool->object_align))
		return -EINVAL;
	*out = pool;
	return 0;
}

bool
weiri_bounded_live(const struct weir_bounded *pool)
{
	return WEIRI_LOAD(&pool->magic) == BOUNDED_MAGIC;
}

void
weir_bounded_finish(struct weir_bounded *pool)
{
	if (pool == NULL)
		return;
	if (WEIR_UNLIKELY(!weiri_bounded_live(pool)) &&
	    WEIR_DETECTOR(bounded_double_finish)) {
		weiri_bounded_fault(pool, WEIR_FAULT_DOUBLE_DESTROY, pool, 0,
		    "%p is no live pool");
		return;
	}

	size_t in_use = weir_bounded_in_use(pool);

	if (WEIR_UNLIKELY(in_use != 0) && WEIR_DETECTOR(bounded_live_objects)) {
		weiri_bounded_fault(pool, WEIR_FAULT_LIVE_OBJECTS, pool, in_use,
		    "%u %{object is|objects are} still in use");
		return;
	}
	__atomic_store_n(&pool->magic, BOUNDED_DEAD, __ATOMIC_RELEASE);
}
