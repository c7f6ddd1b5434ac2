/* SPDX-License-Identifier: MIT */
/*
 * Threads, signal handlers and processes on one bounded pool.  Objects carry
 * their holder's mark, so that one handed out twice is seen at once.
 *
 * A handler on top of an interrupted call is tried at every instruction of the
 * call, where the processor can stop after each (x86), and by timers elsewhere
 * and under threads.
 */
#include "support/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <weir/bounded.h>

enum { WORKERS = 4, HELD = 16, MAILBOXES = 8 };

struct mark {
	uint64_t owner;
	uint64_t body[6];
};

static struct weir_bounded *
bounded_of(void *storage, size_t bytes, size_t count)
{
	struct weir_bounded_config config = {
	    .object_bytes = sizeof(struct mark), .object_count = count};
	struct weir_bounded *pool;

	CHECK_EQ(
	    weir_bounded_init(storage, bytes, "torture", &config, &pool), 0);
	return pool;
}

static void
mark_set(struct mark *mark, uint64_t owner)
{
	mark->owner = owner;
	for (size_t i = 0; i < 6; i++)
		mark->body[i] = owner + i;
}

static void
mark_expect(const struct mark *mark, uint64_t owner)
{
	CHECK_EQ(mark->owner, owner);
	for (size_t i = 0; i < 6; i++)
		CHECK_EQ(mark->body[i], owner + i);
}

static uint64_t
failures_of(const struct weir_bounded *pool)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_bounded_stats(pool, &stats), 0);
	return stats.failures;
}

/* ---- threads ------------------------------------------------------------- */

struct crowd {
	struct weir_bounded *pool;
	uint64_t seed, failures;
	size_t steps;
	uint32_t mailbox[MAILBOXES]; /* index + 1, exchanged atomically */
};

struct worker {
	struct crowd *crowd;
	struct test_rng rng;
	uint64_t serial, failures;
	struct {
		struct mark *mark;
		uint64_t owner;
	} held[HELD];
};

static void
worker_drop(struct worker *worker, size_t slot)
{
	if (worker->held[slot].mark == NULL)
		return;
	mark_expect(worker->held[slot].mark, worker->held[slot].owner);
	weir_bounded_free(worker->crowd->pool, worker->held[slot].mark);
	worker->held[slot].mark = NULL;
}

static void
worker_keep(struct worker *worker, size_t slot, struct mark *mark)
{
	worker_drop(worker, slot);
	worker->held[slot].mark = mark;
	worker->held[slot].owner = worker->serial++;
	mark_set(mark, worker->held[slot].owner);
}

static void
worker_take(struct worker *worker)
{
	struct weir_bounded *pool = worker->crowd->pool;
	size_t slot = test_rand_below(&worker->rng, HELD);
	struct mark *mark = test_rand_below(&worker->rng, 2)
				? weir_bounded_alloc(pool)
				: weir_bounded_alloc_hint(pool, worker->serial);

	if (mark != NULL)
		worker_keep(worker, slot, mark);
	else
		worker->failures++;
}

static void
worker_batch(struct worker *worker)
{
	void *object[6];
	size_t want = 1 + test_rand_below(&worker->rng, 6);
	size_t got =
	    weir_bounded_alloc_batch(worker->crowd->pool, object, want);

	worker->failures += got < want;
	for (size_t i = 0; i < got; i++)
		mark_set(object[i], worker->serial + i);
	for (size_t i = 0; i < got; i++)
		mark_expect(object[i], worker->serial + i);
	worker->serial += got;
	weir_bounded_free_batch(worker->crowd->pool, object, got);
}

/* Leaves an object for whoever comes next, and takes over what was left. */
static void
worker_trade(struct worker *worker)
{
	struct weir_bounded *pool = worker->crowd->pool;
	size_t slot = test_rand_below(&worker->rng, HELD);
	uint32_t give = 0;

	if (worker->held[slot].mark != NULL) {
		mark_expect(worker->held[slot].mark, worker->held[slot].owner);
		give = (uint32_t)weir_bounded_index(
			   pool, worker->held[slot].mark) +
		       1;
		worker->held[slot].mark = NULL;
	}

	uint32_t got = __atomic_exchange_n(
	    &worker->crowd->mailbox[test_rand_below(&worker->rng, MAILBOXES)],
	    give, __ATOMIC_ACQ_REL);

	if (got > 0) {
		struct mark *mark = weir_bounded_object(pool, got - 1);

		/* Whose it was is in it, whole. */
		mark_expect(mark, mark->owner);
		worker_keep(worker, slot, mark);
	}
}

