/* SPDX-License-Identifier: MIT */
/*
 * system.c - what the library asks of the system, as the runs have it.
 *
 * A lock that is taken blocks, and so does a wait; the scheduler goes on with
 * somebody else.  Time is a number that moves while somebody sleeps, and to the
 * end of a wait that times out.  Address space is an arena that each run uses from
 * the same place on.
 */
#define _GNU_SOURCE
#include "shim.h"

#include "config/config.h"
#include "engine.h"

#include <sys/mman.h>

#define SYSTEM_LOCKS 64
#define SYSTEM_ARENA ((uintptr_t)0x110000000000)
#define SYSTEM_ARENA_BYTES ((size_t)1 << 32)
#define SYSTEM_NOBODY EXPLORE_THREADS
#define SYSTEM_TIME ((uintptr_t)16) /* no word is there */

struct system_lock {
	const struct weiri_mutex *mutex;
	unsigned owner;
	unsigned users;           /* bit i: thread i came by */
	struct explore_view view; /* of who gave it back last */
	uint64_t graph;           /*   and of the last event */
};

static struct {
	struct system_lock lock[SYSTEM_LOCKS];
	unsigned lock_count;
	char *arena;
	size_t used, used_before; /* by setup() */
} sys;

/* ---- locks ----------------------------------------------------------------------- */

static struct system_lock *
system_lock_of(const struct weiri_mutex *mutex)
{
	struct system_lock *lock;

	for (unsigned i = 0; i < sys.lock_count; i++)
		if (sys.lock[i].mutex == mutex)
			return &sys.lock[i];
	if (sys.lock_count == SYSTEM_LOCKS)
		explore_fail("more than %d locks", SYSTEM_LOCKS);
	lock = &sys.lock[sys.lock_count++];
	*lock = (struct system_lock){
	    .mutex = mutex,
	    .owner = SYSTEM_NOBODY,
	};
	return lock;
}

/* Those who would take it next cannot, or can again. */
static void
system_bar(const struct weiri_mutex *mutex, enum explore_state from,
    enum explore_state to)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++) {
		struct explore_thread *thread = &engine.thread[i];

		if (i != engine.current && thread->wants == mutex &&
		    thread->state == from)
			thread->state = to;
	}
}

static void
system_event(struct system_lock *lock)
{
	graph_event((uintptr_t)lock->mutex, lock->graph);
	lock->graph = engine_self()->graph;
	engine_disturb(
	    (struct explore_step){(uintptr_t)lock->mutex, true, false});
}

/* Somebody comes to a lock.  Its owner, if set aside, might have given it back
 * before: an unlock is part of the step that it follows. */
static void
system_come(const struct system_lock *lock)
{
	if (lock->owner != SYSTEM_NOBODY)
		engine.thread[lock->owner].disturbed = true;
}

static struct system_lock *
system_step(const struct weiri_mutex *mutex, const char *what)
{
	struct system_lock *lock = system_lock_of(mutex);

	lock->users |= 1u << engine.current;
	if ((lock->users & (lock->users - 1)) != 0)
		engine_share((uintptr_t)mutex);
	engine_step((struct explore_step){(uintptr_t)mutex, true, false}, what);
	return lock;
}

static void
system_own(struct system_lock *lock)
{
	lock->owner = engine.current;
	history_join(&engine_self()->view, &lock->view);
	system_event(lock);
	system_bar(lock->mutex, EXPLORE_READY, EXPLORE_LOCKED_OUT);
}

/* Nobody comes to a lock that is taken: who would is locked out until then. */
void
explore_mutex_lock(struct weiri_mutex *mutex)
{
	struct explore_thread *self;
	struct system_lock *lock;

	if (!engine.running)
		return;
	self = engine_self();
	lock = system_lock_of(mutex);
	if (lock->owner == engine.current)
		explore_fail("a lock is taken twice by thread %u", lock->owner);
	self->wants = mutex;
	if (lock->owner != SYSTEM_NOBODY) {
		engine_share((uintptr_t)mutex);
		system_come(lock);
		self->state = EXPLORE_LOCKED_OUT;
		engine_block();
	} else {
		(void)system_step(mutex, "lock");
	}
	self->wants = NULL;
	system_own(lock);
}

bool
explore_mutex_try(struct weiri_mutex *mutex)
{
	struct system_lock *lock;
	bool is_free;

	if (!engine.running)
		return true;
	lock = system_step(mutex, "try");
	system_come(lock);
	is_free = lock->owner == SYSTEM_NOBODY;
	if (is_free)
		system_own(lock);
	else
		system_event(lock);
	return is_free;
}

void
explore_mutex_unlock(struct weiri_mutex *mutex)
{
	struct system_lock *lock;

	if (!engine.running)
		return;
	lock = system_lock_of(mutex);
	if (lock->owner != engine.current)
		explore_fail("thread %u gives back a lock of %u",
		    engine.current, lock->owner);
	lock->owner = SYSTEM_NOBODY;
	lock->view = engine_self()->view;
	history_tick();
	system_event(lock);
	system_bar(mutex, EXPLORE_LOCKED_OUT, EXPLORE_READY);
}

