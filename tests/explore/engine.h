/* SPDX-License-Identifier: MIT */
/*
 * engine.h - what the files of the explorer share.
 */
#ifndef EXPLORE_ENGINE_H
#define EXPLORE_ENGINE_H

#include "explore.h"

#include <ucontext.h>

#define EXPLORE_TLS_BYTES 1024
#define EXPLORE_BUFFERED 32

struct weiri_mutex;

/* How much of each thread's work lies before this one's: vector clocks. */
struct explore_clock {
	uint32_t of[EXPLORE_THREADS];
};

/* A store that its thread made, and that nobody else sees yet. */
struct explore_buffered {
	uintptr_t address;
	uint64_t value;
	size_t bytes;
	struct explore_clock clock; /* of who reads it with acquire */
	bool ordered;               /* not before what was stored earlier */
	uint64_t serial;
};

enum explore_state {
	EXPLORE_READY,
	EXPLORE_LOCKED_OUT,
	EXPLORE_WAITING,
	EXPLORE_DONE,
};

struct explore_thread {
	ucontext_t context;
	enum explore_state state;
	const void *on;  /* the lock or word it waits for */
	uint64_t end_ns; /*   and until when */
	bool timed_out;
	bool fresh; /* no step yet that others could see */
	/* Left where it could go on, before a step on `address`. */
	bool set_aside, disturbed;
	uintptr_t address;
	bool writes;
	struct explore_clock clock, released, seen;
	struct explore_buffered buffered[EXPLORE_BUFFERED];
	unsigned buffered_count;
	uint64_t sequential; /* serial of its last store of that kind */
	void *exit_argument;
	unsigned char tls[EXPLORE_TLS_BYTES];
};

struct explore_engine {
	bool running;   /* bodies are under way */
	bool recording; /* what is written is undone after the run */
	unsigned current;
	uint64_t now_ns;
	void (*exit_fn)(void *argument);
	struct explore_thread thread[EXPLORE_THREADS];
};

extern struct explore_engine engine;

static inline struct explore_thread *
engine_self(void)
{
	return &engine.thread[engine.current];
}

/* Before a step on @address: others may come first.  @what: for a trace, which
 * atomic operations write by themselves; or NULL. */
void engine_step(uintptr_t address, bool writes, const char *what);
/* A step happens: who was set aside before one that touches the same address
 * does not find what it left. */
void engine_disturb(uintptr_t address, bool writes);
/* From now on steps on @address are points of the schedule. */
void engine_share(uintptr_t address);
bool engine_is_shared(uintptr_t address);
/* The older value of a word?  Counted. */
bool engine_choose_stale(void);
/* The calling thread cannot go on until its state is EXPLORE_READY. */
void engine_block(void);
/* Others first, if there are any. */
void engine_yield(void);
void engine_trace(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* ---- memory.c --------------------------------------------------------------- */

/* Once, before setup(). */
void memory_init(void);
void memory_begin_run(void);
/* Everything written since is as it was. */
void memory_undo(void);
/* All that @thread stored is there for everybody. */
void memory_drain(struct explore_thread *thread);
/* What it stored before memory_serial() said @serial. */
void memory_drain_until(struct explore_thread *thread, uint64_t serial);
uint64_t memory_serial(void);
/* As if the calling thread would write there, without an order. */
void memory_note_write(const void *address, size_t bytes);
void memory_join(struct explore_clock *into, const struct explore_clock *from);
/* ---- sites.c ---------------------------------------------------------------- */

struct explore_site;

/* The order that is weaker than written; NULL: none. */
void site_set_mutant(const char *name);
/* The order an operation has in this run. */
int site_order(int order, struct explore_site *site);

/* ---- system.c --------------------------------------------------------------- */

/* Memory at @address, or the program ends. */
void *explore_map(uintptr_t address, size_t bytes);
void system_init(void);
void system_begin_run(void);
/* Ends the calling thread as the system would. */
void system_exit(void);

#endif /* EXPLORE_ENGINE_H */
