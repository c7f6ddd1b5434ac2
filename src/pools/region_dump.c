/* SPDX-License-Identifier: MIT */
/*
 * region_dump.c - live regions as a tree, by place, and those left at the end.
 *
 * Of the regions of all threads a copy is made first, into pages of the supply:
 * a tree cannot be walked that others change.  Parents are found by address in
 * the copy.  Regions that moved below one another while it was made may be in a
 * circle there; nothing leads from a root to them, and they are shown as roots.
 *
 * Sorting is by heap, without a stack and without memory of its own.
 */
#include "pools/region_watch.h"

#include "base/text.h"
#include "config/config.h"
#include "os/symbol.h"
#include "watch/report.h"

#include <errno.h>
#include <string.h>

/* ---- a copy ------------------------------------------------------------- */

struct dump_copy {
	struct weiri_span span;
	struct weiri_region_record *record;
	uint32_t *order; /* indices of records; count of them */
	size_t count;
	size_t capacity;
	size_t found; /* some may have come while it was made */
	uint64_t bytes;
};

#define DUMP_RECORD_BYTES \
	(sizeof(struct weiri_region_record) + sizeof(uint32_t))

static void
dump_count(const struct weiri_region_record *record, void *context)
{
	(void)record;
	*(size_t *)context += 1;
}

static void
dump_keep(const struct weiri_region_record *record, void *context)
{
	struct dump_copy *copy = context;

	copy->found++;
	copy->bytes += record->bytes;
	if (copy->count < copy->capacity)
		copy->record[copy->count++] = *record;
}

/* False without memory: then it has the sums only. */
static bool
dump_copy_make(struct dump_copy *copy)
{
	size_t count = 0;
	bool made;

	weiri_region_walk(dump_count, &count);
	*copy = (struct dump_copy){.span = {.kind = WEIRI_SPAN_OTHER}};
	/* Some more, for those that begin meanwhile. */
	count = weiri_min(count + count / 8 + 64, UINT32_MAX - 1);
	weiri_list_init(&copy->span.link);
	made = weiri_span_alloc(
		   &copy->span, count * DUMP_RECORD_BYTES, WEIRI_PAGE) == 0;
	if (made) {
		copy->capacity = count;
		copy->record = (void *)copy->span.base;
		copy->order = (void *)(copy->record + count);
	}
	weiri_region_walk(dump_keep, copy);
	for (size_t i = 0; i < copy->count; i++)
		copy->order[i] = (uint32_t)i;
	return made;
}

static void
dump_copy_end(struct dump_copy *copy)
{
	if (copy->record != NULL)
		weiri_span_free(&copy->span);
}

/* ---- sorting ------------------------------------------------------------- */

/* True when @a comes before @b. */
typedef bool (*dump_before_fn)(
    const struct weiri_region_record *a, const struct weiri_region_record *b);

static bool
dump_by_address(
    const struct weiri_region_record *a, const struct weiri_region_record *b)
{
	return a->region < b->region;
}

static bool
dump_by_bytes(
    const struct weiri_region_record *a, const struct weiri_region_record *b)
{
	return a->bytes != b->bytes ? a->bytes > b->bytes
				    : a->region < b->region;
}

static bool
dump_by_site(
    const struct weiri_region_record *a, const struct weiri_region_record *b)
{
	return a->site != b->site ? (uintptr_t)a->site < (uintptr_t)b->site
				  : a->bytes > b->bytes;
}

static void
dump_sift(const struct dump_copy *copy, size_t at, size_t count,
    dump_before_fn before)
{
	uint32_t *order = copy->order, moved = order[at];

	for (size_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
		if (child + 1 < count && before(&copy->record[order[child]],
					     &copy->record[order[child + 1]]))
			child++;
		if (!before(&copy->record[moved], &copy->record[order[child]]))
			break;
		order[at] = order[child];
		at = child;
	}
	order[at] = moved;
}

static void
dump_sort(const struct dump_copy *copy, dump_before_fn before)
{
	for (size_t at = copy->count / 2; at > 0; at--)
		dump_sift(copy, at - 1, copy->count, before);
	for (size_t count = copy->count; count > 1; count--) {
		uint32_t last = copy->order[count - 1];

		copy->order[count - 1] = copy->order[0];
		copy->order[0] = last;
		dump_sift(copy, 0, count - 1, before);
	}
}

/* ---- the tree of a copy ----------------------------------------------------- */

/* Sorted by address: the index of the record of @region, or NONE. */
static uint32_t
dump_find(const struct dump_copy *copy, const struct weir_region *region)
{
	size_t low = 0, high = copy->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct weir_region *at =
		    copy->record[copy->order[middle]].region;

		if (at == region)
			return copy->order[middle];
		if (at < region)
			low = middle + 1;
		else
			high = middle;
	}
	return WEIRI_RECORD_NONE;
}

