/* SPDX-License-Identifier: MIT */
/*
 * history.c - what a shared word was, and who may still find it so.
 *
 * C11 does not say that a store is seen at once.  Of each shared word all values
 * since the run began are kept, in the order they were stored in, and a load may
 * find any of them that nothing keeps from it.  The memory itself holds the
 * newest.  A value is out of reach of a thread
 *
 *   H1  that found or stored a newer one itself (coherence);
 *   H2  that knows of one who did: through acquire and release, a lock, a
 *       release sequence, or fences;
 *   H3  if both are of sequential consistency, or fences of that order lie
 *       between: after the older one's successor was stored, or found, by who
 *       then came to a fence, and before the load, or a fence before it.
 *
 * A view says what a thread knows: for each thread, how much of its work.  Each
 * value remembers since when, by its own clock, each thread knows it.  So H2 and H3
 * are comparisons of clocks: release puts the thread's view beside the value,
 * acquire takes it over; fences of sequential consistency put theirs into one place
 * and take over what is there, as far as it is about values (it makes no plain
 * access happen before another).  Stores of sequential consistency are counted, and
 * such a fence takes the count.
 *
 * This is the view machine of RC11 (Lahav et al., "Repairing Sequential Consistency
 * in C/C++11", 2017) in two limits: the order of the values of a word is that in
 * which the schedule stores them, and no load finds what is stored after it.  A
 * store that lingers in a buffer is one that others do not find yet: what x86 does,
 * and ARM, is among it.  litmus.c has the examples that the model is known by.
 *
 * A comparison that fails is a load and finds older values; all other changes find
 * the newest, as C11 says.
 */
#include "base/compiler.h"
#include "engine.h"

#include <string.h>

#define HISTORY_WORDS 1024 /* shared ones: 512 at most */
#define HISTORY_VALUES 8   /* the newest; what is older is forgotten */

struct history_value {
	uint64_t value;
	uint64_t graph; /* of the store */
	struct explore_view view;
	/* Since when a thread knows it, 0: it does not. */
	uint32_t known[EXPLORE_THREADS];
	uint32_t sequential; /* its number; 0: not of that order */
};

struct history_word {
	uintptr_t address;
	uint32_t generation;
	unsigned count;
	struct history_value value[HISTORY_VALUES];
};

static struct {
	struct history_word word[HISTORY_WORDS];
	uint32_t generation;
	/* What fences of sequential consistency know together. */
	struct explore_clock fenced;
	uint32_t sequential; /* stores */
	uint64_t fence_graph, store_graphs;
} history;

/* ---- views -------------------------------------------------------------------- */

static void
history_join_clock(struct explore_clock *into, const struct explore_clock *from)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (from->of[i] > into->of[i])
			into->of[i] = from->of[i];
}

void
history_join(struct explore_view *into, const struct explore_view *from)
{
	history_join_clock(&into->before, &from->before);
	history_join_clock(&into->seen, &from->seen);
	if (from->sequential > into->sequential)
		into->sequential = from->sequential;
}

void
history_tick(void)
{
	struct explore_view *view = &engine_self()->view;

	view->before.of[engine.current]++;
	view->seen.of[engine.current]++;
}

bool
history_is_release(int order)
{
	return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL ||
	       order == __ATOMIC_SEQ_CST;
}

bool
history_is_acquire(int order)
{
	return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME ||
	       order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* ---- words ---------------------------------------------------------------------- */

void
history_begin_run(void)
{
	history.generation++;
	memset(&history.fenced, 0, sizeof(history.fenced));
	history.sequential = 0;
	history.fence_graph = history.store_graphs = 0;
}

/* What the run found there is the first value; everybody knows it. */
static void
history_first(struct history_word *word, size_t bytes)
{
	memset(&word->value[0], 0, sizeof(word->value[0]));
	word->value[0].value = memory_read(word->address, bytes);
	word->count = 1;
}

/* The entry of @address, or the empty one that it would have. */
static struct history_word *
history_find(uintptr_t address)
{
	size_t at = (address >> 2) * UINT64_C(0x9e3779b97f4a7c15) >> 54;

	while (history.word[at].generation == history.generation &&
	       history.word[at].address != address)
		at = (at + 1) % HISTORY_WORDS;
	return &history.word[at];
}

static struct history_word *
history_word(uintptr_t address, size_t bytes)
{
	struct history_word *word = history_find(address);

	if (word->generation != history.generation) {
		word->generation = history.generation;
		word->address = address;
		word->count = 0;
	}
	if (word->count == 0)
		history_first(word, bytes);
	return word;
}

void
history_end(uintptr_t address)
{
	struct history_word *word = history_find(address);

	if (word->generation == history.generation)
		word->count = 0;
}

/* ---- what is in reach -------------------------------------------------------------- */

static bool
history_covers(
    const struct explore_clock *seen, const struct history_value *value)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (value->known[i] != 0 && value->known[i] <= seen->of[i])
			return true;
	return false;
}