static void
worker_step(struct worker *worker)
{
	switch (test_rand_below(&worker->rng, 8)) {
	case 0:
	case 1:
	case 2:
		worker_take(worker);
		break;
	case 3:
		worker_batch(worker);
		break;
	case 4:
		worker_trade(worker);
		break;
	default:
		worker_drop(worker, test_rand_below(&worker->rng, HELD));
	}
}

static void
worker_start(struct worker *worker, struct crowd *crowd, unsigned index)
{
	memset(worker, 0, sizeof(*worker));
	worker->crowd = crowd;
	worker->serial = (uint64_t)(index + 1) << 40;
	test_rng_init(&worker->rng, crowd->seed + index);
}

static void
worker_run(unsigned index, void *context)
{
	struct crowd *crowd = context;
	struct worker worker;

	worker_start(&worker, crowd, index);
	for (size_t i = 0; i < crowd->steps; i++)
		worker_step(&worker);
	for (size_t i = 0; i < HELD; i++)
		worker_drop(&worker, i);
	__atomic_add_fetch(&crowd->failures, worker.failures, __ATOMIC_RELAXED);
}

static void
mailboxes_empty(struct crowd *crowd)
{
	for (size_t i = 0; i < MAILBOXES; i++) {
		uint32_t got = __atomic_exchange_n(
		    &crowd->mailbox[i], 0, __ATOMIC_ACQ_REL);

		if (got > 0)
			weir_bounded_free(crowd->pool,
			    weir_bounded_object(crowd->pool, got - 1));
	}
}

static _Alignas(64) unsigned char thread_storage[WEIR_BOUNDED_BYTES(
    sizeof(struct mark), 0, 1024, 0)];

static uint64_t
crowd_run(size_t count)
{
	struct crowd crowd = {.seed = test_seed(), .steps = test_count(150000)};

	crowd.pool = bounded_of(thread_storage, sizeof(thread_storage), count);
	test_threads(WORKERS, worker_run, &crowd);
	CHECK(weir_bounded_check(crowd.pool));
	mailboxes_empty(&crowd);
	CHECK_EQ(weir_bounded_in_use(crowd.pool), 0);
	CHECK_EQ(failures_of(crowd.pool), crowd.failures);
	for (size_t i = 0; i < count; i++)
		CHECK_NOT_NULL(weir_bounded_alloc(crowd.pool));
	CHECK_NULL(weir_bounded_alloc(crowd.pool));
	return crowd.failures;
}

TEST(bounded_threads_never_share_an_object_when_there_are_too_few)
{
	CHECK_GT(crowd_run(20), 0);
	CHECK_GT(crowd_run(3), 0);
	CHECK_GT(crowd_run(1), 0);
}

/* At most 4 x (16 + 1 + 6) + 8 objects are out, so 156 of 256 are free all the
 * time, in 3 words of 8 at least: to fail, a call would have to lose 6 races. */
TEST(bounded_threads_are_not_told_empty_when_there_is_plenty)
{
	CHECK_EQ(crowd_run(256), 0);
	CHECK_EQ(crowd_run(1024), 0);
}

/* ---- a handler on top of every instruction --------------------------------- */

enum act { TAKE, TAKE_AND_GIVE, GIVE, TAKE_BATCH, GIVE_BATCH, ACTS };

struct scene {
	struct weir_bounded *pool;
	enum act act;    /* of the handler */
	size_t at;       /* which step it acts on */
	size_t steps;    /* seen so far */
	void *object[2]; /* what it holds */
	size_t held;     /* how many */
	size_t wanted;   /* how many it wanted */
	bool has_acted;
};

static struct scene scene;