/* As under a lock of its own. */
void
explore_once(weiri_once *once, void (*once_fn)(void))
{
	struct weiri_mutex *mutex = (struct weiri_mutex *)(void *)once;

	explore_mutex_lock(mutex);
	if (*once == WEIRI_ONCE_INITIALIZER) {
		once_fn();
		memory_note_write(once, sizeof(*once));
		*once = !WEIRI_ONCE_INITIALIZER;
	}
	explore_mutex_unlock(mutex);
}

/* ---- waiting, time ------------------------------------------------------------------ */

/* What the kernel compares is the newest value: futex(2). */
bool
explore_wait(const uint32_t *word, uint32_t value, uint64_t end_ns)
{
	const struct explore_step step = {(uintptr_t)word, false, false};
	struct explore_thread *self = engine_self();

	if (!engine.running)
		explore_fail("a wait with nobody to end it");
	engine_share((uintptr_t)word);
	engine_step(step, "wait");
	engine_disturb(step);
	graph_event(
	    (uintptr_t)word, history_newest((uintptr_t)word, sizeof(*word)));
	if (*word != value)
		return true;
	self->state = EXPLORE_WAITING;
	self->on = word;
	self->end_ns = end_ns;
	self->timed_out = false;
	engine_block();
	return !self->timed_out;
}

/* Who is woken up finds what was stored before, but takes no plain access for
 * done: it has to look. */
static void
system_wake_up(struct explore_thread *thread)
{
	struct explore_thread *self = engine_self();
	struct explore_view view = self->view;

	view.before = thread->view.before;
	history_join(&thread->view, &view);
	graph_event((uintptr_t)thread->on, thread->graph);
	thread->graph = graph_mix(thread->graph, self->graph);
	thread->state = EXPLORE_READY;
}

void
explore_wake(const uint32_t *word)
{
	const struct explore_step step = {(uintptr_t)word, true, false};

	if (!engine.running)
		return;
	engine_step(step, "wake");
	engine_disturb(step);
	graph_event((uintptr_t)word, 0); /* though nobody may sleep there */
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (engine.thread[i].state == EXPLORE_WAITING &&
		    engine.thread[i].on == word)
			system_wake_up(&engine.thread[i]);
	history_tick();
}

/* The time is everybody's, so each look at it is an event. */
uint64_t
explore_now_ns(void)
{
	if (engine.running) {
		graph_event(SYSTEM_TIME, engine.now_ns);
		engine_disturb_all();
	}
	return engine.now_ns;
}

void
explore_sleep_ns(uint64_t ns)
{
	engine.now_ns += ns;
	if (!engine.running)
		return;
	graph_event(SYSTEM_TIME, engine.now_ns);
	engine_disturb_all();
	engine_yield();
}

/* ---- threads --------------------------------------------------------------------------- */

int
explore_exit_hook(void (*exit_fn)(void *argument))
{
	engine.exit_fn = exit_fn;
	return 0;
}

int
explore_exit_arm(void *argument)
{
	if (engine.current < EXPLORE_THREADS)
		engine_self()->exit_argument = argument;
	return 0;
}

void
system_exit(void)
{
	void *argument = engine_self()->exit_argument;

	if (engine.exit_fn != NULL && argument != NULL)
		engine.exit_fn(argument);
}

/* src/runtime: the runs have no fork, and end by themselves. */
void
weiri_start(void)
{
}

void
weiri_started(void)
{
}

/* ---- the rest ------------------------------------------------------------------------------ */

uint64_t
explore_random(void)
{
	return UINT64_C(0x9e3779b97f4a7c15);
}

/* A report of the library's ends the run, in the words of the report. */
void
explore_write_error(const char *text, size_t bytes)
{
	if (engine.recording)
		explore_fail("%.*s", (int)(bytes > 0 ? bytes - 1 : 0), text);
	(void)!fwrite(text, 1, bytes, stderr);
}

void *
explore_reserve(size_t bytes, size_t align)
{
	uintptr_t at = ((uintptr_t)sys.arena + sys.used + align - 1) &
		       ~(uintptr_t)(align - 1);

	if (at + bytes > (uintptr_t)sys.arena + SYSTEM_ARENA_BYTES)
		return NULL;
	sys.used = at + bytes - (uintptr_t)sys.arena;
	if (engine.running) {
		graph_event(at, bytes);
		engine_disturb_all();
	}
	return (void *)at;
}

int
explore_commit(void *address, size_t bytes)
{
	(void)address;
	(void)bytes;
	return 0;
}

int
explore_decommit(void *address, size_t bytes)
{
	(void)explore_memset(address, 0, bytes);
	return 0;
}

void *
explore_map(uintptr_t address, size_t bytes)
{
	void *memory = mmap((void *)address, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
	    -1, 0);

	if (memory == MAP_FAILED) {
		perror("explore");
		exit(1);
	}
	return memory;
}

void
system_init(void)
{
	sys.arena = explore_map(SYSTEM_ARENA, SYSTEM_ARENA_BYTES);
	engine.current = EXPLORE_THREADS;
}

void
system_begin_run(void)
{
	if (sys.used_before == 0)
		sys.used_before = sys.used;
	sys.used = sys.used_before;
	sys.lock_count = 0;
}
