/* SPDX-License-Identifier: MIT */
/*
 * memory.c - what a step does to memory.
 *
 * Orders have two sides, and each is looked at in its own way.
 *
 * What an order publishes: each thread has a vector clock; release hands it on
 * with the value, acquire takes it, and so do locks.  A plain access that is not
 * ordered after another thread's access to the same bytes, one of them a write,
 * is a race, on whatever schedule it shows: an order too weak by one step is
 * found even where this machine would never let the values differ.
 *
 * What an order makes visible: a load may find what was there before the newest
 * store, as far as nothing forbids it; see history.c.
 *
 * Everything written in a run is remembered as it was, and put back.
 */
#define _GNU_SOURCE
#include "shim.h"

#undef memset
#undef memcpy
#undef memmove
#undef __atomic_thread_fence
#undef __thread

#include "engine.h"

#include <pthread.h>

#define MEMORY_WORDS ((size_t)1 << 15)
#define MEMORY_INDEX (MEMORY_WORDS * 2)
/* Of the words that were met last, by address. */
#define MEMORY_RECENT 1024
/* A single byte has an entry of its own, beside that of its word. */
#define MEMORY_BYTE ((uintptr_t)1 << 63)

/* Accesses to one half of a word, by the clocks of those who made them. */
struct memory_half {
	uint16_t plain_write[EXPLORE_THREADS], plain_read[EXPLORE_THREADS];
	uint16_t atomic_write[EXPLORE_THREADS], atomic_read[EXPLORE_THREADS];
	uint8_t users; /* bit i: thread i came by */
};

struct memory_word {
	uintptr_t address;
	uint32_t generation; /* of the run that the rest is of */
	bool saved;
	bool atomic; /* has a history */
	uint64_t before;
	struct memory_half half[2];
};

extern unsigned char __start_explore_tls[], __stop_explore_tls[];

static struct {
	struct memory_word *word; /* in the order in which they were met */
	uint32_t *index;          /* hashed by address: their places, or 0 */
	struct memory_word *recent[MEMORY_RECENT];
	uint32_t generation, used;
	struct memory_word *saved[MEMORY_WORDS];
	unsigned saved_count;
	uintptr_t stack_low, stack_high; /* of the explorer itself */
	unsigned fences, sequentials;    /* bit i: thread i has some */
} memory;

/* ---- clocks ------------------------------------------------------------------- */

/* Has some thread an access in @by that does not lie before @self's work? */
static bool
memory_is_unordered(
    const uint16_t by[EXPLORE_THREADS], const struct explore_thread *self)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (i != engine.current && by[i] > self->view.before.of[i])
			return true;
	return false;
}

/* ---- words --------------------------------------------------------------------- */

/* What is known of it is of this run. */
static struct memory_word *
memory_renew(struct memory_word *word)
{
	uintptr_t address = word->address;

	if (word->generation == memory.generation)
		return word;
	memset(word, 0, sizeof(*word));
	word->generation = memory.generation;
	word->address = address;
	return word;
}

static struct memory_word *
memory_meet(uintptr_t address, uint32_t *place)
{
	if (++memory.used == MEMORY_WORDS)
		explore_fail("runs use too much memory");
	*place = memory.used;
	memory.word[*place].address = address;
	return &memory.word[*place];
}