static size_t
act_run(enum act act, void **object, size_t held)
{
	struct weir_bounded *pool = scene.pool;

	switch (act) {
	case TAKE:
		object[held] = weir_bounded_alloc_hint(pool, 5);
		return held + (object[held] != NULL);
	case TAKE_AND_GIVE:
		weir_bounded_free(pool, weir_bounded_alloc_hint(pool, 5));
		return held;
	case GIVE:
		if (held > 0)
			weir_bounded_free(pool, object[--held]);
		return held;
	case TAKE_BATCH:
		return held +
		       weir_bounded_alloc_batch(pool, object + held, 2 - held);
	case GIVE_BATCH:
		weir_bounded_free_batch(pool, object, held);
		return 0;
	case ACTS:
		break;
	}
	return held;
}

static size_t
act_holds_before(enum act act)
{
	return act == GIVE ? 1 : act == GIVE_BATCH ? 2 : 0;
}

/* What it takes, and what of that it keeps. */
static size_t
act_takes(enum act act)
{
	return act == TAKE_BATCH ? 2 : act == TAKE || act == TAKE_AND_GIVE;
}

static size_t
act_wants(enum act act)
{
	return act == TAKE_AND_GIVE ? 0 : act_takes(act);
}

static void
scene_handle(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	if (scene.steps++ != scene.at)
		return;
	scene.held = act_run(scene.act, scene.object, scene.held);
	scene.has_acted = true;
#if defined(__x86_64__)
	/* The rest of the call at full speed. */
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100ll;
#else
	(void)context;
#endif
}

/* Nothing lost, nothing doubled, nobody refused who need not be. */
static void
scene_judge(size_t count, enum act act, void **object, size_t held)
{
	size_t before = act_holds_before(act) + act_holds_before(scene.act);
	size_t want = act_wants(act) + act_wants(scene.act);
	void *all[4];
	size_t total = 0;

	for (size_t i = 0; i < held; i++)
		all[total++] = object[i];
	for (size_t i = 0; i < scene.held; i++)
		all[total++] = scene.object[i];
	for (size_t i = 0; i < total; i++)
		for (size_t j = 0; j < i; j++)
			CHECK(all[i] != all[j]);
	CHECK_EQ(weir_bounded_in_use(scene.pool), total);
	CHECK(weir_bounded_check(scene.pool));
	/* With room for both, what the handler takes away from under the call
	 * is no reason to fail: something else is free all the time. */
	if (count >= before + act_takes(act) + act_takes(scene.act))
		CHECK_EQ(total, want);
	/* Two that want the last objects, to keep them, get all of them. */
	if (want > count && act_wants(act) > 0 && act_wants(scene.act) > 0)
		CHECK_EQ(total, count);
}

/* One call with the handler's act on top of step @at; false past its end. */
static bool
scene_play(size_t count, enum act act, enum act on_top, size_t at)
{
	void *object[2];
	size_t held = act_holds_before(act);

	memset(&scene, 0, sizeof(scene));
	scene.pool = bounded_of(thread_storage, sizeof(thread_storage), count);
	scene.act = on_top;
	scene.at = at;
	scene.held = act_holds_before(on_top);
	for (size_t i = 0; i < held; i++)
		CHECK_NOT_NULL(object[i] = weir_bounded_alloc(scene.pool));
	for (size_t i = 0; i < scene.held; i++)
		CHECK_NOT_NULL(
		    scene.object[i] = weir_bounded_alloc(scene.pool));
#if defined(__x86_64__)
	/* The trap flag: SIGTRAP after each instruction, not in the handler. */
	__builtin_ia32_writeeflags_u64(
	    __builtin_ia32_readeflags_u64() | UINT64_C(0x100));
	held = act_run(act, object, held);
	__builtin_ia32_writeeflags_u64(
	    __builtin_ia32_readeflags_u64() & ~UINT64_C(0x100));
#endif
	if (scene.has_acted)
		scene_judge(count, act, object, held);
	return scene.has_acted;
}

/* As scene_play() for each step of the call; how many it has. */
static size_t
scene_play_all(size_t count, enum act act, enum act on_top)
{
	size_t at = 0;

	if (act_holds_before(act) + act_holds_before(on_top) > count)
		return 0;
	while (scene_play(count, act, on_top, at))
		at++;
	/* Less than any of the calls has: the steps would not be seen. */
	CHECK_GT(at, 15);
	return at;
}

