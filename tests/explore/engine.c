/* SPDX-License-Identifier: MIT */
/*
 * engine.c - one schedule after the other, until there is none left.
 *
 * The threads of a scenario are coroutines of one thread.  Before each step that
 * others could notice, an atomic operation or a lock, the scheduler may let
 * another one go on; which one is a choice.  A run is the list of its choices,
 * and the next run differs in the last choice that had something left to try:
 * a depth-first walk over all lists (Musuvathi and Qadeer, "Iterative Context
 * Bounding", 2007).  What bounds it is how often a thread is left that could have
 * gone on; switches where it could not cost nothing, and few bugs need more than
 * two of the other kind.
 *
 * Runs that are the same as others are not taken:
 *
 *   E1  Steps on words that one thread alone uses, or nobody changes, are no
 *       points of a schedule.  Which those are is found out: a word that proves
 *       to be shared has the walk begin anew.
 *   E2  A thread that was left before a step, and finds on its return that nobody
 *       did anything that step would notice, might as well have been left after
 *       it.  That is another run, with as many preemptions, so this one ends.
 *   E3  A thread is not left before its first step: whoever came here might have
 *       gone to the other one at once.
 *
 * With plain accesses free of races, which memory.c makes sure of, what lies
 * between two steps of a thread is invisible to others; so nothing is lost.
 *
 * A failure is told as a list of choices, each with the number of the step: "12>1"
 * left for thread 1 before step 12, "30=2" went on with thread 2 where the other
 * could not, "31~" read an older value.
 */
#define _GNU_SOURCE
#include "base/compiler.h"
#include "engine.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ENGINE_STACK_BYTES ((size_t)128 << 10)
/* Addresses are the same each time, since some code looks at them. */
#define ENGINE_STACKS ((uintptr_t)0x100000000000)
#define ENGINE_CHOICES 4096
/* A run this long goes round in a circle. */
#define ENGINE_STEPS 20000
#define ENGINE_SHARED 1024

struct engine_choice {
	unsigned taken, count;
};

/* One that was not the first, as it is told. */
struct engine_told {
	unsigned step;
	char kind;
	unsigned thread;
};

struct explore_engine engine;

extern unsigned char __start_explore_tls[], __stop_explore_tls[];

static struct {
	const struct explore_scenario *scenario;
	struct explore_bound bound;
	struct explore_result *result;
	char *stacks;
	ucontext_t main_context;
	sigjmp_buf end; /* of a run that ends in the middle */

	struct engine_choice choice[ENGINE_CHOICES];
	unsigned depth, chosen; /* of this run; known from the last one */
	struct engine_told told[ENGINE_CHOICES];
	unsigned told_count, retold;
	bool replay;

	uintptr_t shared[ENGINE_SHARED]; /* hashed */
	unsigned shared_count;
	bool learned;

	unsigned steps, points, preemptions, stale;
	bool failed, cut;
	size_t tls_bytes;
	unsigned char tls[EXPLORE_THREADS][EXPLORE_TLS_BYTES]; /* prepared */
	unsigned char tls_main[EXPLORE_TLS_BYTES];
} run;

/* ---- the end of a run ----------------------------------------------------- */

static void
engine_tell(char *text, size_t bytes)
{
	size_t at = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < run.told_count && at + 24 < bytes; i++) {
		const struct engine_told *told = &run.told[i];

		at += (size_t)snprintf(text + at, bytes - at,
		    told->kind == '~' ? "%s%u%c" : "%s%u%c%u", i > 0 ? "," : "",
		    told->step, told->kind, told->thread);
	}
	if (at == 0)
		(void)snprintf(text, bytes, "0");
}

void
explore_fail(const char *format, ...)
{
	va_list arguments;

	if (!engine.recording) {
		fprintf(stderr, "explore: in setup: ");
		va_start(arguments, format);
		vfprintf(stderr, format, arguments);
		va_end(arguments);
		fprintf(stderr, "\n");
		exit(1);
	}
	run.failed = true;
	if (run.result->why[0] == '\0') {
		va_start(arguments, format);
		(void)vsnprintf(run.result->why, sizeof(run.result->why),
		    format, arguments);
		va_end(arguments);
	}
	engine_tell(run.result->schedule, sizeof(run.result->schedule));
	engine_trace("FAILED: %s", run.result->why);
	siglongjmp(run.end, 1);
}

static void
engine_cut(void)
{
	run.cut = true;
	siglongjmp(run.end, 1);
}

static void
engine_signal(int number)
{
	if (!engine.recording) {
		(void)signal(number, SIG_DFL);
		(void)raise(number);
		return;
	}
	explore_fail("ended by signal %d (%s)", number, strsignal(number));
}

