/* SPDX-License-Identifier: MIT */
/*
 * memory.c - what a step does to memory, in the weakest way that its order
 * allows.
 *
 * Orders have two sides, and each is looked at in its own way.
 *
 * What an order publishes: each thread has a vector clock; release hands it on
 * with the value, acquire takes it, and so do locks.  A plain access that is not
 * ordered after another thread's access to the same bytes, one of them a write,
 * is a race, on whatever schedule it shows: an order too weak by one step is
 * found even where this machine would never let the values differ.
 *
 * What an order delays: an atomic store goes to a buffer of its thread.  Others
 * see it when it is drained, which is
 *
 *   M1  at a fence of sequential consistency, a wait, a wake-up; and for a store
 *       of that order, before the next step of that order;
 *   M2  when another thread takes a lock that was given back after it; together with any later release of the same thread, and after what was
 *       stored before a release; relaxed stores to different words in any order;
 *   M3  before another thread changes the same word;
 *   M4  when another thread reads the word, if that chooses to see it.
 *
 * To drain at other moments would be seen by nobody.  A change (exchange, add,
 * ...) reads the newest value, and what it stores is buffered as any store; so it
 * orders no later load, unless both are of sequential consistency.  C11 promises
 * no more, and processors that have such instructions keep to that.
 *
 * Not looked at: loads that come before earlier loads, other than through the
 * clocks; exchanges that fail for no reason.
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

#define MEMORY_WORDS ((size_t)1 << 16)
/* A single byte has an entry of its own, beside that of its word. */
#define MEMORY_BYTE ((uintptr_t)1 << 63)

/* Accesses to one half of a word, by the clocks of those who made them. */
struct memory_half {
	uint32_t plain_write[EXPLORE_THREADS], plain_read[EXPLORE_THREADS];
	uint32_t atomic_write[EXPLORE_THREADS], atomic_read[EXPLORE_THREADS];
	struct explore_clock release; /* of the value */
	unsigned users;               /* bit i: thread i came by */
};

struct memory_word {
	uintptr_t address;
	uint32_t generation; /* of the run that the rest is of */
	bool saved;
	uint64_t before;
	struct memory_half half[2];
};

extern unsigned char __start_explore_tls[], __stop_explore_tls[];

static struct {
	struct memory_word *word;
	uint32_t generation, used;
	struct memory_word *saved[MEMORY_WORDS / 2];
	unsigned saved_count;
	uintptr_t stack_low, stack_high; /* of the explorer itself */
	uint64_t stored;                 /* serials of buffered stores */
} memory;

/* ---- clocks ------------------------------------------------------------------- */

void
memory_join(struct explore_clock *into, const struct explore_clock *from)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (from->of[i] > into->of[i])
			into->of[i] = from->of[i];
}

/* Has some thread an access in @by that does not lie before @self's work? */
static bool
memory_is_unordered(
    const uint32_t by[EXPLORE_THREADS], const struct explore_thread *self)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (i != engine.current && by[i] > self->clock.of[i])
			return true;
	return false;
}

/* ---- words --------------------------------------------------------------------- */