static struct memory_word *
memory_word(uintptr_t address)
{
	struct memory_word **recent =
	    &memory.recent[(address >> 3 ^ address >> 53) % MEMORY_RECENT];
	size_t at = (address >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 48;
	struct memory_word *word = *recent;

	if (word != NULL && word->address == address)
		return memory_renew(word);
	while (memory.index[at] != 0 &&
	       memory.word[memory.index[at]].address != address)
		at = (at + 1) % MEMORY_INDEX;
	word = memory.index[at] != 0 ? &memory.word[memory.index[at]]
				     : memory_meet(address, &memory.index[at]);
	*recent = word;
	return memory_renew(word);
}

static struct memory_half *
memory_half(uintptr_t address)
{
	return &memory_word(address & ~(uintptr_t)7)->half[address >> 2 & 1];
}

static bool
memory_is_mine(uintptr_t address)
{
	return (address >= (uintptr_t)__start_explore_tls &&
		   address < (uintptr_t)__stop_explore_tls) ||
	       (address >= memory.stack_low && address < memory.stack_high);
}

static void
memory_save_word(struct memory_word *word)
{
	if (word->saved)
		return;
	word->saved = true;
	memcpy(&word->before, (void *)word->address, sizeof(word->before));
	memory.saved[memory.saved_count++] = word;
}

/* Before a write to the word around @address. */
static void
memory_save(uintptr_t address)
{
	memory_save_word(memory_word(address & ~(uintptr_t)7));
}

void
memory_undo(void)
{
	for (unsigned i = 0; i < memory.saved_count; i++) {
		const struct memory_word *word = memory.saved[i];

		memcpy(
		    (void *)word->address, &word->before, sizeof(word->before));
	}
	memory.saved_count = 0;
}

void
memory_begin_run(void)
{
	memory.generation++;
	memory.saved_count = 0;
	memory.fences = memory.sequentials = 0;
}

void
memory_init(void)
{
	pthread_attr_t attr;
	void *low;
	size_t bytes;

	memory.word = calloc(MEMORY_WORDS, sizeof(*memory.word));
	memory.index = calloc(MEMORY_INDEX, sizeof(*memory.index));
	if (memory.word == NULL || memory.index == NULL ||
	    pthread_getattr_np(pthread_self(), &attr) != 0 ||
	    pthread_attr_getstack(&attr, &low, &bytes) != 0) {
		fprintf(stderr, "explore: no memory\n");
		exit(1);
	}
	memory.stack_low = (uintptr_t)low;
	memory.stack_high = (uintptr_t)low + bytes;
	(void)pthread_attr_destroy(&attr);
}

/* ---- reading and writing ----------------------------------------------------- */

uint64_t
memory_read(uintptr_t address, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, (void *)address, bytes);
	return value;
}

void
memory_write(uintptr_t address, size_t bytes, uint64_t value)
{
	memory_save(address);
	memcpy((void *)address, &value, bytes);
}

/* ---- races ------------------------------------------------------------------------ */

static _Noreturn void
memory_race(uintptr_t address, const char *what)
{
	explore_fail("thread %u: %s at %#lx is a race", engine.current, what,
	    (unsigned long)address);
}

/* Notes that the calling thread came by; true: and nobody else so far. */
static bool
memory_is_alone(struct memory_half *half)
{
	half->users |= (uint8_t)(1u << engine.current);
	return half->users == 1u << engine.current;
}

static bool
memory_is_racing(const struct memory_half *half, bool writes)
{
	const struct explore_thread *self = engine_self();

	return memory_is_unordered(half->plain_write, self) ||
	       memory_is_unordered(half->atomic_write, self) ||
	       (writes && (memory_is_unordered(half->plain_read, self) ||
			      memory_is_unordered(half->atomic_read, self)));
}

static void
memory_plain(struct memory_half *half, uintptr_t address, bool writes)
{
	uint16_t now = (uint16_t)engine_self()->view.before.of[engine.current];

	if (!memory_is_alone(half) && memory_is_racing(half, writes))
		memory_race(address, writes ? "a write" : "a read");
	if (writes)
		half->plain_write[engine.current] = now;
	else
		half->plain_read[engine.current] = now;
}

/* Steps of one order are in one row with fences of it. */
static void
memory_sequential(unsigned *users)
{
	unsigned all;

	*users |= 1u << engine.current;
	all = memory.fences | memory.sequentials;
	if (memory.fences != 0 && (all & (all - 1)) != 0)
		engine_share(EXPLORE_FENCES);
}

static void
memory_atomic(uintptr_t address, bool writes, int order)
{
	struct memory_half *half = memory_half(address);
	struct explore_thread *self = engine_self();
	uint16_t now = (uint16_t)self->view.before.of[engine.current];
	bool shared = false, changed = false;

	if (!memory_is_alone(half) &&
	    (memory_is_unordered(half->plain_write, self) ||
		(writes && memory_is_unordered(half->plain_read, self))))
		memory_race(address, "an atomic access");
	if (writes)
		half->atomic_write[engine.current] = now;
	else
		half->atomic_read[engine.current] = now;
	for (unsigned i = 0; i < EXPLORE_THREADS; i++) {
		shared |= i != engine.current &&
			  (half->atomic_write[i] | half->atomic_read[i]) != 0;
		changed |= half->atomic_write[i] != 0;
	}
	if (shared && changed)
		engine_share(address);
	if (order == __ATOMIC_SEQ_CST)
		memory_sequential(&memory.sequentials);
	engine_disturb(
	    (struct explore_step){address, writes, order == __ATOMIC_SEQ_CST});
	memory_word(address & ~(uintptr_t)7)->atomic = true;
}