void
engine_trace(const char *format, ...)
{
	va_list arguments;

	if (!run.replay)
		return;
	printf("%5u  %*s%u  ", run.steps, (int)engine.current * 4, "",
	    engine.current);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

/* ---- choices ---------------------------------------------------------------- */

static unsigned
engine_choose(unsigned count)
{
	struct engine_choice *choice = &run.choice[run.depth];

	if (count <= 1)
		return 0;
	if (run.depth == ENGINE_CHOICES)
		explore_fail("more than %d choices", ENGINE_CHOICES);
	if (run.depth < run.chosen) {
		if (choice->count != count)
			explore_fail("not the same run again: choice %u has "
				     "%u ways, not %u",
			    run.depth, count, choice->count);
	} else {
		*choice = (struct engine_choice){.count = count};
		run.chosen++;
	}
	run.depth++;
	return choice->taken;
}

static void
engine_note(char kind, unsigned thread)
{
	if (run.replay || run.told_count == ENGINE_CHOICES)
		return;
	run.told[run.told_count++] =
	    (struct engine_told){run.steps, kind, thread};
}

/* Is the next told choice one of this kind, here? */
static const struct engine_told *
engine_next_told(char kind)
{
	const struct engine_told *told = &run.told[run.retold];

	if (run.retold == run.told_count || told->step != run.steps ||
	    told->kind != kind)
		return NULL;
	run.retold++;
	return told;
}

bool
engine_choose_stale(void)
{
	bool stale;

	if (run.replay)
		return engine_next_told('~') != NULL;
	if (run.stale == run.bound.stale)
		return false;
	stale = engine_choose(2) == 1;
	if (stale) {
		engine_note('~', 0);
		run.stale++;
		run.result->stale++;
	}
	return stale;
}

/* The next list of choices; false: there is none. */
static bool
engine_advance(void)
{
	while (run.chosen > 0) {
		struct engine_choice *last = &run.choice[run.chosen - 1];

		if (++last->taken < last->count)
			return true;
		run.chosen--;
	}
	return false;
}

unsigned
explore_index(void)
{
	return engine.current;
}

/* ---- shared words ----------------------------------------------------------- */

static uintptr_t *
engine_shared_entry(uintptr_t address)
{
	size_t at = (address >> 2) * UINT64_C(0x9e3779b97f4a7c15) >> 54;

	while (run.shared[at] != 0 && run.shared[at] != address)
		at = (at + 1) % ENGINE_SHARED;
	return &run.shared[at];
}

bool
engine_is_shared(uintptr_t address)
{
	return run.replay || *engine_shared_entry(address) != 0;
}

void
engine_share(uintptr_t address)
{
	uintptr_t *entry = engine_shared_entry(address);

	if (*entry != 0 || run.replay)
		return;
	if (run.shared_count == ENGINE_SHARED / 2)
		explore_fail("too many shared words");
	*entry = address;
	run.shared_count++;
	run.learned = true;
}

/* ---- switches ----------------------------------------------------------------- */

static void
engine_load_tls(const unsigned char *image)
{
	memcpy(__start_explore_tls, image, run.tls_bytes);
}

static void
engine_save_tls(unsigned char *image)
{
	memcpy(image, __start_explore_tls, run.tls_bytes);
}

static void
engine_switch(unsigned to)
{
	struct explore_thread *self = engine_self();

	engine_save_tls(self->tls);
	engine.current = to;
	engine_load_tls(engine_self()->tls);
	if (swapcontext(&self->context, &engine_self()->context) != 0)
		abort();
}

/* A thread that waits for a time to come goes on at the end of it. */
static void
engine_time_out(struct explore_thread *thread)
{
	if (thread->state != EXPLORE_WAITING)
		return;
	thread->timed_out = true;
	thread->state = EXPLORE_READY;
	if (engine.now_ns < thread->end_ns)
		engine.now_ns = thread->end_ns;
}

static bool
engine_returns(const struct explore_thread *thread)
{
	return !thread->set_aside || thread->disturbed || run.replay;
}

/* Who could go on instead of the calling thread: those that are ready, then
 * those whose time could be over. */
static unsigned
engine_others(unsigned *other, unsigned *ready)
{
	unsigned count = 0;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < EXPLORE_THREADS; i++) {
			struct explore_thread *thread = &engine.thread[i];
			bool timed = thread->state == EXPLORE_WAITING &&
				     thread->end_ns != UINT64_MAX;

			if (i != engine.current && engine_returns(thread) &&
			    (pass == 0 ? thread->state == EXPLORE_READY
				       : timed))
				other[count++] = i;
		}
		if (pass == 0)
			*ready = count;
	}
	return count;
}

static bool
engine_anybody_ready(void)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (i != engine.current &&
		    engine.thread[i].state == EXPLORE_READY)
			return true;
	return false;
}