TEST(bounded_handler_may_run_on_top_of_every_instruction)
{
	struct sigaction action = {
	    .sa_sigaction = scene_handle, .sa_flags = SA_SIGINFO};
	size_t steps = 0;

#if !defined(__x86_64__)
	SKIP("needs a trap flag");
#endif
	if (TEST_ASAN || TEST_TSAN || test_under_valgrind())
		SKIP("the tool has instructions of its own");
	CHECK_EQ(sigaction(SIGTRAP, &action, NULL), 0);
	/* The only object; as many as both want; room to spare; two words. */
	for (enum act act = TAKE; act < ACTS; act++)
		if (act_holds_before(act) < 2)
			steps += scene_play_all(1, act, TAKE);
	steps += scene_play_all(2, TAKE, TAKE);
	steps += scene_play_all(2, TAKE, GIVE);
	steps += scene_play_all(2, GIVE, GIVE);
	steps += scene_play_all(4, TAKE_BATCH, TAKE_BATCH);
	steps += scene_play_all(4, GIVE_BATCH, GIVE_BATCH);
	steps += scene_play_all(9, TAKE, TAKE);
	CHECK_GT(steps, 500);
}

/* ---- handlers under threads ------------------------------------------------ */

static struct weir_bounded *signal_pool;
static size_t signal_count, signal_took;
static bool signal_done;

/* On top of whatever its thread was doing in the same pool. */
static void
signal_handle(int signal)
{
	void *object[3];
	size_t got = weir_bounded_alloc_batch(signal_pool, object, 2);
	uint64_t owner = (uint64_t)(uintptr_t)object;

	(void)signal;
	object[got] = weir_bounded_alloc(signal_pool);
	got += object[got] != NULL;
	for (size_t i = 0; i < got; i++)
		mark_set(object[i], owner + i);
	for (size_t i = 0; i < got; i++) {
		mark_expect(object[i], owner + i);
		weir_bounded_free(signal_pool, object[i]);
	}
	__atomic_add_fetch(&signal_count, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&signal_took, got, __ATOMIC_RELAXED);
}

static void *
signal_send(void *argument)
{
	const pthread_t *thread = argument;

	while (!__atomic_load_n(&signal_done, __ATOMIC_ACQUIRE)) {
		for (size_t i = 0; i < 2; i++)
			pthread_kill(thread[i], SIGUSR1);
		usleep(20);
	}
	return NULL;
}

static void *
signal_work(void *argument)
{
	struct worker worker;
	unsigned index = argument == NULL;

	worker_start(&worker,
	    &(struct crowd){.pool = signal_pool, .seed = test_seed()}, index);

	uint64_t end = test_now_ns() + (uint64_t)(4e8 * test_scale());

	while (test_now_ns() < end)
		for (size_t i = 0; i < 100; i++) {
			worker_take(&worker);
			worker_batch(&worker);
			worker_drop(
			    &worker, test_rand_below(&worker.rng, HELD));
		}
	/* The thread must outlive the signals sent to it. */
	while (!__atomic_load_n(&signal_done, __ATOMIC_ACQUIRE))
		usleep(100);
	for (size_t i = 0; i < HELD; i++)
		worker_drop(&worker, i);
	return NULL;
}