static struct memory_word *
memory_word(uintptr_t address)
{
	size_t at = (address >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 48;

	for (;;) {
		struct memory_word *word = &memory.word[at];

		if (word->generation != memory.generation) {
			if (++memory.used == MEMORY_WORDS / 2)
				explore_fail("a run uses too much memory");
			memset(word, 0, sizeof(*word));
			word->generation = memory.generation;
			word->address = address;
			return word;
		}
		if (word->address == address)
			return word;
		at = (at + 1) % MEMORY_WORDS;
	}
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

/* Before a write to the word around @address. */
static void
memory_save(uintptr_t address)
{
	struct memory_word *word = memory_word(address & ~(uintptr_t)7);

	if (word->saved)
		return;
	word->saved = true;
	memcpy(&word->before, (void *)word->address, sizeof(word->before));
	memory.saved[memory.saved_count++] = word;
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
	memory.used = 0;
	memory.saved_count = 0;
}

void
memory_init(void)
{
	pthread_attr_t attr;
	void *low;
	size_t bytes;

	memory.word = calloc(MEMORY_WORDS, sizeof(*memory.word));
	if (memory.word == NULL || pthread_getattr_np(pthread_self(), &attr) ||
	    pthread_attr_getstack(&attr, &low, &bytes) != 0) {
		fprintf(stderr, "explore: no memory\n");
		exit(1);
	}
	memory.stack_low = (uintptr_t)low;
	memory.stack_high = (uintptr_t)low + bytes;
	(void)pthread_attr_destroy(&attr);
}

/* ---- the buffer of a thread ------------------------------------------------------ */

static uint64_t
memory_read(uintptr_t address, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, (void *)address, bytes);
	return value;
}

static void
memory_write(uintptr_t address, size_t bytes, uint64_t value)
{
	memory_save(address);
	memcpy((void *)address, &value, bytes);
}

/* Must @first be seen before @later, which was stored after it? */
static bool
memory_keeps_order(
    const struct explore_buffered *first, const struct explore_buffered *later)
{
	return later->ordered || first->address == later->address;
}

/* Entry @index, and what has to go before it. */
static void
memory_drain_one(struct explore_thread *thread, unsigned index)
{
	struct explore_buffered entry = thread->buffered[index];

	for (unsigned i = 0; i < index;) {
		if (memory_keeps_order(&thread->buffered[i], &entry)) {
			memory_drain_one(thread, i);
			/* How many went is not known: begin anew. */
			for (index = 0; index < thread->buffered_count; index++)
				if (thread->buffered[index].serial ==
				    entry.serial)
					break;
			i = 0;
		} else {
			i++;
		}
	}
	memory_write(entry.address, entry.bytes, entry.value);
	memory_half(entry.address)->release = entry.clock;
	thread->buffered_count--;
	memmove(&thread->buffered[index], &thread->buffered[index + 1],
	    (thread->buffered_count - index) * sizeof(entry));
}

void
memory_drain(struct explore_thread *thread)
{
	while (thread->buffered_count > 0)
		memory_drain_one(thread, 0);
}

uint64_t
memory_serial(void)
{
	return memory.stored;
}

void
memory_drain_until(struct explore_thread *thread, uint64_t serial)
{
	for (unsigned i = 0; i < thread->buffered_count;) {
		if (thread->buffered[i].serial <= serial) {
			memory_drain_one(thread, i);
			i = 0;
		} else {
			i++;
		}
	}
}

/* The newest entry for @address, or -1. */
static int
memory_find(const struct explore_thread *thread, uintptr_t address)
{
	for (int i = (int)thread->buffered_count; i-- > 0;)
		if (thread->buffered[i].address == address)
			return i;
	return -1;
}

static void
memory_drain_address(struct explore_thread *thread, uintptr_t address)
{
	int index;

	while ((index = memory_find(thread, address)) >= 0)
		memory_drain_one(thread, (unsigned)index);
}

/* A plain access, which looks past the buffer. */
static void
memory_drain_range(uintptr_t address, size_t bytes)
{
	struct explore_thread *self = engine_self();

	for (unsigned i = 0; i < self->buffered_count;) {
		uintptr_t at = self->buffered[i].address;

		if (at < address + bytes && address < at + 8) {
			memory_drain_one(self, i);
			i = 0;
		} else {
			i++;
		}
	}
}

/* M3. */
static void
memory_drain_others(uintptr_t address)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (i != engine.current)
			memory_drain_address(&engine.thread[i], address);
}

/* M4: what the calling thread will find at @address. */
static void
memory_look_at_others(uintptr_t address)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++) {
		struct explore_thread *thread = &engine.thread[i];

		if (i != engine.current && memory_find(thread, address) >= 0 &&
		    !engine_choose_stale())
			memory_drain_address(thread, address);
	}
}

static bool
memory_is_release(int order)
{
	return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL ||
	       order == __ATOMIC_SEQ_CST;
}

