/* SPDX-License-Identifier: MIT */
/*
 * engine.h - what the files of the explorer share.
 */
#ifndef EXPLORE_ENGINE_H
#define EXPLORE_ENGINE_H

#include "explore.h"

#include <setjmp.h>

#define EXPLORE_TLS_BYTES 1024
/* The order of fences: a word that none has. */
#define EXPLORE_FENCES ((uintptr_t)8)

struct weiri_mutex;

/* How much of each thread's work lies before this one's: vector clocks. */
struct explore_clock {
	uint32_t of[EXPLORE_THREADS];
};

/* What comes with a value that is read with acquire. */
struct explore_view {
	struct explore_clock before; /* what has happened */
	/* Whose stores are not missed: these, and what fences tell of. */
	struct explore_clock seen;
	uint32_t sequential; /* as history.c counts stores of that order */
};

enum explore_state {
	EXPLORE_READY,
	EXPLORE_LOCKED_OUT,
	EXPLORE_WAITING,
	EXPLORE_DONE,
};

/* What a thread is about to do, as far as others notice. */
struct explore_step {
	uintptr_t address;
	bool writes;
	bool sequential; /* an access of that order; fences notice */
};

struct explore_thread {
	jmp_buf context;
	enum explore_state state;
	const void *on;  /* the lock or word it waits for */
	uint64_t end_ns; /*   and until when */
	bool timed_out;
	bool fresh; /* no event yet */
	/* Left where it could go on, before `next`. */
	bool set_aside, disturbed;
	struct explore_step next;
	const void *wants; /* a lock that is its next step */
	/* What it knows; what its stores hand on since a fence; what it has
	 * read, for a fence to come. */
	struct explore_view view, released, read;
	uint64_t graph; /* what led here; see graph.c */
	void *exit_argument;
	unsigned char tls[EXPLORE_TLS_BYTES];
};

struct explore_engine {
	bool running;   /* bodies are under way */
	bool recording; /* what is written is undone after the run */
	bool full;      /* leaves out no run; see engine.c */
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

/* Before @next: others may come first.  @what: for a trace, which atomic
 * operations write by themselves; or NULL. */
void engine_step(struct explore_step next, const char *what);
/* A step happens: who was set aside before one that it meets does not find what
 * it left. */
void engine_disturb(struct explore_step step);
/* Something happens that meets every step. */
void engine_disturb_all(void);
/* From now on steps on @address are points of the schedule. */
void engine_share(uintptr_t address);
bool engine_is_shared(uintptr_t address);
/* How much older a value is to be than the newest, less than @count. */
unsigned engine_choose_older(unsigned count);
/* The calling thread cannot go on until its state is EXPLORE_READY. */
void engine_block(void);
/* Others first, if there are any. */
void engine_yield(void);
void engine_trace(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* ---- schedule.c ----------------------------------------------------------------- */

void schedule_begin_run(void);
/* One of @count ways, the first at a choice that is new. */
unsigned schedule_choose(unsigned count);
/* Is the run beyond what it has in common with the last? */
bool schedule_is_new(void);
/* To the next list of choices; false: there is none. */
bool schedule_advance(void);
void schedule_restart(void);
void schedule_note(unsigned step, char kind, unsigned value);
/* Is that the next one told, to be replayed? */
bool schedule_is_told(unsigned step, char kind, unsigned *value);
void schedule_tell(char *text, size_t bytes);
void schedule_replay(const char *text);
/* false: it was known. */
bool schedule_share(uintptr_t address);

/* ---- graph.c ------------------------------------------------------------------ */

uint64_t graph_mix(uint64_t a, uint64_t b);
/* The calling thread's next event: what it meets, and where that is from. */
void graph_event(uintptr_t what, uint64_t from);
/* Was a run here before, with as little spent?  From now on one was. */
bool graph_was_here(uint64_t how, unsigned preemptions, unsigned stale);
void graph_forget(void);
/* All threads are at their end. */
void graph_end(void);
void graph_count(struct explore_result *result);

/* ---- history.c ------------------------------------------------------------------ */

void history_begin_run(void);
uint64_t history_load(uintptr_t address, size_t bytes, int order);
/* Of a word whose newest value is @value from now on; @changes: of what was
 * read there. */
void history_store(
    uintptr_t address, size_t bytes, uint64_t value, int order, bool changes);
/* A value other than @wanted that a comparison finds; false: there is none. */
bool history_differs(uintptr_t address, size_t bytes, uint64_t wanted,
    int order, uint64_t *found);
void history_fence(int order);
/* What was there is no longer read by anybody. */
void history_end(uintptr_t address);
/* For an event that meets the newest value. */
uint64_t history_newest(uintptr_t address, size_t bytes);
bool history_is_acquire(int order);
bool history_is_release(int order);
void history_join(struct explore_view *into, const struct explore_view *from);
/* What others took from the calling thread ends here. */
void history_tick(void);

/* ---- memory.c --------------------------------------------------------------- */

/* Once, before setup(). */
void memory_init(void);
void memory_begin_run(void);
/* Everything written since is as it was. */
void memory_undo(void);
uint64_t memory_read(uintptr_t address, size_t bytes);
void memory_write(uintptr_t address, size_t bytes, uint64_t value);
/* As if the calling thread would write there, without an order. */
void memory_note_write(const void *address, size_t bytes);

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
