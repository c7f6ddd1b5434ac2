/* SPDX-License-Identifier: MIT */
/*
 * buffer_watch.c - which buffers are held, by whom, since when, taken where.
 *
 * Nobody keeps a list of what is held: the descriptors are the list.  A walk goes
 * through the blocks of each tier under the tier's lock, which keeps the blocks
 * where they are and nothing else: buffers come and go meanwhile, and each word
 * of a descriptor is read on its own.
 *
 * The places that take buffers are numbered in a table that only grows, so that
 * a descriptor has room for one, and a number means the same for ever.  A program
 * has some dozen of them.
 */
#include "base/bits.h"
#include "base/text.h"
#include "os/symbol.h"
#include "pools/account.h"
#include "pools/buffer.h"
#include "watch/report.h"

/* Places beyond are not told apart from none. */
#define WATCH_SITES 1024u

/* Lines of a text. */
#define WATCH_LINES ((size_t)64)

static const void *watch_site[WATCH_SITES];

/* ---- places and the clock ------------------------------------------------ */

uint32_t
weiri_buffer_site(const void *address)
{
	uint32_t at =
	    (uint32_t)(((uintptr_t)address * UINT64_C(0x9e3779b97f4a7c15)) >>
		       54);

	static_assert(WATCH_SITES == 1u << (64 - 54), "the hash has 10 bits");
	for (uint32_t i = 0; i < WATCH_SITES; i++) {
		uint32_t index = (at + i) % WATCH_SITES;
		const void *seen = WEIRI_LOAD(&watch_site[index]);

		if (seen == NULL &&
		    __atomic_compare_exchange_n(&watch_site[index], &seen,
			address, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			seen = address;
		if (seen == address)
			return index + 1;
	}
	return 0;
}

uint64_t
weiri_buffer_tick(struct weir_buffer_pool *pool)
{
	uint64_t now_ns = weiri_os_now_ns();
	uint64_t stamp = (uint32_t)(now_ns >> WEIRI_BUFFER_STAMP_SHIFT);

	if (WEIRI_LOAD(&pool->stamp) != stamp)
		WEIRI_STORE(&pool->stamp, stamp);
	return now_ns;
}

void
weir_buffer_pool_tick(struct weir_buffer_pool *pool)
{
	(void)weiri_buffer_tick(pool);
}

uint64_t
weiri_buffer_age(const struct weir_buffer *buffer, uint64_t now_ns)
{
	uint32_t stamp =
	    (uint32_t)WEIRI_LOAD(&buffer->internal[WEIRI_BUFFER_ORIGIN_WORD]);
	uint32_t units = (uint32_t)(now_ns >> WEIRI_BUFFER_STAMP_SHIFT) - stamp;
	uint64_t rest =
	    now_ns & ((UINT64_C(1) << WEIRI_BUFFER_STAMP_SHIFT) - 1);

	/* Taken since the walk looked at the clock. */
	if ((int32_t)units < 0)
		return 0;
	return ((uint64_t)units << WEIRI_BUFFER_STAMP_SHIFT) + rest;
}

/* ---- the walk ------------------------------------------------------------ */

struct watch {
	const struct weir_buffer_query *query;
	struct weir_buffer_holding *out;
	size_t count;
	size_t found;
	uint64_t bytes;
	uint64_t age_ns_max;
	uint64_t now_ns; /* of the tick of the pool the walk is in */
};

static void
watch_fill(struct weir_buffer_holding *out, const struct weir_buffer *buffer,
    const struct weiri_buffer_tier *tier)
{
	uint64_t origin =
	    WEIRI_LOAD(&buffer->internal[WEIRI_BUFFER_ORIGIN_WORD]);
	uint32_t site = (uint32_t)(origin >> 32);
	const struct weir_account *account = NULL;

	if ((WEIRI_LOAD(&buffer->flags) & WEIRI_BUFFER_ACCOUNT) != 0)
		account = (const struct weir_account *)(uintptr_t)WEIRI_LOAD(
		    &buffer->internal[WEIRI_BUFFER_ACCOUNT_WORD]);
	*out = (struct weir_buffer_holding){
	    .buffer = buffer,
	    .account = account,
	    .pool = tier->entry.name,
	    .site = site == 0 || site > WATCH_SITES
			? NULL
			: WEIRI_LOAD(&watch_site[site - 1]),
	    .history = WEIRI_LOAD(&buffer->history),
	    .bytes = tier->bytes,
	    .references = WEIRI_LOAD(&buffer->references),
	    .state = weir_buffer_state(buffer),
	};
	if (account != NULL) {
		out->account_name = WEIRI_LOAD(&account->name);
		out->user = WEIRI_LOAD(&account->user);
	}
}

static void
watch_buffer(struct watch *watch, const struct weir_buffer *buffer,
    const struct weiri_buffer_tier *tier)
{
	const struct weir_buffer_query *query = watch->query;
	struct weir_buffer_holding holding;
	uint64_t age_ns = weiri_buffer_age(buffer, watch->now_ns);

	if (age_ns < query->held_ns)
		return;
	watch_fill(&holding, buffer, tier);
	holding.age_ns = age_ns;
	if (query->account != NULL &&
	    !weiri_account_within(holding.account, query->account))
		return;
	if (watch->found < watch->count)
		watch->out[watch->found] = holding;
	watch->found++;
	watch->bytes += tier->bytes;
	watch->age_ns_max = weiri_max(watch->age_ns_max, age_ns);
}

static void
watch_block(const struct weiri_payload *payload, void *context)
{
	/* Slots are carved in order, and a slab ends whole. */
	size_t carved = WEIRI_LOAD(&payload->slab->carved);

	for (size_t i = 0; i < carved; i++) {
		const struct weir_buffer *buffer =
		    weiri_buffer_held(payload, i);

		if (buffer != NULL)
			watch_buffer(context, buffer, payload->tier);
	}
}

static bool
watch_entry(struct weiri_pool *entry, void *context)
{
	struct watch *watch = context;

	if (entry->ops != &weiri_buffer_ops)
		return true;

	struct weiri_buffer_tier *tier = weiri_buffer_entry_tier(entry);

	watch->now_ns = weiri_buffer_tick(tier->pool);
	weiri_buffer_walk(tier, watch_block, watch);
	return true;
}

static void
watch_run(struct watch *watch, const struct weir_buffer_query *query,
    struct weir_buffer_holding *out, size_t count)
{
	static const struct weir_buffer_query all;

	*watch = (struct watch){
	    .query = query == NULL ? &all : query,
	    .out = out,
	    .count = count,
	};
	if (watch->query->pool == NULL) {
		weiri_pool_walk(watch_entry, watch);
		return;
	}
	for (uint32_t i = 0; i < watch->query->pool->tier_count; i++)
		(void)watch_entry(&watch->query->pool->tier[i].entry, watch);
}

size_t
weir_buffer_held(const struct weir_buffer_query *query,
    struct weir_buffer_holding *out, size_t count)
{
	struct watch watch;

	watch_run(&watch, query, out, count);
	return watch.found;
}

/* ---- as text ------------------------------------------------------------- */

static const char *
watch_state(enum weir_buffer_state state)
{
	static const char *const text[] = {
	    [WEIR_BUFFER_FREE] = "free",
	    [WEIR_BUFFER_APP] = "app",
	    [WEIR_BUFFER_KERNEL_RX] = "rx",
	    [WEIR_BUFFER_KERNEL_TX] = "tx",
	    [WEIR_BUFFER_ZC_NOTIFY] = "notify",
	};

	return text[state];
}

/* Oldest first; an event that is none of the list is what a torn read gives. */
static void
watch_history(struct weiri_text *text, uint64_t history)
{
	static const char letter[] = "\0a+-.w$rszk?????";

	for (int shift = 60; shift >= 0; shift -= 4) {
		unsigned event = (unsigned)(history >> shift & 15);

		if (event != WEIR_BUFFER_EVENT_NONE)
			weiri_text_char(text, letter[event]);
	}
}

static void
watch_seconds(struct weiri_text *text, uint64_t ns)
{
	weiri_text_fixed(text, ns / 1000000, 3);
	weiri_text_str(text, " s");
}

static void
watch_line(struct weiri_text *text, const struct weir_buffer_holding *held)
{
	weiri_text_str(text, held->pool);
	weiri_text_char(text, ' ');
	weiri_text_hex(text, (uintptr_t)held->buffer);
	weiri_text_str(text, ": ");
	weiri_text_u64(text, held->references);
	weiri_text_str(
	    text, held->references == 1 ? " reference" : " references");
	weiri_text_str(text, ", state ");
	weiri_text_str(text, watch_state(held->state));
	weiri_text_str(text, ", ");
	watch_seconds(text, held->age_ns);
	if (held->account != NULL) {
		weiri_text_str(text, ", ");
		weiri_text_str(text, held->account_name);
		weiri_text_char(text, ' ');
		weiri_text_hex(text, (uintptr_t)held->user);
	}
	if (held->site != NULL) {
		weiri_text_str(text, ", taken at ");
		weiri_os_symbol(text, held->site);
	}
	weiri_text_str(text, ", history ");
	watch_history(text, held->history);
	weiri_text_char(text, '\n');
}

size_t
weir_buffer_held_text(
    const struct weir_buffer_query *query, char *buffer, size_t bytes)
{
	struct weiri_text text = {buffer, bytes, 0};
	struct weir_buffer_holding held[WATCH_LINES];
	struct watch watch;

	watch_run(&watch, query, held, WATCH_LINES);
	for (size_t i = 0; i < weiri_min(watch.found, WATCH_LINES); i++)
		watch_line(&text, &held[i]);
	weiri_text_u64(&text, watch.found);
	weiri_text_str(
	    &text, watch.found == 1 ? " buffer held, " : " buffers held, ");
	weiri_report_bytes(&text, watch.bytes);
	if (watch.found > 0) {
		weiri_text_str(&text, ", the oldest ");
		watch_seconds(&text, watch.age_ns_max);
	}
	weiri_text_char(&text, '\n');
	return text.used;
}

static void
watch_string(struct weiri_text *text, const char *name, const char *value)
{
	weiri_text_str(text, ",\"");
	weiri_text_str(text, name);
	weiri_text_str(text, "\":");
	if (value == NULL)
		weiri_text_str(text, "null");
	else
		weiri_text_json(text, value);
}

static void
watch_json(struct weiri_text *text, const struct weir_buffer_holding *held)
{
	char place[160] = "", events[20] = "";
	struct weiri_text site = {place, sizeof(place), 0};
	struct weiri_text history = {events, sizeof(events), 0};

	if (held->site != NULL)
		weiri_os_symbol(&site, held->site);
	watch_history(&history, held->history);
	weiri_text_str(text, "{\"pool\":");
	weiri_text_json(text, held->pool);
	weiri_report_member(text, "bytes", held->bytes);
	weiri_report_member(text, "references", held->references);
	weiri_report_member(text, "age_ns", held->age_ns);
	watch_string(text, "state", watch_state(held->state));
	watch_string(
	    text, "account", held->account == NULL ? NULL : held->account_name);
	weiri_report_member(text, "user", (uintptr_t)held->user);
	watch_string(text, "site", held->site == NULL ? NULL : place);
	watch_string(text, "history", events);
	weiri_text_char(text, '}');
}

size_t
weir_buffer_held_json(
    const struct weir_buffer_query *query, char *buffer, size_t bytes)
{
	struct weiri_text text = {buffer, bytes, 0};
	struct weir_buffer_holding held[WATCH_LINES];
	struct watch watch;

	watch_run(&watch, query, held, WATCH_LINES);
	weiri_text_str(&text, "{\"buffers\":");
	weiri_text_u64(&text, watch.found);
	weiri_report_member(&text, "bytes", watch.bytes);
	weiri_report_member(&text, "age_ns_max", watch.age_ns_max);
	weiri_text_str(&text, ",\"held\":[");
	for (size_t i = 0; i < weiri_min(watch.found, WATCH_LINES); i++) {
		weiri_text_str(&text, i == 0 ? "\n" : ",\n");
		watch_json(&text, &held[i]);
	}
	weiri_text_str(&text, "]}\n");
	return text.used;
}
