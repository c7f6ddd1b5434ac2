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
 *       it.  That is another run, with no more preemptions, so this one ends.
 *   E3  A thread is not left before its first step: whoever came here might have
 *       gone to the other one at once.  (Not who had to let others go first.)
 *   E4  A state that a run with no more preemptions and no more older values got
 *       to before (graph.c): what could follow, followed there.
 *
 * Nothing is lost by the four together.  With plain accesses free of races, which
 * memory.c makes sure of, all runs of one execution graph end alike.  Take the runs
 * of one graph that are within the bounds, and of them that with the fewest
 * preemptions, then the fewest older values, then the first in the order of the
 * walk.  Each rule ends a run only where it names another of the same graph that
 * has no more of either and comes first in this order: E2 one that went on where
 * this left; E3 one with a preemption less; E4 the older run's beginning with this
 * one's rest.  So this one is ended by none of them.  `explore --compare` counts
 * that: with all rules but E1 switched off, a walk ends in the same states.
 *
 * A failure is told as a list of choices, each with the number of the step: "12>1"
 * left for thread 1 before step 12, "30=2" went on with thread 2 where the other
 * could not, "31~1" read the value before the newest.
 */
#define _GNU_SOURCE
/* Its longjmp() knows one stack. */
#undef _FORTIFY_SOURCE
#include "base/compiler.h"
#include "engine.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define ENGINE_STACK_BYTES ((size_t)128 << 10)
/* Addresses are the same each time, since some code looks at them. */
#define ENGINE_STACKS ((uintptr_t)0x100000000000)
/* A run this long goes round in a circle. */
#define ENGINE_STEPS 20000

struct explore_engine engine;

extern unsigned char __start_explore_tls[], __stop_explore_tls[];

static struct {
	const struct explore_scenario *scenario;
	struct explore_bound bound;
	struct explore_result *result;
	char *stacks;
	ucontext_t main_context;
	jmp_buf begin[EXPLORE_THREADS]; /* of a body */
	jmp_buf end;

	unsigned steps, points, preemptions, stale;
	bool failed, cut, replay;
	bool learned; /* of a shared word */
	size_t tls_bytes;
	unsigned char tls[EXPLORE_THREADS][EXPLORE_TLS_BYTES]; /* prepared */
	unsigned char tls_main[EXPLORE_TLS_BYTES];
} run;

/* ---- the end of a run ----------------------------------------------------- */

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
	schedule_tell(run.result->schedule, sizeof(run.result->schedule));
	engine_trace("FAILED: %s", run.result->why);
	_longjmp(run.end, 1);
}