/* Single bytes have entries of their own, so that neighbours are no race. */
static void
memory_plain_bytes(uintptr_t address, size_t bytes, bool writes)
{
	for (size_t i = 0; i < bytes; i++)
		memory_plain(memory_word((address + i) | MEMORY_BYTE)->half,
		    address + i, writes);
}

/* Who reads these bytes from now on does so after the write, or it is a race. */
static void
memory_end_histories(uintptr_t at, uintptr_t address, size_t bytes)
{
	for (uintptr_t i = at; i < at + 8; i++)
		if (i >= (address & ~(uintptr_t)3) && i < address + bytes)
			history_end(i);
}

/* Plain accesses, announced by the compiler. */
static void
memory_access(uintptr_t address, size_t bytes, bool writes)
{
	if (!engine.recording || memory_is_mine(address))
		return;
	if (!engine.running && !writes)
		return;
	if (engine.running && bytes < 4)
		memory_plain_bytes(address, bytes, writes);
	for (uintptr_t at = address & ~(uintptr_t)7; at < address + bytes;
	     at += 8) {
		struct memory_word *word = memory_word(at);

		if (engine.running && bytes >= 4) {
			if (address < at + 4)
				memory_plain(&word->half[0], at, writes);
			if (address + bytes > at + 4)
				memory_plain(&word->half[1], at + 4, writes);
		}
		if (writes)
			memory_save_word(word);
		if (writes && word->atomic)
			memory_end_histories(at, address, bytes);
	}
}

void
memory_note_write(const void *address, size_t bytes)
{
	memory_access((uintptr_t)address, bytes, true);
}

/* ---- atomic operations ------------------------------------------------------------- */

static void
memory_trace(const struct explore_site *site, uintptr_t address, uint64_t value)
{
	engine_trace("%s %s: %#lx = %#lx", site->function,
	    site_op_name(site->op), (unsigned long)address,
	    (unsigned long)value);
}

static void
memory_step(uintptr_t address, bool writes, int order)
{
	engine_step(
	    (struct explore_step){address, writes, order == __ATOMIC_SEQ_CST},
	    NULL);
}

/* Words that only one thread uses, or nobody changes, have no history. */
static void
memory_put(
    uintptr_t address, size_t bytes, uint64_t value, int order, bool changes)
{
	if (engine_is_shared(address))
		history_store(address, bytes, value, order, changes);
	memory_write(address, bytes, value);
}

uint64_t
explore_load(const volatile void *pointer, size_t bytes, int order,
    struct explore_site *site)
{
	uintptr_t address = (uintptr_t)pointer;
	int used = site_order(order, site);
	uint64_t value;

	if (!engine.running)
		return memory_read(address, bytes);
	memory_step(address, false, used);
	memory_atomic(address, false, used);
	value = engine_is_shared(address) ? history_load(address, bytes, used)
					  : memory_read(address, bytes);
	memory_trace(site, address, value);
	return value;
}

static uint64_t
memory_cut(uint64_t value, size_t bytes)
{
	return bytes == 8 ? value : value & ((UINT64_C(1) << bytes * 8) - 1);
}

void
explore_store(volatile void *pointer, size_t bytes, uint64_t value, int order,
    struct explore_site *site)
{
	uintptr_t address = (uintptr_t)pointer;
	int used = site_order(order, site);

	if (!engine.running) {
		if (engine.recording)
			memory_save(address);
		memcpy((void *)address, &value, bytes);
		return;
	}
	value = memory_cut(value, bytes);
	memory_step(address, true, used);
	memory_atomic(address, true, used);
	memory_put(address, bytes, value, used, false);
	memory_trace(site, address, value);
}

static uint64_t
memory_changed(enum explore_op op, uint64_t before, uint64_t value)
{
	switch (op) {
	case EXPLORE_ADD:
		return before + value;
	case EXPLORE_SUB:
		return before - value;
	case EXPLORE_AND:
		return before & value;
	case EXPLORE_OR:
		return before | value;
	default:
		return value;
	}
}

uint64_t
explore_change(volatile void *pointer, size_t bytes, uint64_t value, int order,
    struct explore_site *site)
{
	uintptr_t address = (uintptr_t)pointer;
	int used = site_order(order, site);
	uint64_t before;

	if (!engine.running) {
		before = memory_read(address, bytes);
		value = memory_changed(site->op, before, value);
		if (engine.recording)
			memory_save(address);
		memcpy((void *)address, &value, bytes);
		return before;
	}
	memory_step(address, true, used);
	memory_atomic(address, true, used);
	before = memory_read(address, bytes);
	value = memory_cut(memory_changed(site->op, before, value), bytes);
	memory_put(address, bytes, value, used, true);
	memory_trace(site, address, value);
	return before;
}