/* Does the calling thread know @value, so that none before it is found? */
static bool
history_knows(const struct history_value *value, int order)
{
	const struct explore_thread *self = engine_self();

	if (value->known[engine.current] != 0 ||
	    history_covers(&self->view.seen, value))
		return true;
	if (value->sequential == 0)
		return order == __ATOMIC_SEQ_CST &&
		       history_covers(&history.fenced, value);
	return order == __ATOMIC_SEQ_CST ||
	       value->sequential <= self->view.sequential;
}

/* The oldest value that may be found. */
static unsigned
history_oldest(const struct history_word *word, int order)
{
	unsigned index = word->count - 1;

	while (index > 0 && !history_knows(&word->value[index], order))
		index--;
	return index;
}

/* The calling thread finds @value. */
static void
history_take(struct history_value *value, int order)
{
	struct explore_thread *self = engine_self();

	if (value->known[engine.current] == 0)
		value->known[engine.current] =
		    self->view.seen.of[engine.current];
	history_join(&self->read, &value->view);
	if (history_is_acquire(order))
		history_join(&self->view, &value->view);
}

uint64_t
history_load(uintptr_t address, size_t bytes, int order)
{
	struct history_word *word = history_word(address, bytes);
	unsigned newest = word->count - 1;
	unsigned older =
	    engine_choose_older(newest - history_oldest(word, order) + 1);
	struct history_value *value = &word->value[newest - older];

	history_take(value, order);
	graph_event(address, value->graph);
	return value->value;
}

bool
history_differs(uintptr_t address, size_t bytes, uint64_t wanted, int order,
    uint64_t *found)
{
	struct history_word *word = history_word(address, bytes);
	unsigned newest = word->count - 1, count = 1, taken;
	unsigned oldest = history_oldest(word, order);
	unsigned differs[HISTORY_VALUES] = {newest};
	bool equal = word->value[newest].value == wanted;

	/* The first choice is the newest value, which is equal or differs. */
	for (unsigned i = newest; i-- > oldest;)
		if (word->value[i].value != wanted)
			differs[count++] = i;
	taken = engine_choose_older(count);
	if (taken == 0 && equal)
		return false;

	struct history_value *value = &word->value[differs[taken]];

	history_take(value, order);
	graph_event(address, value->graph);
	*found = value->value;
	return true;
}

uint64_t
history_newest(uintptr_t address, size_t bytes)
{
	const struct history_word *word = history_word(address, bytes);

	return word->value[word->count - 1].graph;
}

/* ---- stores and fences ------------------------------------------------------------- */

static struct history_value *
history_append(struct history_word *word)
{
	if (word->count == HISTORY_VALUES) {
		word->count--;
		memmove(&word->value[0], &word->value[1],
		    word->count * sizeof(word->value[0]));
	}
	return &word->value[word->count++];
}

void
history_store(
    uintptr_t address, size_t bytes, uint64_t value, int order, bool changes)
{
	struct history_word *word = history_word(address, bytes);
	struct history_value *last = &word->value[word->count - 1];
	struct explore_thread *self = engine_self();
	bool release = history_is_release(order);
	struct history_value next = {.value = value};

	graph_event(address, last->graph);
	if (changes)
		history_take(last, order);
	next.graph = self->graph;
	next.view = release ? self->view : self->released;
	next.known[engine.current] = self->view.seen.of[engine.current];
	/* A change hands on what its predecessor did: a release sequence. */
	if (changes)
		history_join(&next.view, &last->view);
	if (order == __ATOMIC_SEQ_CST) {
		next.sequential = ++history.sequential;
		history.store_graphs += self->graph;
	}
	*history_append(word) = next;
	if (release)
		history_tick();
}

static void
history_fence_sequential(struct explore_thread *self)
{
	graph_event(EXPLORE_FENCES,
	    graph_mix(history.fence_graph, history.store_graphs));
	history.fence_graph = self->graph;
	history.store_graphs = 0;
	history_join_clock(&history.fenced, &self->view.seen);
	self->view.seen = history.fenced;
	self->view.sequential = history.sequential;
}

void
history_fence(int order)
{
	struct explore_thread *self = engine_self();

	if (history_is_acquire(order))
		history_join(&self->view, &self->read);
	if (order == __ATOMIC_SEQ_CST)
		history_fence_sequential(self);
	if (history_is_release(order)) {
		self->released = self->view;
		history_tick();
	}
}
