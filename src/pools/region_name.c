/* SPDX-License-Identifier: MIT */
/*
 * region_name.c - names of regions that are shown when the regions are gone.
 *
 * Who lists the regions of other threads reads a name when its region may be
 * gone, and the string with it.  So a name that comes late is copied, once for
 * all regions that have it, and stays for ever.  Programs have few of them: they
 * are words of the source.  One that makes them up finds the table full, and
 * its regions keep the names they had.  Regions in ranges of addresses, whose
 * names are the caller's, have a table of their own: neither fills the other's.
 *
 *     hash --> [ . | "request" | . | "connection" | . | . ]  512 places,
 *                      ^                                     half of them used
 *                      +-- region->name
 *
 * A place is filled once, by compare-and-exchange; there is no lock.  A name is
 * counted after it was placed, so that a thread is told that there are too many
 * when there are, and never because another one is about to put the same name
 * there.  Threads that place names at once may make a few more of them.
 */
#include "pools/region_watch.h"
#include "watch/registry.h"

#include <string.h>

#define NAME_PLACES 512u
#define NAME_COUNT_MAX (NAME_PLACES / 2)

struct region_name {
	char text[WEIRI_NAME_BYTES];
};

struct name_table {
	struct region_name *place[NAME_PLACES];
	uint32_t count; /* at least as many are there; atomic */
};

static struct name_table name_late, name_vm;

/* FNV-1a, which is made for short keys. */
static uint32_t
name_hash(const char *text)
{
	uint32_t hash = UINT32_C(2166136261);

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * UINT32_C(16777619);
	return hash ^ hash >> 16;
}

/* A copy to be put in a place; NULL: there are too many, or no memory. */
static struct region_name *
name_make(const struct name_table *table, const struct region_name *like)
{
	struct region_name *name;

	/* Pairs with the release in name_place(): those that are counted are
	 * seen where they lie. */
	if (__atomic_load_n(&table->count, __ATOMIC_ACQUIRE) >= NAME_COUNT_MAX)
		return NULL;
	name = weiri_meta_need(sizeof(*name));
	if (WEIR_LIKELY(name != NULL))
		*name = *like;
	return name;
}

static void
name_unmake(struct region_name *name)
{
	if (name != NULL)
		weiri_meta_free(name, sizeof(*name));
}

/* False: another thread has the place by now, with *seen. */
static bool
name_place(struct name_table *table, struct region_name **place,
    struct region_name *made, struct region_name **seen)
{
	/* Pairs with the acquires here. */
	if (!__atomic_compare_exchange_n(
		place, seen, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return false;
	__atomic_fetch_add(&table->count, 1, __ATOMIC_RELEASE);
	return true;
}

/* The one in the table like @like, put there if need be; NULL: as above. */
static const char *
name_find(struct name_table *table, const struct region_name *like)
{
	struct region_name *made = NULL;
	uint32_t at = name_hash(like->text);

	/* It ends long before, where there are less threads than half of the
	 * places: as many may be about to fill one. */
	for (uint32_t i = 0; i < NAME_PLACES; i++) {
		struct region_name **place =
		    &table->place[(at + i) % NAME_PLACES];
		struct region_name *seen =
		    __atomic_load_n(place, __ATOMIC_ACQUIRE);

		if (seen == NULL && made == NULL) {
			made = name_make(table, like);
			/* The last name there was room for may be this one. */
			if (made == NULL)
				seen = __atomic_load_n(place, __ATOMIC_ACQUIRE);
			if (made == NULL && seen == NULL)
				return NULL;
		}
		if (seen == NULL && name_place(table, place, made, &seen))
			return made->text;
		/* Another thread's, which may be the same. */
		if (strcmp(seen->text, like->text) == 0) {
			name_unmake(made);
			return seen->text;
		}
	}
	name_unmake(made);
	return NULL;
}

bool
weir_region_rename(struct weir_region *bump, const char *name)
{
	struct weiri_region *region = weiri_region_of(bump);
	struct region_name like;

	weiri_region_expect_live(region, "name for %p, which was destroyed");
	weiri_region_here(region);
	if (name != NULL) {
		memset(&like, 0, sizeof(like));
		weiri_name_set(like.text, name);
		name = name_find(&name_late, &like);
		if (WEIR_UNLIKELY(name == NULL))
			return false;
		region->attention |= WEIRI_IS_NAMED;
	}
	/* Pairs with the acquires of who lists regions (region_watch.c). */
	__atomic_store_n(&region->name, name, __ATOMIC_RELEASE);
	return true;
}

const char *
weiri_region_vm_name_keep(const char *name)
{
	struct region_name like;
	const char *kept;

	weiri_name_set(like.text, name);
	kept = name_find(&name_vm, &like);
	return kept != NULL ? kept : WEIRI_REGION_VM_KIND;
}
