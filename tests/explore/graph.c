/* SPDX-License-Identifier: MIT */
/*
 * graph.c - which states of a scenario are the same.
 *
 * A run is more than the order of its steps: many orders are one and the same to
 * everybody.  What makes a state is which step of which thread found what: an
 * execution graph.  Its nodes are the steps on shared words, its edges lead from a
 * step to the one before it of its thread, to the store that it read or came after,
 * to the lock's last owner, to who woke it up.  Each node has a number, mixed from
 * what it is and from the numbers its edges lead to; so the numbers of the threads'
 * last nodes stand for the whole graph.
 *
 * Two runs that got to the same graph stand in the same state, whatever the order
 * was: memory, its history, clocks and threads are functions of the graph, since
 * plain accesses are free of races.  If the second has spent no less, it ends; what
 * it could still do, the first does.
 *
 * Numbers have 64 bits and are mixed well, and a walk has some 10^6 states; that
 * two of them have one number by chance happens in one walk of 10^7.
 */
#include "base/compiler.h"
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRAPH_STALE 8 /* more budget than that has no entry */
#define GRAPH_LEAST ((size_t)1 << 12)

struct graph_state {
	uint64_t number; /* 0: none */
	/* Least preemptions of those that spent so many older values; or more
	 * than any. */
	uint8_t preemptions[GRAPH_STALE];
};

struct graph_table {
	struct graph_state *state;
	size_t room, count;
};

static struct {
	struct graph_table visited, ends;
	uint64_t sum; /* of the numbers of `ends` */
} graph;

/* The finalizer of splitmix64, on both. */
uint64_t
graph_mix(uint64_t a, uint64_t b)
{
	uint64_t x = a * UINT64_C(0x9e3779b97f4a7c15) + b;

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

void
graph_event(uintptr_t what, uint64_t from)
{
	struct explore_thread *self = engine_self();

	self->graph = graph_mix(graph_mix(self->graph, what), from);
	self->fresh = false;
}

/* The state that all threads are in. */
static uint64_t
graph_number(uint64_t how)
{
	uint64_t number = graph_mix(how, engine.now_ns);

	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		number = graph_mix(graph_mix(number, engine.thread[i].graph),
		    (uint64_t)engine.thread[i].state);
	return number != 0 ? number : 1;
}

static struct graph_state *
graph_find(const struct graph_state *state, size_t room, uint64_t number)
{
	size_t at = (size_t)number & (room - 1);

	while (state[at].number != 0 && state[at].number != number)
		at = (at + 1) & (room - 1);
	return (struct graph_state *)(uintptr_t)&state[at];
}

static void
graph_grow(struct graph_table *table)
{
	size_t room = table->room > 0 ? table->room * 2 : GRAPH_LEAST;
	struct graph_state *state = calloc(room, sizeof(*state));

	if (state == NULL) {
		fprintf(stderr, "explore: no memory\n");
		exit(1);
	}
	for (size_t i = 0; i < table->room; i++)
		if (table->state[i].number != 0)
			*graph_find(state, room, table->state[i].number) =
			    table->state[i];
	free(table->state);
	table->state = state;
	table->room = room;
}

/* The entry of a state, which may be new. */
static struct graph_state *
graph_enter(struct graph_table *table, uint64_t number, bool *is_new)
{
	struct graph_state *state;

	if (table->count * 2 >= table->room)
		graph_grow(table);
	state = graph_find(table->state, table->room, number);
	*is_new = state->number == 0;
	if (*is_new) {
		state->number = number;
		memset(
		    state->preemptions, UINT8_MAX, sizeof(state->preemptions));
		table->count++;
	}
	return state;
}

bool
graph_was_here(uint64_t how, unsigned preemptions, unsigned stale)
{
	struct graph_state *state;
	bool is_new;

	state = graph_enter(&graph.visited, graph_number(how), &is_new);
	for (unsigned i = 0; i <= stale && i < GRAPH_STALE; i++)
		if (state->preemptions[i] <= preemptions)
			return true;
	if (stale < GRAPH_STALE)
		state->preemptions[stale] = (uint8_t)preemptions;
	return false;
}

void
graph_end(void)
{
	uint64_t number = graph_number(0);
	bool is_new;

	(void)graph_enter(&graph.ends, number, &is_new);
	graph.sum += is_new ? number : 0;
}

static void
graph_clear(struct graph_table *table)
{
	if (table->count > 0)
		memset(table->state, 0, table->room * sizeof(*table->state));
	table->count = 0;
}

void
graph_forget(void)
{
	graph_clear(&graph.visited);
	graph_clear(&graph.ends);
	graph.sum = 0;
}

void
graph_count(struct explore_result *result)
{
	result->states = graph.visited.count;
	result->ends = graph.ends.count;
	result->ends_sum = graph.sum;
}