static void
engine_go_on(unsigned to)
{
	struct explore_thread *thread = &engine.thread[to];

	engine_time_out(thread);
	thread->set_aside = false;
	engine_switch(to);
}

/* Where the calling thread cannot go on. */
static unsigned
engine_pick(void)
{
	unsigned other[EXPLORE_THREADS], ready, count, taken;
	const struct engine_told *told;

	count = engine_others(other, &ready);
	if (ready == 0 && engine_anybody_ready())
		engine_cut(); /* E2, whoever returns */
	/* While somebody can go on, time passing by is a preemption. */
	if (ready > 0 && run.preemptions == run.bound.preemptions &&
	    !run.replay)
		count = ready;
	if (count == 0)
		explore_fail("nobody can go on");
	if (run.replay) {
		told = engine_next_told('=');
		return told != NULL ? told->thread : other[0];
	}
	taken = engine_choose(count);
	if (taken >= ready && ready > 0)
		run.preemptions++;
	/* Always: a replay does not leave out what E2 leaves out. */
	engine_note('=', other[taken]);
	return other[taken];
}

static void
engine_count_step(void)
{
	if (++run.steps == ENGINE_STEPS)
		explore_fail("no end after %d steps", ENGINE_STEPS);
}

/* Leaves the calling thread before its step, or not. */
static void
engine_preempt(struct explore_thread *self)
{
	unsigned other[EXPLORE_THREADS], ready, to;
	unsigned count = engine_others(other, &ready);

	if (run.replay) {
		const struct engine_told *told = engine_next_told('>');

		if (told == NULL)
			return;
		to = told->thread;
	} else {
		unsigned taken;

		if (self->fresh || run.preemptions == run.bound.preemptions)
			return;
		taken = engine_choose(count + 1);
		if (taken == 0)
			return;
		to = other[taken - 1];
		engine_note('>', to);
	}
	run.preemptions++;
	self->set_aside = true;
	self->disturbed = false;
	engine_go_on(to);
}

void
engine_step(uintptr_t address, bool writes, const char *what)
{
	struct explore_thread *self = engine_self();

	engine_count_step();
	if (!engine_is_shared(address))
		return;
	run.points++;
	self->address = address;
	self->writes = writes;
	engine_preempt(self);
	self->fresh = false;
	if (what != NULL)
		engine_trace("%s", what);
}

/* What the buffer of a thread holds is part of its next step, which may send it
 * out. */
static bool
engine_would_notice(
    const struct explore_thread *thread, uintptr_t address, bool writes)
{
	if (thread->address == address && (writes || thread->writes))
		return true;
	for (unsigned i = 0; i < thread->buffered_count; i++)
		if (thread->buffered[i].address == address)
			return true;
	return false;
}

void
engine_disturb(uintptr_t address, bool writes)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++) {
		struct explore_thread *thread = &engine.thread[i];

		if (i != engine.current && thread->set_aside &&
		    !thread->disturbed &&
		    engine_would_notice(thread, address, writes))
			thread->disturbed = true;
	}
}

void
engine_block(void)
{
	struct explore_thread *self = engine_self();

	memory_drain(self);
	while (self->state != EXPLORE_READY)
		engine_go_on(engine_pick());
}

void
engine_yield(void)
{
	engine_count_step();
	memory_drain(engine_self());
	if (engine_anybody_ready())
		engine_go_on(engine_pick());
}

/* ---- threads ---------------------------------------------------------------- */

/* A thread that set itself aside is ready; one that is picked and is the caller
 * never happens: others are offered only. */
static void
engine_body(void)
{
	struct explore_thread *self = engine_self();
	unsigned index = engine.current;
	bool more = false;

	run.scenario->body[index]();
	if ((run.scenario->exits >> index & 1) != 0)
		system_exit();
	/* What it stored last may reach others later than its end does. */
	self->state = EXPLORE_DONE;
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		more |= engine.thread[i].state != EXPLORE_DONE;
	if (more)
		engine_go_on(engine_pick());
	else
		(void)setcontext(&run.main_context);
	abort();
}

/* getcontext() returns once; compilers believe that it may do so twice. */
static WEIRI_NOINLINE void
engine_begin_context(struct explore_thread *thread, char *stack)
{
	if (getcontext(&thread->context) != 0)
		abort();
	thread->context.uc_stack.ss_sp = stack;
	thread->context.uc_stack.ss_size = ENGINE_STACK_BYTES;
	thread->context.uc_link = NULL;
	makecontext(&thread->context, engine_body, 0);
}