TEST(bounded_handlers_take_and_give_while_threads_do)
{
	struct sigaction action = {
	    .sa_handler = signal_handle, .sa_flags = SA_RESTART};
	pthread_t thread[2], sender;

	signal_pool = bounded_of(thread_storage, sizeof(thread_storage), 24);
	CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	CHECK_EQ(pthread_create(&thread[0], NULL, signal_work, NULL), 0);
	CHECK_EQ(pthread_create(&thread[1], NULL, signal_work, thread), 0);
	CHECK_EQ(pthread_create(&sender, NULL, signal_send, thread), 0);
	usleep((useconds_t)(4e5 * test_scale()));
	__atomic_store_n(&signal_done, true, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_join(sender, NULL), 0);
	for (size_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
	CHECK_GT(signal_count, 0);
	CHECK_GT(signal_took, 0);
	CHECK_EQ(weir_bounded_in_use(signal_pool), 0);
	CHECK(weir_bounded_check(signal_pool));
}

/* ---- processes ------------------------------------------------------------- */

struct shared {
	uint32_t mailbox[MAILBOXES];
	uint64_t child_steps;
};

enum { SHARED_OBJECTS = 64, SHARED_BYTES = 32768 };

static void *
shared_map(int fd)
{
	void *map =
	    mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(map != MAP_FAILED);
	return map;
}

/* One process: the crowd's mailboxes are those in shared memory. */
static void
shared_steps(struct worker *worker, struct shared *shared, size_t steps)
{
	for (size_t i = 0; i < steps; i++) {
		size_t box = test_rand_below(&worker->rng, MAILBOXES);

		/* Move a letter between the shared box and the own one. */
		worker->crowd->mailbox[box] =
		    __atomic_exchange_n(&shared->mailbox[box],
			worker->crowd->mailbox[box], __ATOMIC_ACQ_REL);
		worker_step(worker);
	}
}

static _Noreturn void
shared_child(int fd, const void *parents_map)
{
	unsigned char *map = shared_map(fd);
	struct shared *shared =
	    (void *)(map + SHARED_BYTES - sizeof(struct shared));
	struct crowd crowd = {.seed = test_seed() + 99};
	struct worker worker;

	/* A test that fails leaves no process behind. */
	CHECK_EQ(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
	CHECK(map != parents_map);
	CHECK_EQ(weir_bounded_attach(map, SHARED_BYTES, &crowd.pool), 0);
	worker_start(&worker, &crowd, 7);
	for (;;) {
		shared_steps(&worker, shared, 50);
		__atomic_add_fetch(&shared->child_steps, 50, __ATOMIC_RELEASE);
	}
}

TEST(bounded_processes_share_and_survive_each_others_death)
{
	int fd = memfd_create("bounded", 0);
	struct crowd crowd = {.seed = test_seed()};
	struct worker worker;
	int status;

	CHECK_GE(fd, 0);
	CHECK_EQ(ftruncate(fd, SHARED_BYTES), 0);

	unsigned char *map = shared_map(fd);
	struct shared *shared =
	    (void *)(map + SHARED_BYTES - sizeof(struct shared));

	crowd.pool = bounded_of(
	    map, SHARED_BYTES - sizeof(struct shared), SHARED_OBJECTS);
	worker_start(&worker, &crowd, 0);
	for (size_t round = 0; round < 5; round++) {
		uint64_t begun =
		    __atomic_load_n(&shared->child_steps, __ATOMIC_ACQUIRE);
		pid_t child = fork();

		CHECK_GE(child, 0);
		if (child == 0)
			shared_child(fd, map);
		while (__atomic_load_n(&shared->child_steps, __ATOMIC_ACQUIRE) <
		       begun + 3000)
			shared_steps(&worker, shared, 50);
		CHECK_EQ(kill(child, SIGKILL), 0);
		shared_steps(&worker, shared, 500);
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFSIGNALED(status));

		for (size_t i = 0; i < HELD; i++)
			worker_drop(&worker, i);
		mailboxes_empty(&crowd);
		memcpy(crowd.mailbox, shared->mailbox, sizeof(crowd.mailbox));
		memset(shared->mailbox, 0, sizeof(shared->mailbox));
		mailboxes_empty(&crowd);
		/* What the child held stays out: its hands, its boxes, and what
		 * it was in the middle of. */
		CHECK(weir_bounded_check(crowd.pool));
		CHECK_LE(weir_bounded_in_use(crowd.pool), HELD + MAILBOXES + 8);
		/* The survivor may take stock and put it right. */
		for (size_t i = 0; i < SHARED_OBJECTS; i++)
			(void)!weir_bounded_try_free(
			    crowd.pool, weir_bounded_object(crowd.pool, i));
		CHECK_EQ(weir_bounded_in_use(crowd.pool), 0);
	}
	weir_bounded_finish(crowd.pool);
	close(fd);
}