/* Does the comparison find something else, which is then in @before? */
static bool
memory_differs(uintptr_t address, size_t bytes, uint64_t wanted, int order,
    uint64_t *before)
{
	if (engine.running && engine_is_shared(address))
		return history_differs(address, bytes, wanted, order, before);
	*before = memory_read(address, bytes);
	return *before != wanted;
}

/* The order of a comparison that fails, where that of success is @used. */
static int
memory_failure(int order, int failure, int used)
{
	if (used == order)
		return failure;
	return history_is_acquire(used) && history_is_acquire(failure)
		   ? __ATOMIC_ACQUIRE
		   : __ATOMIC_RELAXED;
}

bool
explore_compare(volatile void *pointer, void *expected, size_t bytes,
    uint64_t desired, int order, int failure, struct explore_site *site)
{
	uintptr_t address = (uintptr_t)pointer;
	int used = site_order(order, site);
	uint64_t before, wanted = 0;
	bool differs;

	memcpy(&wanted, expected, bytes);
	desired = memory_cut(desired, bytes);
	failure = memory_failure(order, failure, used);
	if (engine.running)
		memory_step(address, true, used);
	differs = memory_differs(address, bytes, wanted, failure, &before);
	if (engine.running)
		memory_atomic(address, !differs, differs ? failure : used);
	if (differs) {
		memory_note_write(expected, bytes);
		memcpy(expected, &before, bytes);
	} else if (engine.running) {
		memory_put(address, bytes, desired, used, true);
	} else {
		if (engine.recording)
			memory_save(address);
		memcpy((void *)address, &desired, bytes);
	}
	if (engine.running)
		memory_trace(site, address, differs ? before : desired);
	return !differs;
}

void
explore_fence(int order, struct explore_site *site)
{
	int used = site_order(order, site);
	const struct explore_step step = {EXPLORE_FENCES, true, true};

	if (!engine.running)
		return;
	if (used == __ATOMIC_SEQ_CST) {
		engine_step(step, NULL);
		memory_sequential(&memory.fences);
		engine_disturb(step);
	}
	history_fence(used);
	engine_trace("%s: fence", site->function);
}

/* ---- what the compiler and the sources call ---------------------------------------- */

void *
explore_memset(void *into, int byte, size_t bytes)
{
	memory_access((uintptr_t)into, bytes, true);
	return memset(into, byte, bytes);
}

void *
explore_memcpy(void *into, const void *from, size_t bytes)
{
	memory_access((uintptr_t)from, bytes, false);
	memory_access((uintptr_t)into, bytes, true);
	return memcpy(into, from, bytes);
}

void *
explore_memmove(void *into, const void *from, size_t bytes)
{
	memory_access((uintptr_t)from, bytes, false);
	memory_access((uintptr_t)into, bytes, true);
	return memmove(into, from, bytes);
}

#define MEMORY_HOOK(bytes)                                       \
	void __tsan_read##bytes(void *address);                  \
	void __tsan_read##bytes(void *address)                   \
	{                                                        \
		memory_access((uintptr_t)address, bytes, false); \
	}                                                        \
	void __tsan_write##bytes(void *address);                 \
	void __tsan_write##bytes(void *address)                  \
	{                                                        \
		memory_access((uintptr_t)address, bytes, true);  \
	}                                                        \
	void __tsan_unaligned_read##bytes(void *address);        \
	void __tsan_unaligned_read##bytes(void *address)         \
	{                                                        \
		memory_access((uintptr_t)address, bytes, false); \
	}                                                        \
	void __tsan_unaligned_write##bytes(void *address);       \
	void __tsan_unaligned_write##bytes(void *address)        \
	{                                                        \
		memory_access((uintptr_t)address, bytes, true);  \
	}

MEMORY_HOOK(1)
MEMORY_HOOK(2)
MEMORY_HOOK(4)
MEMORY_HOOK(8)
MEMORY_HOOK(16)

void __tsan_read_range(void *address, size_t bytes);
void __tsan_write_range(void *address, size_t bytes);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_init(void);

void
__tsan_read_range(void *address, size_t bytes)
{
	memory_access((uintptr_t)address, bytes, false);
}

void
__tsan_write_range(void *address, size_t bytes)
{
	memory_access((uintptr_t)address, bytes, true);
}

void
__tsan_func_entry(void *caller)
{
	(void)caller;
}

void
__tsan_func_exit(void)
{
}

void
__tsan_init(void)
{
}