static void
engine_cut(void)
{
	run.cut = true;
	_longjmp(run.end, 1);
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

unsigned
engine_choose_older(unsigned count)
{
	unsigned older;

	if (run.replay)
		return schedule_is_told(run.steps, '~', &older) && older < count
			   ? older
			   : 0;
	if (count <= 1 || run.stale == run.bound.stale)
		return 0;
	older = schedule_choose(count);
	if (older > 0) {
		schedule_note(run.steps, '~', older);
		run.stale++;
		run.result->stale++;
	}
	return older;
}

unsigned
explore_index(void)
{
	return engine.current;
}

void
engine_share(uintptr_t address)
{
	if (schedule_share(address))
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
	if (_setjmp(self->context) == 0)
		_longjmp(engine_self()->context, 1);
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
	thread->graph = graph_mix(thread->graph, engine.now_ns);
	engine_disturb_all();
}

static bool
engine_returns(const struct explore_thread *thread)
{
	return !thread->set_aside || thread->disturbed || engine.full ||
	       run.replay;
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

			if (pass == 0 ? i != engine.current &&
					    thread->state == EXPLORE_READY &&
					    engine_returns(thread)
				      : timed)
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

/* E4.  Only where this run is beyond what it has in common with the last. */
static bool
engine_was_here(uint64_t how)
{
	return !engine.full && !run.replay && schedule_is_new() &&
	       graph_was_here(how, run.preemptions, run.stale);
}

/* Where the calling thread cannot go on, or lets others go on. */
static unsigned
engine_pick(void)
{
	unsigned other[EXPLORE_THREADS], ready, count, taken, told;
	bool yields = engine.current < EXPLORE_THREADS &&
		      engine_self()->state == EXPLORE_READY;

	if (engine_was_here(EXPLORE_THREADS * (1 + (unsigned)yields) +
			    (yields ? engine.current : 0)))
		engine_cut();
	count = engine_others(other, &ready);
	/* While somebody can go on, time passing by is a preemption. */
	if (engine_anybody_ready() && !run.replay &&
	    run.preemptions == run.bound.preemptions)
		count = ready;
	if (count == 0 && engine_anybody_ready())
		engine_cut(); /* E2, whoever returns */
	if (count == 0)
		explore_fail("nobody can go on");
	if (run.replay)
		return schedule_is_told(run.steps, '=', &told) ? told
							       : other[0];
	taken = schedule_choose(count);
	if (taken >= ready && engine_anybody_ready())
		run.preemptions++;
	/* Always: a replay does not leave out what E2 leaves out. */
	schedule_note(run.steps, '=', other[taken]);
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
	unsigned other[EXPLORE_THREADS], ready, count, to;

	if (run.replay) {
		if (!schedule_is_told(run.steps, '>', &to))
			return;
	} else {
		unsigned taken;

		if (self->fresh && !engine.full)
			return; /* E3 */
		if (engine_was_here(engine.current))
			engine_cut();
		if (run.preemptions == run.bound.preemptions)
			return;
		count = engine_others(other, &ready);
		taken = schedule_choose(count + 1);
		if (taken == 0)
			return;
		to = other[taken - 1];
		schedule_note(run.steps, '>', to);
	}
	run.preemptions++;
	self->set_aside = true;
	self->disturbed = false;
	engine_go_on(to);
}

void
engine_step(struct explore_step next, const char *what)
{
	struct explore_thread *self = engine_self();

	engine_count_step();
	if (!engine_is_shared(next.address))
		return;
	run.points++;
	self->next = next;
	engine_preempt(self);
	self->fresh = false;
	if (what != NULL)
		engine_trace("%s", what);
}

static bool
engine_meets(const struct explore_step *a, const struct explore_step *b)
{
	if (a->address == b->address)
		return a->writes || b->writes;
	return (a->address == EXPLORE_FENCES && b->sequential) ||
	       (b->address == EXPLORE_FENCES && a->sequential);
}

void
engine_disturb(struct explore_step step)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		if (i != engine.current &&
		    engine_meets(&engine.thread[i].next, &step))
			engine.thread[i].disturbed = true;
}

void
engine_disturb_all(void)
{
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		engine.thread[i].disturbed = true;
}

void
engine_block(void)
{
	struct explore_thread *self = engine_self();

	while (self->state != EXPLORE_READY)
		engine_go_on(engine_pick());
}

void
engine_yield(void)
{
	unsigned to;

	engine_count_step();
	if (!engine_anybody_ready())
		return;
	to = engine_pick();
	/* E3 is not for who comes next: this thread could not stay. */
	engine.thread[to].fresh = false;
	engine_go_on(to);
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
	self->state = EXPLORE_DONE;
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		more |= engine.thread[i].state != EXPLORE_DONE;
	if (more)
		engine_go_on(engine_pick());
	else
		_longjmp(run.end, 2);
}

/* The first frame of a thread's stack.  Each run jumps into it anew, whatever
 * became of the frames above it in the last. */
static void
engine_first_frame(void)
{
	if (_setjmp(run.begin[engine.current]) != 0) {
		engine_body();
		abort();
	}
	(void)setcontext(&run.main_context);
}

/* getcontext() returns once; compilers believe that it may do so twice. */
static WEIRI_NOINLINE void
engine_begin_stack(unsigned index)
{
	static ucontext_t context;

	if (getcontext(&context) != 0)
		abort();
	context.uc_stack.ss_sp = run.stacks + index * ENGINE_STACK_BYTES;
	context.uc_stack.ss_size = ENGINE_STACK_BYTES;
	context.uc_link = NULL;
	makecontext(&context, engine_first_frame, 0);
	engine.current = index;
	if (swapcontext(&run.main_context, &context) != 0)
		abort();
}

static void
engine_begin_thread(struct explore_thread *thread, unsigned index)
{
	thread->state =
	    run.scenario->body[index] != NULL ? EXPLORE_READY : EXPLORE_DONE;
	thread->fresh = true;
	thread->set_aside = thread->disturbed = thread->timed_out = false;
	thread->wants = NULL;
	memset(&thread->next, 0, sizeof(thread->next));
	memset(&thread->view, 0, sizeof(thread->view));
	memset(&thread->released, 0, sizeof(thread->released));
	memset(&thread->read, 0, sizeof(thread->read));
	thread->view.before.of[index] = thread->view.seen.of[index] = 1;
	thread->graph = index;
	memcpy(thread->tls, run.tls[index], run.tls_bytes);
	memcpy(thread->context, run.begin[index], sizeof(thread->context));
}

/* All threads to their end, which jumps to run.end. */
static _Noreturn void
engine_run_threads(void)
{
	engine.running = true;
	engine.current = EXPLORE_THREADS; /* nobody */

	unsigned first = engine_pick();

	engine.current = first;
	engine_load_tls(engine.thread[first].tls);
	_longjmp(engine.thread[first].context, 1);
}

static void
engine_begin_run(void)
{
	run.steps = run.points = run.preemptions = run.stale = 0;
	schedule_begin_run();
	run.failed = run.cut = run.learned = false;
	engine.now_ns = UINT64_C(1000000000);
	memory_begin_run();
	history_begin_run();
	system_begin_run();
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		engine_begin_thread(&engine.thread[i], i);
	engine.recording = true;
}

static void
engine_one_run(void)
{
	int end;

	engine_begin_run();
	end = _setjmp(run.end);
	if (end == 0)
		engine_run_threads();
	if (end == 2) {
		graph_end();
		engine.running = false;
		engine_load_tls(run.tls_main);
		if (run.scenario->check != NULL && _setjmp(run.end) == 0)
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

/* A run that finds a word shared is for nothing, and so are those before it. */
static void
engine_forget(struct explore_result *result)
{
	schedule_restart();
	memset(result, 0, sizeof(*result));
	graph_forget();
}

static void
engine_walk(struct explore_result *result)
{
	do {
		engine_one_run();
		if (run.learned)
			engine_forget(result);
		result->failed = run.failed && !run.learned;
	} while (!result->failed && !run.replay &&
		 (run.learned || schedule_advance()));
}

/* The outcomes that a run told of are those that are to be. */
static void
engine_judge_outcomes(struct explore_result *result)
{
	const char *expected = run.scenario->outcomes;
	char found[EXPLORE_OUTCOMES * 4 + 1] = "";
	size_t at = 0;

	if (expected == NULL || result->failed || run.replay)
		return;
	for (unsigned i = 0; i < EXPLORE_OUTCOMES; i++)
		if ((result->outcomes >> i & 1) != 0 && at + 4 < sizeof(found))
			at += (size_t)snprintf(found + at, sizeof(found) - at,
			    at > 0 ? " %u%u%u" : "%u%u%u", i >> 4, i >> 2 & 3,
			    i & 3);
	if (strcmp(found, expected) == 0)
		return;
	result->failed = true;
	(void)snprintf(result->why, sizeof(result->why),
	    "outcomes are %.200s, not %.200s", found, expected);
}

void
explore_outcome(unsigned a, unsigned b, unsigned c)
{
	run.result->outcomes |= UINT64_C(1)
				<< ((a & 3) << 4 | (b & 3) << 2 | (c & 3));
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
	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		engine_begin_stack(i);
	engine.current = EXPLORE_THREADS;
	run.replay = schedule != NULL;
	if (run.replay)
		schedule_replay(schedule);
	engine_walk(result);
	graph_count(result);
	engine_judge_outcomes(result);
}