/* Who is above whom; those below one are in the order of their bytes, and so
 * is copy->order then. */
static void
dump_tree(const struct dump_copy *copy)
{
	struct weiri_region_record *record = copy->record;

	dump_sort(copy, dump_by_address);
	for (size_t i = 0; i < copy->count; i++)
		if (record[i].parent != NULL)
			record[i].above = dump_find(copy, record[i].parent);
	dump_sort(copy, dump_by_bytes);
	for (size_t i = copy->count; i > 0; i--) {
		uint32_t at = copy->order[i - 1], above = record[at].above;

		if (above == WEIRI_RECORD_NONE)
			continue;
		record[at].sibling = record[above].child;
		record[above].child = at;
	}
}

/* ---- writing ---------------------------------------------------------------- */

struct dump {
	struct weiri_text text;
	bool json;
	bool any;
};

/* Deeper ones are not moved further to the right. */
#define DUMP_DEPTH_SHOWN 24

/* A function, a file and an offset; what is longer is cut. */
#define DUMP_PLACE_BYTES 192

static void
dump_pointer(struct weiri_text *text, const void *pointer)
{
	weiri_text_char(text, '"');
	weiri_text_hex(text, (uintptr_t)pointer);
	weiri_text_char(text, '"');
}

static void
dump_bytes_cell(struct weiri_text *text, uint64_t bytes)
{
	char cell[32];
	struct weiri_text piece = {cell, sizeof(cell), 0};

	weiri_report_bytes(&piece, bytes);
	weiri_text_right(text, cell, 11);
}

static void
dump_number_cell(struct weiri_text *text, uint64_t number, unsigned width)
{
	char cell[32];
	struct weiri_text piece = {cell, sizeof(cell), 0};

	weiri_text_u64(&piece, number);
	weiri_text_right(text, cell, width);
}

static void
dump_age(struct weiri_text *text, uint64_t age_ns)
{
	weiri_text_fixed(text, age_ns / 100000000, 1);
	weiri_text_str(text, " s");
}

static void
dump_limit(struct weiri_text *text, const struct weiri_region_record *record)
{
	weiri_text_str(text, ", limit ");
	weiri_report_bytes(text, record->limit_bytes);
	weiri_text_str(text, ": ");
	weiri_report_bytes(text, record->below_bytes);
	weiri_text_str(text, " held, ");
	weiri_text_u64(text, record->below_failures);
	weiri_text_str(text, " refused");
}

static void
dump_line(struct weiri_text *text, const struct weiri_region_record *record,
    size_t depth)
{
	char cell[32], name[WEIRI_NAME_BYTES];
	struct weiri_text piece = {cell, sizeof(cell), 0};
	const char *kind = record->kind;

	dump_bytes_cell(text, record->bytes);
	dump_bytes_cell(text, record->peak);
	dump_age(&piece, weiri_region_age_ns(record->birth));
	weiri_text_right(text, cell, 11);
	dump_number_cell(text, record->misses, 8);
	dump_number_cell(text, record->failures, 8);
	weiri_text_str(text, "  ");
	for (size_t i = 0; i < weiri_min(depth, DUMP_DEPTH_SHOWN); i++)
		weiri_text_str(text, "  ");
	weiri_name_set(name, record->name);
	weiri_text_str(text, name);
	if (strcmp(name, kind) != 0) {
		weiri_text_str(text, " (");
		weiri_text_str(text, kind);
		weiri_text_char(text, ')');
	}
	if (record->owner == NULL)
		weiri_text_str(text, ", handed off");
	weiri_text_str(text, ", ");
	weiri_os_symbol(text, record->site);
	if (record->limit_bytes != 0)
		dump_limit(text, record);
	weiri_text_char(text, '\n');
}