static void
engine_begin_thread(struct explore_thread *thread, unsigned index)
{
	thread->state =
	    run.scenario->body[index] != NULL ? EXPLORE_READY : EXPLORE_DONE;
	thread->fresh = true;
	thread->set_aside = thread->timed_out = false;
	thread->address = 0;
	thread->buffered_count = 0;
	thread->sequential = 0;
	memset(&thread->clock, 0, sizeof(thread->clock));
	memset(&thread->released, 0, sizeof(thread->released));
	memset(&thread->seen, 0, sizeof(thread->seen));
	thread->clock.of[index] = 1;
	memcpy(thread->tls, run.tls[index], run.tls_bytes);
	engine_begin_context(thread, run.stacks + index * ENGINE_STACK_BYTES);
}

/* All threads to their end, unless the run ends in the middle. */
static void
engine_run_threads(void)
{
	engine.running = true;
	engine.current = EXPLORE_THREADS; /* nobody */

	unsigned first = engine_pick();

	engine.current = first;
	engine_load_tls(engine.thread[first].tls);
	if (swapcontext(&run.main_context, &engine.thread[first].context) != 0)
		abort();
}

static void
engine_one_run(void)
{
	run.depth = run.steps = run.points = 0;
	run.preemptions = run.stale = run.retold = 0;
	if (!run.replay)
		run.told_count = 0;
	run.failed = run.cut = run.learned = false;
	engine.now_ns = UINT64_C(1000000000);
	memory_begin_run();
	system_begin_run();
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		engine_begin_thread(&engine.thread[i], i);
	engine.recording = true;
	if (sigsetjmp(run.end, 1) == 0) {
		engine_run_threads();
		for (unsigned i = 0; i < EXPLORE_THREADS; i++)
			memory_drain(&engine.thread[i]);
		engine.running = false;
		engine_load_tls(run.tls_main);
		run.scenario->check();
	}
	engine.running = engine.recording = false;
	memory_undo();
	engine_load_tls(run.tls_main);
	run.result->runs += !run.cut && !run.failed;
	run.result->cut += run.cut;
	if (run.points > run.result->points)
		run.result->points = run.points;
}

/* ---- all runs ------------------------------------------------------------------ */

static void
engine_catch_signals(void)
{
	static char stack[64 << 10];
	stack_t own = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {
	    .sa_handler = engine_signal,
	    .sa_flags = SA_ONSTACK | SA_NODEFER,
	};

	(void)sigaltstack(&own, NULL);
	(void)sigaction(SIGSEGV, &action, NULL);
	(void)sigaction(SIGBUS, &action, NULL);
	(void)sigaction(SIGABRT, &action, NULL);
}

/* setup() and prepare(), each thread's with its own words. */
static void
engine_prepare(const struct explore_scenario *scenario)
{
	unsigned char fresh[EXPLORE_TLS_BYTES];

	run.tls_bytes = (size_t)(__stop_explore_tls - __start_explore_tls);
	if (run.tls_bytes > EXPLORE_TLS_BYTES) {
		fprintf(stderr, "explore: %zu bytes of thread-local words\n",
		    run.tls_bytes);
		exit(1);
	}
	engine_save_tls(fresh);
	scenario->setup();
	engine_save_tls(run.tls_main);
	for (unsigned i = 0; i < EXPLORE_THREADS; i++) {
		engine_load_tls(fresh);
		engine.current = i;
		if (scenario->prepare[i] != NULL)
			scenario->prepare[i]();
		engine_save_tls(run.tls[i]);
	}
	engine_load_tls(run.tls_main);
}

static void
engine_parse(const char *schedule)
{
	const char *c = schedule;

	run.replay = true;
	while (*c != '\0' && run.told_count < ENGINE_CHOICES) {
		struct engine_told *told = &run.told[run.told_count];
		char *end;

		told->step = (unsigned)strtoul(c, &end, 10);
		told->kind = *end;
		if (*end == '\0')
			return;
		told->thread = (unsigned)strtoul(end + 1, &end, 10);
		if (told->thread >= EXPLORE_THREADS)
			return;
		run.told_count++;
		c = *end == ',' ? end + 1 : end;
	}
}

void
explore_run(const struct explore_scenario *scenario,
    const struct explore_bound *bound, const char *mutant, const char *schedule,
    struct explore_result *result)
{
	memset(result, 0, sizeof(*result));
	run.scenario = scenario;
	run.bound = *bound;
	run.result = result;
	run.stacks =
	    explore_map(ENGINE_STACKS, EXPLORE_THREADS * ENGINE_STACK_BYTES);
	engine_catch_signals();
	memory_init();
	site_set_mutant(mutant);
	system_init();
	engine_prepare(scenario);
	if (schedule != NULL)
		engine_parse(schedule);
	do {
		engine_one_run();
		result->failed = run.failed;
		if (run.learned && !run.failed) {
			run.chosen = 0;
			result->runs = result->cut = result->stale = 0;
			result->points = 0;
			continue;
		}
	} while (
	    !run.failed && !run.replay && (run.learned || engine_advance()));
}
