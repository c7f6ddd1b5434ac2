/* SPDX-License-Identifier: MIT */
/*
 * meta_map.c - records so large that each has a mapping of its own.
 *
 * They are few and live long (tables of handles, state of large slabs), so a
 * system call for each is no matter, and their memory is the system's again as
 * soon as they end.
 *
 * A mapping that the system will not end (see weiri_os_release()) stays charged
 * and is listed in itself: it serves the next record of its size, and a trim
 * tries again to unmap it.
 *
 * Lock: map_mutex is a leaf over that list and the sum; nothing under it.
 */
#include "base/bits.h"
#include "os/os.h"
#include "pages/budget.h"
#include "pages/supply.h"

#include <string.h>

/* As promised in pages.h of all records. */
#define MAP_ALIGN ((size_t)64 << 10)

struct map_kept {
	struct map_kept *next;
	size_t bytes; /* of the mapping */
};

static struct weiri_mutex map_mutex = WEIRI_MUTEX_INITIALIZER;
static struct map_kept *map_list;
static uint64_t map_charged; /* written under the lock */

/* A kept mapping of the size, as it was left, or NULL. */
static void *
map_take_kept(size_t bytes)
{
	weiri_mutex_lock(&map_mutex);

	struct map_kept **at = &map_list;

	while (*at != NULL && (*at)->bytes != bytes)
		at = &(*at)->next;

	struct map_kept *kept = *at;

	if (kept != NULL)
		*at = kept->next;
	weiri_mutex_unlock(&map_mutex);
	return kept;
}

static void *
map_new(size_t bytes)
{
	void *record = weiri_os_reserve(bytes, MAP_ALIGN);

	if (record == NULL)
		return NULL;
	if (weiri_os_commit(record, bytes) != 0) {
		weiri_os_drop(record, bytes);
		return NULL;
	}
	weiri_mutex_lock(&map_mutex);
	WEIRI_BUMP(&map_charged, bytes);
	weiri_mutex_unlock(&map_mutex);
	return record;
}

void *
weiri_meta_map(size_t bytes)
{
	if (bytes > SIZE_MAX / 2)
		return NULL;
	bytes = weiri_meta_pages(bytes);

	void *record = map_take_kept(bytes);

	if (record != NULL)
		return memset(record, 0, bytes);
	if (!weiri_budget_charge(bytes))
		return NULL;
	record = map_new(bytes);
	if (record == NULL)
		weiri_budget_uncharge(bytes);
	return record;
}

/* The bytes of whole pages that left the budget. */
static size_t
map_end(void *record, size_t bytes)
{
	bool given = weiri_os_release(record, bytes) == 0;

	weiri_mutex_lock(&map_mutex);
	if (given) {
		WEIRI_STORE(&map_charged, WEIRI_LOAD(&map_charged) - bytes);
	} else {
		struct map_kept *kept = record;

		kept->bytes = bytes;
		kept->next = map_list;
		map_list = kept;
	}
	weiri_mutex_unlock(&map_mutex);
	if (!given)
		return 0;
	weiri_budget_uncharge(bytes);
	return bytes;
}

void
weiri_meta_unmap(void *record, size_t bytes)
{
	(void)map_end(record, weiri_meta_pages(bytes));
}

size_t
weiri_meta_map_trim(void)
{
	size_t bytes = 0;

	weiri_mutex_lock(&map_mutex);

	struct map_kept *kept = map_list;

	map_list = NULL;
	weiri_mutex_unlock(&map_mutex);
	while (kept != NULL) {
		struct map_kept *next = kept->next;

		bytes += map_end(kept, kept->bytes);
		kept = next;
	}
	return bytes;
}

uint64_t
weiri_meta_map_charged(void)
{
	return WEIRI_LOAD(&map_charged);
}

void
weiri_meta_map_fork_lock(void)
{
	weiri_mutex_lock(&map_mutex);
}

void
weiri_meta_map_fork_unlock(void)
{
	weiri_mutex_unlock(&map_mutex);
}