static void
dump_object(struct weiri_text *text, const struct weiri_region_record *record,
    size_t depth)
{
	char name[WEIRI_NAME_BYTES], place[DUMP_PLACE_BYTES];
	struct weiri_text piece = {place, sizeof(place), 0};

	weiri_name_set(name, record->name);
	weiri_text_str(text, "{\"region\":");
	dump_pointer(text, record->region);
	weiri_text_str(text, ",\"parent\":");
	if (record->parent == NULL)
		weiri_text_str(text, "null");
	else
		dump_pointer(text, record->parent);
	weiri_report_member(text, "depth", depth);
	weiri_text_str(text, ",\"name\":");
	weiri_text_json(text, name);
	weiri_text_str(text, ",\"kind\":");
	weiri_text_json(text, record->kind);
	weiri_text_str(text, ",\"site\":");
	dump_pointer(text, record->site);
	weiri_text_str(text, ",\"place\":");
	weiri_os_symbol(&piece, record->site);
	weiri_text_json(text, place);
	weiri_text_str(text, ",\"thread\":");
	if (record->owner == NULL)
		weiri_text_str(text, "null");
	else
		dump_pointer(text, record->owner);
	weiri_report_member(text, "age_ns", weiri_region_age_ns(record->birth));
	weiri_report_member(text, "bytes", record->bytes);
	weiri_report_member(text, "bytes_peak", record->peak);
	weiri_report_member(text, "misses", record->misses);
	weiri_report_member(text, "failures", record->failures);
	weiri_text_str(text, record->is_vm ? ",\"vm\":true" : ",\"vm\":false");
	if (record->limit_bytes != 0) {
		weiri_report_member(text, "limit_bytes", record->limit_bytes);
		weiri_report_member(text, "bytes_below", record->below_bytes);
		weiri_report_member(
		    text, "budget_failures", record->below_failures);
	}
	weiri_text_char(text, '}');
}

static void
dump_region(
    struct dump *dump, const struct weiri_region_record *record, size_t depth)
{
	if (!dump->json) {
		dump_line(&dump->text, record, depth);
		return;
	}
	weiri_text_str(&dump->text, dump->any ? ",\n  " : "\n  ");
	dump->any = true;
	dump_object(&dump->text, record, depth);
}

static void
dump_begin(struct dump *dump, size_t regions, uint64_t bytes)
{
	struct weiri_text *text = &dump->text;

	if (dump->json) {
		weiri_text_str(text, "{\"regions\":");
		weiri_text_u64(text, regions);
		weiri_report_member(text, "bytes", bytes);
		weiri_text_str(text, ",\"tree\":");
		return;
	}
	weiri_text_u64(text, regions);
	weiri_text_str(text, regions == 1 ? " region, " : " regions, ");
	weiri_report_bytes(text, bytes);
	weiri_text_char(text, '\n');
}

static void
dump_head(struct dump *dump)
{
	weiri_text_str(&dump->text, dump->json
					? "["
					: "      bytes       peak        age  "
					  "misses refused  region\n");
}

static void
dump_end(struct dump *dump)
{
	if (dump->json)
		weiri_text_str(&dump->text, dump->any ? "\n ]}" : "]}");
}

/* ---- all regions ---------------------------------------------------------- */

/* Down by the largest below, up by the one above; marks what it showed. */
static void
dump_from(struct dump *dump, struct weiri_region_record *record, uint32_t root)
{
	uint32_t at = root;
	size_t depth = 0;

	while (at != WEIRI_RECORD_NONE) {
		uint32_t next = record[at].child;

		dump_region(dump, &record[at], depth);
		record[at].region = NULL;
		if (next != WEIRI_RECORD_NONE)
			depth++;
		while (next == WEIRI_RECORD_NONE && at != root) {
			next = record[at].sibling;
			if (next == WEIRI_RECORD_NONE) {
				at = record[at].above;
				depth--;
			}
		}
		at = next;
	}
}

static void
dump_all(struct dump *dump)
{
	struct dump_copy copy;
	bool made = dump_copy_make(&copy);

	dump_begin(dump, copy.found, copy.bytes);
	if (!made) {
		weiri_text_str(&dump->text,
		    dump->json ? "null}" : "no memory to list them\n");
		return;
	}
	dump_tree(&copy);
	dump_head(dump);
	for (size_t i = 0; i < copy.count; i++)
		if (copy.record[copy.order[i]].above == WEIRI_RECORD_NONE)
			dump_from(dump, copy.record, copy.order[i]);
	for (size_t i = 0; i < copy.count; i++)
		if (copy.record[copy.order[i]].region != NULL)
			dump_region(dump, &copy.record[copy.order[i]], 0);
	dump_end(dump);
	dump_copy_end(&copy);
}

/* ---- one tree --------------------------------------------------------------- */

/* Neither limits nor rules may be read but by the owner. */
static void
dump_read_limit(
    const struct weiri_region *region, struct weiri_region_record *record)
{
	const struct weiri_region_rules *rules = region->rules;

	if (region->attention & WEIRI_HAS_LIMIT) {
		record->limit_bytes = region->limit_bytes;
		record->below_bytes = record->bytes;
		record->below_failures = record->failures;
	} else if (weiri_region_rules_own(region) &&
		   rules->limit_bytes != UINT64_MAX) {
		record->limit_bytes = rules->limit_bytes;
		record->below_bytes = WEIRI_LOAD(&rules->used_bytes);
		record->below_failures = WEIRI_LOAD(&rules->failures);
	}
}