static bool
memory_is_acquire(int order)
{
	return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME ||
	       order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* Stores now, or puts into the buffer. */
static void
memory_put(uintptr_t address, size_t bytes, uint64_t value, int order,
    const struct explore_clock *sequence)
{
	struct explore_thread *self = engine_self();
	struct explore_buffered entry;

	memset(&entry, 0, sizeof(entry));
	entry.address = address;
	entry.value = value;
	entry.bytes = bytes;
	entry.serial = ++memory.stored;
	entry.ordered = memory_is_release(order);
	entry.clock = entry.ordered ? self->clock : self->released;
	if (sequence != NULL)
		memory_join(&entry.clock, sequence);
	if (entry.ordered)
		self->clock.of[engine.current]++;
	if (self->buffered_count == EXPLORE_BUFFERED)
		memory_drain(self);
	/* After a fence, nothing comes before what came before it. */
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		entry.ordered |= self->released.of[i] != 0;
	if (!engine_is_shared(address)) {
		memory_write(address, bytes, value);
		memory_half(address)->release = entry.clock;
	} else {
		self->buffered[self->buffered_count++] = entry;
	}
	if (order == __ATOMIC_SEQ_CST)
		self->sequential = entry.serial;
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
	half->users |= 1u << engine.current;
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
	uint32_t now = engine_self()->clock.of[engine.current];

	if (!memory_is_alone(half) && memory_is_racing(half, writes))
		memory_race(address, writes ? "a write" : "a read");
	if (writes)
		half->plain_write[engine.current] = now;
	else
		half->plain_read[engine.current] = now;
}

static void
memory_atomic(uintptr_t address, bool writes)
{
	struct memory_half *half = memory_half(address);
	struct explore_thread *self = engine_self();
	uint32_t now = self->clock.of[engine.current];
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
	engine_disturb(address, writes);
}

/* Plain accesses, announced by the compiler. */
static void
memory_access(uintptr_t address, size_t bytes, bool writes)
{
	if (!engine.recording || memory_is_mine(address))
		return;
	if (engine.running) {
		memory_drain_range(address, bytes);
		if (bytes < 4) {
			for (size_t i = 0; i < bytes; i++)
				memory_plain(
				    memory_word((address + i) | MEMORY_BYTE)
					->half,
				    address + i, writes);
		} else {
			for (size_t i = 0; i < bytes; i += 4)
				memory_plain(memory_half(address + i),
				    address + i, writes);
		}
	}
	if (writes)
		for (uintptr_t at = address & ~(uintptr_t)7;
		     at < address + bytes; at += 8)
			memory_save(at);
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
memory_acquire(int order, const struct memory_half *half)
{
	struct explore_thread *self = engine_self();

	memory_join(&self->seen, &half->release);
	if (memory_is_acquire(order))
		memory_join(&self->clock, &half->release);
}

/* Steps of sequential consistency are in order among themselves. */
static void
memory_begin(int order)
{
	struct explore_thread *self = engine_self();

	if (order == __ATOMIC_SEQ_CST)
		memory_drain_until(self, self->sequential);
}

static uint64_t
memory_cut(uint64_t value, size_t bytes)
{
	return bytes == 8 ? value : value & ((UINT64_C(1) << bytes * 8) - 1);
}

uint64_t
explore_load(const volatile void *pointer, size_t bytes, int order,
    struct explore_site *site)
{
	uintptr_t address = (uintptr_t)pointer;
	int used = site_order(order, site), own;
	uint64_t value;

	if (!engine.running)
		return memory_read(address, bytes);
	engine_step(address, false, NULL);
	memory_begin(used);
	memory_look_at_others(address);
	own = memory_find(engine_self(), address);
	memory_atomic(address, false);
	if (own >= 0) {
		value = memory_cut(engine_self()->buffered[own].value, bytes);
	} else {
		value = memory_read(address, bytes);
		memory_acquire(used, memory_half(address));
	}
	memory_trace(site, address, value);
	return value;
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
	engine_step(address, true, NULL);
	memory_begin(used);
	memory_drain_others(address);
	memory_atomic(address, true);
	memory_put(address, bytes, value, used, NULL);
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

/* Reads for a change: what this thread stored there, and others did, is there. */
static uint64_t
memory_read_newest(uintptr_t address, size_t bytes)
{
	memory_drain_others(address);
	memory_drain_address(engine_self(), address);
	return memory_read(address, bytes);
}

static void
memory_change(uintptr_t address, size_t bytes, uint64_t value, int order)
{
	struct explore_clock sequence = memory_half(address)->release;

	memory_acquire(order, memory_half(address));
	memory_put(address, bytes, value, order, &sequence);
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
	engine_step(address, true, NULL);
	memory_begin(used);
	memory_atomic(address, true);
	before = memory_read_newest(address, bytes);
	value = memory_changed(site->op, before, value);
	memory_change(address, bytes, value, used);
	memory_trace(site, address, value);
	return before;
}

bool
explore_compare(volatile void *pointer, void *expected, size_t bytes,
    uint64_t desired, int order, struct explore_site *site)
{
	uintptr_t address = (uintptr_t)pointer;
	int used = site_order(order, site);
	uint64_t before, wanted = 0;

	memcpy(&wanted, expected, bytes);
	if (engine.running) {
		engine_step(address, true, NULL);
		memory_begin(used);
	}
	before = engine.running ? memory_read_newest(address, bytes)
				: memory_read(address, bytes);
	if (engine.running)
		memory_atomic(address, before == wanted);
	if (before != wanted) {
		memory_note_write(expected, bytes);
		memcpy(expected, &before, bytes);
		/* Failing, all of them are relaxed in the sources or may as
		 * well be: nothing is done with what they find but to try again. */
		return false;
	}
	if (engine.running) {
		memory_change(address, bytes, desired, used);
		memory_trace(site, address, desired);
		return true;
	}
	if (engine.recording)
		memory_save(address);
	memcpy((void *)address, &desired, bytes);
	return true;
}

void
explore_fence(int order, struct explore_site *site)
{
	struct explore_thread *self = engine_self();
	int used = site_order(order, site);

	if (!engine.running)
		return;
	if (memory_is_acquire(used))
		memory_join(&self->clock, &self->seen);
	if (memory_is_release(used)) {
		self->released = self->clock;
		self->clock.of[engine.current]++;
	}
	if (used == __ATOMIC_SEQ_CST)
		memory_drain(self);
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
