/* SPDX-License-Identifier: MIT */
/*
 * region_vec.c - vectors in a region.
 */
#include "pools/region_array.h"

static bool
vec_refuse(const struct weir_region_vec *vec)
{
	return weiri_region_refuse(weiri_region_of(vec->region)) != NULL;
}

bool
weir_region_vec_reserve(struct weir_region_vec *vec, size_t capacity)
{
	struct weiri_region *region = weiri_region_of(vec->region);
	size_t want = 0;
	void *data;

	if (capacity <= vec->capacity)
		return true;
	weiri_region_expect_live(region, "vector in %p, which was destroyed");
	weiri_region_here(region);
	if ((vec->element_bytes == 0 ||
		__builtin_mul_overflow(capacity, vec->element_bytes, &want)) &&
	    WEIR_DETECTOR(vec_product))
		return vec_refuse(vec);
	data = weiri_region_array_grow(region, vec->data,
	    vec->count * vec->element_bytes, &vec->bytes, want);
	if (WEIR_UNLIKELY(data == NULL))
		return false;
	vec->data = data;
	vec->capacity = vec->bytes / vec->element_bytes;
	return true;
}

void *
weir_region_vec_push_many(struct weir_region_vec *vec, size_t count)
{
	size_t sum;
	void *first;

	if (__builtin_add_overflow(vec->count, count, &sum)) {
		(void)vec_refuse(vec);
		return NULL;
	}
	/* At least one, so that 0 of an empty vector are not NULL. */
	if (!weir_region_vec_reserve(vec, sum > 0 ? sum : 1))
		return NULL;
	first = (char *)vec->data + vec->count * vec->element_bytes;
	vec->count = sum;
	return first;
}

static void
vec_clear(struct weir_region_vec *vec)
{
	vec->data = NULL;
	vec->count = vec->capacity = vec->bytes = 0;
}

void *
weir_region_vec_finish(struct weir_region_vec *vec, size_t *count)
{
	void *data = vec->count > 0 ? vec->data : NULL;

	if (count != NULL)
		*count = vec->count;
	if (data == NULL) {
		weir_region_vec_abandon(vec);
		return NULL;
	}
	weir_region_shrink(
	    vec->region, data, vec->bytes, vec->count * vec->element_bytes);
	vec_clear(vec);
	return data;
}

void
weir_region_vec_abandon(struct weir_region_vec *vec)
{
	weir_region_free(vec->region, vec->data, vec->bytes);
	vec_clear(vec);
}