static void
dump_below(struct dump *dump, struct weiri_region *root)
{
	struct weiri_region_record record;
	size_t regions = 0, depth = 0;
	uint64_t bytes = 0;

	weiri_region_tick_now();
	for (struct weiri_region *at = root; at != NULL;
	     at = weiri_region_next(root, at)) {
		regions++;
		bytes += WEIRI_LOAD(&at->charged_bytes);
	}
	dump_begin(dump, regions, bytes);
	dump_head(dump);
	for (struct weiri_region *at = root; at != NULL;) {
		struct weiri_region *next = weiri_region_next(root, at);

		if (weiri_region_read(at, &record)) {
			dump_read_limit(at, &record);
			dump_region(dump, &record, depth);
		}
		if (next != NULL && next->parent == at)
			depth++;
		else
			for (; next != NULL && at->parent != next->parent;
			     at = at->parent)
				depth--;
		at = next;
	}
	dump_end(dump);
}

static size_t
dump_run(const struct weir_region *root, char *buffer, size_t bytes, bool json)
{
	struct dump dump = {.text = {buffer, bytes, 0}, .json = json};
	struct weiri_region *region;

	if (bytes > 0)
		buffer[0] = '\0';
	if (root == NULL) {
		dump_all(&dump);
		return dump.text.used;
	}
	/* Only read. */
	region = (struct weiri_region *)(uintptr_t)root;
	weiri_region_expect_live(region, "%p, to be shown, was destroyed");
	dump_below(&dump, region);
	return dump.text.used;
}

size_t
weir_region_text(const struct weir_region *root, char *buffer, size_t bytes)
{
	return dump_run(root, buffer, bytes, false);
}

size_t
weir_region_json(const struct weir_region *root, char *buffer, size_t bytes)
{
	return dump_run(root, buffer, bytes, true);
}

/* ---- by place --------------------------------------------------------------- */

/* Into @out with @used of @count, most bytes first; returns how many are. */
static size_t
dump_place_site(struct weir_region_site *out, size_t used, size_t count,
    const struct weir_region_site *site)
{
	size_t at = used;

	while (at > 0 && site->bytes > out[at - 1].bytes)
		at--;
	if (at == count)
		return used;
	if (used < count)
		used++;
	memmove(&out[at + 1], &out[at], (used - at - 1) * sizeof(*out));
	out[at] = *site;
	return used;
}

static void
dump_add_to_site(
    struct weir_region_site *site, const struct weiri_region_record *record)
{
	site->regions++;
	site->bytes += record->bytes;
	site->age_ns_max =
	    weiri_max(site->age_ns_max, weiri_region_age_ns(record->birth));
}

int
weir_region_top_sites(struct weir_region_site *out, size_t count, size_t *found)
{
	struct dump_copy copy;
	size_t used = 0;

	*found = 0;
	if (!dump_copy_make(&copy))
		return -ENOMEM;
	dump_sort(&copy, dump_by_site);
	for (size_t i = 0; i < copy.count;) {
		const struct weiri_region_record *first =
		    &copy.record[copy.order[i]];
		struct weir_region_site site = {
		    .site = first->site,
		    .kind = first->kind,
		    .bytes_max = first->bytes,
		};

		for (; i < copy.count &&
		       copy.record[copy.order[i]].site == site.site;
		     i++)
			dump_add_to_site(&site, &copy.record[copy.order[i]]);
		++*found;
		used = dump_place_site(out, used, count, &site);
	}
	dump_copy_end(&copy);
	return 0;
}

/* ---- the end of the program --------------------------------------------------- */

#define DUMP_LEAKS 8

static void
dump_leak(const struct weir_region_info *info)
{
	char line[320], name[WEIRI_NAME_BYTES];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_name_set(name, info->name);
	weiri_text_str(&text, "leak: region \"");
	weiri_text_str(&text, name);
	weiri_text_str(&text, "\": ");
	weiri_text_u64(&text, info->bytes);
	weiri_text_str(&text, " bytes, ");
	dump_age(&text, info->age_ns);
	weiri_text_str(&text, " old, made at ");
	weiri_os_symbol(&text, info->site);
	weiri_message(WEIR_MESSAGE_WARNING, line);
}

void
weiri_region_report_leaks(void)
{
	struct weir_region_info largest[DUMP_LEAKS];
	size_t found =
	    weir_region_top(WEIR_REGION_BY_BYTES, 0, largest, DUMP_LEAKS);
	char line[64];
	struct weiri_text text = {line, sizeof(line), 0};

	for (size_t i = 0; i < weiri_min(found, DUMP_LEAKS); i++)
		dump_leak(&largest[i]);
	if (found <= DUMP_LEAKS)
		return;
	weiri_text_str(&text, "leak: regions: ");
	weiri_text_u64(&text, found - DUMP_LEAKS);
	weiri_text_str(&text, " more, none larger");
	weiri_message(WEIR_MESSAGE_WARNING, line);
}
