/* SPDX-License-Identifier: MIT */
/*
 * test_start_refused.c - a process that may not have what the library would like
 * to start with: a key for the state of its threads, handlers for fork and for
 * faults, a thread of its own, memory of the sort it was told to use.
 *
 * Pools work all the same, slower; what a program ought to know is in a message.
 */
#include "test.h"

#include "refuse.h"

#include <weir/weir.h>

#include "pages/pages.h"
#include "slab/local.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 700 };

static unsigned warnings, errors;
static char said[512];

static void
note_message(enum weir_message_level level, const char *line, void *context)
{
	(void)context;
	warnings += level == WEIR_MESSAGE_WARNING;
	errors += level == WEIR_MESSAGE_ERROR;
	strncpy(said, line, sizeof(said) - 1);
}

/* ---- all pools, in little ------------------------------------------------- */

static void
count_object(void *object, void *context)
{
	(void)object;
	++*(size_t *)context;
}

static void
count_end(void *object, void *context)
{
	(void)object;
	--*(size_t *)context;
}

static bool
see_object(void *object, void *context)
{
	CHECK_EQ(*(unsigned char *)object, 0x5a);
	++*(size_t *)context;
	return true;
}

static void
told(struct weir_cache *cache, void *context)
{
	(void)cache;
	++*(unsigned *)context;
}

static void
use_objects(struct weir_cache *cache, bool handles)
{
	static void *object[COUNT];
	size_t count = weir_cache_alloc_bulk(cache, COUNT / 2, object), seen;

	CHECK_EQ(count, COUNT / 2);
	for (; count < COUNT; count++) {
		object[count] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object[count]);
	}
	for (size_t i = 0; i < COUNT; i++)
		memset(object[i], 0x5a, 100);
	seen = 0;
	CHECK_EQ(weir_cache_for_each(cache, see_object, &seen), COUNT);
	CHECK_EQ(seen, COUNT);
	if (handles) {
		struct weir_handle handle = weir_cache_handle(cache, object[3]);

		CHECK_PTR(weir_cache_resolve(cache, handle), object[3]);
		weir_cache_free(cache, object[3]);
		CHECK_NULL(weir_cache_resolve(cache, handle));
		object[3] = weir_cache_alloc(cache);
		CHECK_NOT_NULL(object[3]);
	}
	weir_cache_free_bulk(cache, COUNT / 3, object);
	(void)weir_cache_trim(cache);
	CHECK(weir_cache_check(cache));
	(void)weir_maintain(UINT64_MAX);
	for (size_t i = COUNT / 3; i < COUNT; i++)
		weir_cache_free(cache, object[i]);
	CHECK(weir_cache_check(cache));
}

static void
use_cache(const struct weir_cache_config *config)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	struct weir_cache *cache;

	CHECK_EQ(weir_cache_create("used", config, &cache), 0);
	use_objects(cache, (config->flags & WEIR_CACHE_HANDLES) != 0);
	CHECK_EQ(weir_cache_stats(cache, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	CHECK_GE(stats.in_use_peak, COUNT);
	weir_cache_destroy(cache);
}

static void
use_caches(void)
{
	size_t made = 0;
	unsigned notified = 0;
	const struct weir_cache_config config[] = {
	    {.object_bytes = 100},
	    {.object_bytes = 100, .check = WEIR_CHECK_BATCH},
	    {.object_bytes = 100, .flags = WEIR_CACHE_HANDLES},
	    {.object_bytes = 104,
		.init = count_object,
		.fini = count_end,
		.context = &made,
		.prealloc = 50},
	    {.object_bytes = 100,
		.limit = COUNT,
		.policy = WEIR_LIMIT_WAIT,
		.timeout_ns = 1},
	    {.object_bytes = 100,
		.limit = COUNT + 1,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify = told,
		.notify_context = &notified},
	};

	for (size_t i = 0; i < sizeof(config) / sizeof(config[0]); i++)
		use_cache(&config[i]);
	CHECK_EQ(made, 0);
}

static void
use_heap(void)
{
	struct weir_heap *heap;

	CHECK_EQ(weir_heap_create("used", NULL, &heap), 0);
	for (size_t bytes = 1; bytes < 3 << 20; bytes = bytes * 5 / 2 + 1) {
		char *object = weir_heap_alloc(heap, bytes);

		CHECK_NOT_NULL(object);
		memset(object, 0x5a, bytes);
		object = weir_heap_realloc(heap, object, bytes * 2);
		CHECK_NOT_NULL(object);
		CHECK_EQ(object[bytes - 1], 0x5a);
		weir_heap_free(heap, object);
	}
	CHECK(weir_heap_check(heap));
	weir_heap_destroy(heap);
}

static void
use_regions(void)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("used");
	struct weir_region *root, *below;
	struct weir_region_vm *vm;

	CHECK_EQ(weir_region_create(&kind, NULL, &root), 0);
	CHECK_EQ(weir_region_create(&kind,
		     &(struct weir_region_config){.parent = root}, &below),
	    0);
	for (size_t i = 1; i < 200; i++) {
		CHECK_NOT_NULL(weir_region_alloc(root, i * 9));
		CHECK_NOT_NULL(weir_region_alloc(below, i * 700));
	}
	CHECK(weir_region_check(root));
	weir_region_reset(below);
	weir_region_destroy(root);
	CHECK_EQ(
	    weir_region_vm_create("used",
		&(struct weir_region_vm_config){.reserve_bytes = 1 << 24}, &vm),
	    0);
	for (size_t i = 1; i < 200; i++)
		CHECK_NOT_NULL(weir_region_vm_alloc(vm, i * 30));
	CHECK(weir_region_vm_check(vm));
	weir_region_vm_destroy(vm);
}

static void
use_buffers(void)
{
	struct weir_buffer *buffer[60];
	struct weir_buffer_pool *pool;

	CHECK_EQ(weir_buffer_pool_create("used", NULL, &pool), 0);
	for (size_t i = 0; i < 60; i++) {
		buffer[i] = weir_buffer_acquire(pool, i * 900 + 1);
		CHECK_NOT_NULL(buffer[i]);
		memset(buffer[i]->data, 0x5a, i * 900 + 1);
	}
	for (size_t i = 0; i < 60; i++)
		weir_buffer_release(buffer[i]);
	CHECK(weir_buffer_pool_check(pool));
	weir_buffer_pool_destroy(pool);
}

static void
use_everything(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};
	char text[4096];

	use_caches();
	use_heap();
	use_regions();
	use_buffers();
	CHECK_GT(weir_stats_text_verbose(text, sizeof(text)), 0);
	(void)weir_trim();
	CHECK(weiri_pages_check());
	CHECK_EQ(weir_stats_read(&stats), 0);
	CHECK_EQ(stats.bytes_charged,
	    stats.bytes_in_spans + stats.bytes_retained + stats.bytes_metadata);
}

static void
start(struct weir_config config)
{
	config.flags |= WEIR_IGNORE_ENVIRONMENT;
	config.message = note_message;
	CHECK_EQ(weir_init(&config), 0);
}

/* ---- threads without a state ------------------------------------------------ */

static void
use_in_thread(unsigned index, void *context)
{
	(void)index;
	(void)context;
	CHECK_PTR(weiri_local(), &weiri_local_none);
	use_heap();
	use_regions();
	use_buffers();
}

TEST(process_without_a_key_for_its_threads_has_pools)
{
	NOT_UNDER_GUARD("a thread without a state is looked for");
	test_refuse(TEST_CALL_KEY, 0, 1, EAGAIN);
	use_everything();
	CHECK_EQ(test_refused(TEST_CALL_KEY), 1);
	CHECK_PTR(weiri_local(), &weiri_local_none);
	test_threads(3, use_in_thread, NULL);
	use_everything();
}

TEST(process_without_a_key_guards_its_objects)
{
	NOT_UNDER_GUARD("it is set here");
	if (test_under_valgrind())
		SKIP("valgrind takes a minute over the guard's places");
	test_refuse(TEST_CALL_KEY, 0, 1, EAGAIN);
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
	use_everything();
	CHECK_EQ(weir_guard_set(&(struct weir_guard_config){
		     .mode = WEIR_GUARD_SAMPLE, .sample_rate = 3}),
	    0);
	use_everything();
	CHECK_EQ(weir_guard_set(NULL), 0);
	use_everything();
}

/* The state is asked for again until there is room for it. */
TEST(thread_that_gets_no_state_gets_one_later)
{
	NOT_UNDER_GUARD("objects under guard need no state");

	struct weir_cache *cache;
	void *object;

	CHECK_EQ(weir_cache_create("later",
		     &(struct weir_cache_config){.object_bytes = 64}, &cache),
	    0);
	test_refuse(TEST_CALL_SETSPECIFIC, 0, 1, ENOMEM);
	object = weir_cache_alloc(cache);
	CHECK_NOT_NULL(object);
	CHECK_EQ(test_refused(TEST_CALL_SETSPECIFIC), 1);
	weir_cache_free(cache, object);
	object = weir_cache_alloc(cache);
	CHECK_NOT_NULL(object);
	CHECK(weiri_local() != &weiri_local_none);
	weir_cache_free(cache, object);
	CHECK(weir_cache_check(cache));
	weir_cache_destroy(cache);
}

/* Of regions it is not known whose they are. */
TEST(regions_of_threads_without_a_state_are_anybodys)
{
	NOT_UNDER_GUARD("a thread without a state is looked for");
	static struct weir_region_kind kind = WEIR_REGION_KIND("anybody");
	struct weir_region *region, *below;

	test_refuse(TEST_CALL_KEY, 0, 1, EAGAIN);
	CHECK_EQ(weir_region_create(&kind, NULL, &region), 0);
	CHECK_PTR(weiri_local(), &weiri_local_none);
	CHECK_EQ(weir_region_create(&kind,
		     &(struct weir_region_config){.parent = region}, &below),
	    0);
	CHECK_NOT_NULL(weir_region_alloc(below, 100000));
	weir_region_hand_off(below);
	weir_region_take_over(below);
	CHECK(weir_region_check(region));
	weir_region_destroy(region);
}

static struct weir_region *shared_region;
static struct weir_region_vm *shared_vm;

/* What one made, another one uses: it is not known that they are two. */
static void *
use_as_another(void *argument)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("below");
	struct weir_region *below;

	(void)argument;
	CHECK_EQ(
	    weir_region_create(&kind,
		&(struct weir_region_config){.parent = shared_region}, &below),
	    0);
	CHECK_NOT_NULL(weir_region_alloc(below, 50000));
	CHECK_NOT_NULL(weir_region_alloc(shared_region, 50000));
	CHECK_NOT_NULL(weir_region_vm_alloc(shared_vm, 50000));
	weir_region_vm_reset(shared_vm);
	CHECK(weir_region_check(shared_region));
	CHECK(weir_region_vm_check(shared_vm));
	return NULL;
}

static void
make_shared(void)
{
	CHECK_EQ(weir_region_create(NULL, NULL, &shared_region), 0);
	CHECK_EQ(weir_region_vm_create("shared",
		     &(struct weir_region_vm_config){.reserve_bytes = 1 << 20},
		     &shared_vm),
	    0);
}

TEST(regions_go_between_threads_with_and_without_a_state)
{
	NOT_UNDER_GUARD("a thread without a state is looked for");

	pthread_t thread;

	/* Made by one without, used by one with. */
	test_refuse(TEST_CALL_SETSPECIFIC, 0, UINT32_MAX, ENOMEM);
	make_shared();
	CHECK_PTR(weiri_local(), &weiri_local_none);
	test_refuse(TEST_CALL_SETSPECIFIC, 0, 0, 0);
	use_caches();
	CHECK(weiri_local() != &weiri_local_none);
	(void)use_as_another(NULL);
	weir_region_vm_destroy(shared_vm);
	weir_region_destroy(shared_region);
	/* Made by one with, used by one without. */
	make_shared();
	test_refuse(TEST_CALL_SETSPECIFIC, 0, UINT32_MAX, ENOMEM);
	CHECK_EQ(pthread_create(&thread, NULL, use_as_another, NULL), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	test_refuse(TEST_CALL_SETSPECIFIC, 0, 0, 0);
	weir_region_vm_destroy(shared_vm);
	weir_region_destroy(shared_region);
}

/* ---- handlers and threads ---------------------------------------------------- */

TEST(process_without_fork_handlers_is_told_and_goes_on)
{
	int ends[2], saved = dup(STDERR_FILENO);
	char got[256] = "";

	CHECK_EQ(pipe(ends), 0);
	CHECK_GE(dup2(ends[1], STDERR_FILENO), 0);
	test_refuse(TEST_CALL_ATFORK, 0, 1, ENOMEM);
	start((struct weir_config){0});
	use_everything();
	CHECK_EQ(test_refused(TEST_CALL_ATFORK), 1);
	CHECK_GE(dup2(saved, STDERR_FILENO), 0);
	CHECK_GT(read(ends[0], got, sizeof(got) - 1), 0);
	CHECK_CONTAINS(got, "no fork handlers for want of memory");
}

TEST(process_without_a_thread_for_maintenance_is_told)
{
	test_refuse(TEST_CALL_THREAD, 0, 1, EAGAIN);
	start((struct weir_config){.maintain_ms = 1000});
	use_heap();
	CHECK_EQ(test_refused(TEST_CALL_THREAD), 1);
	CHECK_EQ(warnings, 1);
	CHECK_CONTAINS(said, "the system gives no thread for maintain_ms");
	test_refuse(TEST_CALL_THREAD, 0, 1, EAGAIN);
	CHECK_EQ(weir_maintain_start(1000), -EAGAIN);
	CHECK_EQ(weir_maintain_start(1000), 0);
	CHECK_EQ(weir_maintain_start(1000), -EALREADY);
	weir_maintain_stop();
	weir_maintain_stop();
	CHECK_EQ(errors, 0);
}

static unsigned stops;

/* A hook that runs on the helper must not wait for it. */
static void
stop_from_within(void *object, void *context)
{
	(void)object;
	if (pthread_equal(pthread_self(), *(pthread_t *)context))
		return;
	weir_maintain_stop();
	__atomic_fetch_add(&stops, 1, __ATOMIC_RELAXED);
}

static void
nothing(void *object, void *context)
{
	(void)object;
	(void)context;
}

TEST(helper_that_is_told_to_stop_by_its_own_hook_goes_on)
{
	NOT_UNDER_GUARD("idle objects do not end");

	struct weir_cache *cache;
	pthread_t own = pthread_self();

	start((struct weir_config){
	    .maintain_ms = 1, .decay_ms = WEIR_DECAY_AT_ONCE});
	CHECK_EQ(weir_cache_create("idle",
		     &(struct weir_cache_config){.object_bytes = 1000,
			 .init = nothing,
			 .fini = stop_from_within,
			 .context = &own},
		     &cache),
	    0);
	/* Now and then an object, which then idles. */
	for (uint64_t end = test_now_ns() + UINT64_C(20000000000), turn = 0;
	     __atomic_load_n(&stops, __ATOMIC_RELAXED) == 0 &&
	     test_now_ns() < end;
	     turn++) {
		if (turn % 100 == 0)
			weir_cache_free(cache, weir_cache_alloc(cache));
		weir_thread_poll();
		usleep(200);
	}
	CHECK_GT(__atomic_load_n(&stops, __ATOMIC_RELAXED), 0);
	CHECK_EQ(weir_maintain_start(1000), -EALREADY);
	weir_maintain_stop();
	weir_cache_destroy(cache);
}

/* Longer than nanoseconds can be counted. */
TEST(decay_of_a_thousand_years_is_one_that_does_not_come)
{
	weir_set_decay(UINT64_MAX / 1000);
	use_caches();
	(void)weir_maintain(UINT64_MAX);
	CHECK(!weir_maintain(UINT64_MAX));
}

/* Without a handler objects are guarded; an access that traps is the system's
 * to tell. */
TEST(guard_without_a_handler_still_looks_at_what_ends)
{
	NOT_UNDER_GUARD("it is set here");
	if (test_under_valgrind())
		SKIP("valgrind takes a minute over the guard's places");
	test_refuse(TEST_CALL_SIGACTION, 0, 1, EINVAL);
	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
	CHECK_EQ(test_refused(TEST_CALL_SIGACTION), 1);
	use_everything();
	EXPECT_ABORT("double-free", {
		struct weir_heap *heap;
		void *object;

		CHECK_EQ(weir_heap_create("twice", NULL, &heap), 0);
		object = weir_heap_alloc(heap, 100);
		weir_heap_free(heap, object);
		weir_heap_free(heap, object);
	});
}

/* ---- reports -------------------------------------------------------------------- */

/* Twice, and what is said of it. */
static void
expect_double_free(struct weir_heap *heap, void *object, const char *part)
{
	EXPECT_ABORT(part, {
		weir_heap_free(heap, object);
		weir_heap_free(heap, object);
	});
}

/* With one object under guard, of which nothing else is known. */
static void
expect_reports(void)
{
	struct weir_heap *heap;
	void *object;

	CHECK_EQ(weir_guard_set(
		     &(struct weir_guard_config){.mode = WEIR_GUARD_FULL}),
	    0);
	CHECK_EQ(weir_heap_create("told", NULL, &heap), 0);
	object = weir_heap_alloc(heap, 100);
	CHECK_NOT_NULL(object);
	warnings = 0;
	CHECK_EQ(weir_guard_leaks(WEIR_LEAKS_ALL, NULL, NULL), 1);
	CHECK_GT(warnings, 0);
	expect_double_free(heap, object, "double-free: heap \"told\"");
	/* Files can be opened again; which build they are of is not known. */
	test_refuse(TEST_CALL_OPEN, 0, 0, 0);
	expect_double_free(heap, object, "{\"weir\":\"fault\",\"class\":");
	weir_heap_free(heap, object);
	weir_heap_destroy(heap);
}

TEST(report_without_files_says_what_else_there_is)
{
	NOT_UNDER_GUARD("it is set here");
	if (test_under_valgrind())
		SKIP("valgrind takes a minute over the guard's places");
	test_refuse(TEST_CALL_OPEN, 0, UINT32_MAX, EMFILE);
	test_refuse(TEST_CALL_PEEK, 0, UINT32_MAX, ENOSYS);
	start((struct weir_config){0});
	expect_reports();
}

TEST(report_of_a_thread_whose_stack_is_not_known_has_no_frames)
{
	NOT_UNDER_GUARD("it is set here");
	if (test_under_valgrind())
		SKIP("valgrind takes a minute over the guard's places");
	test_refuse(TEST_CALL_GETATTR, 0, UINT32_MAX, ENOMEM);
	test_refuse(TEST_CALL_PEEK, 0, UINT32_MAX, ENOSYS);
	start((struct weir_config){0});
	expect_reports();
}

/* ---- sources ------------------------------------------------------------------- */

static void
start_source(enum weir_source_kind kind, unsigned flags)
{
	start((struct weir_config){.source = {.kind = kind, .flags = flags}});
}

TEST(huge_pages_that_there_are_are_used)
{
	test_grant_huge_pages();
	start_source(WEIR_SOURCE_HUGE, 0);
	use_heap();
	use_regions();
	CHECK(weiri_pages_check());
	CHECK_EQ(warnings, 0);
	CHECK_EQ(errors, 0);
}

TEST(memory_that_cannot_be_locked_or_brought_in_is_used_and_told)
{
	test_refuse(TEST_CALL_MLOCK, 0, UINT32_MAX, EPERM);
	start_source(WEIR_SOURCE_ANONYMOUS, WEIR_SOURCE_LOCK);
	use_heap();
	CHECK_GT(test_refused(TEST_CALL_MLOCK), 0);
	CHECK_EQ(warnings, 1);
	CHECK_CONTAINS(said, "memory could not be locked");
	use_everything();
	CHECK_EQ(warnings, 1);
}

TEST(memory_that_cannot_be_brought_in_comes_when_it_is_touched)
{
	test_refuse(TEST_CALL_MADVISE, 0, UINT32_MAX, EFAULT);
	start_source(WEIR_SOURCE_ANONYMOUS, WEIR_SOURCE_PREFAULT);
	use_heap();
	CHECK_EQ(warnings, 1);
	CHECK_CONTAINS(said, "memory could not be brought in ahead");
}

/* Each call that makes a block of memory files, refused in its turn. */
TEST(memory_files_that_are_refused_are_memory_that_is)
{
	static const enum test_call calls[] = {TEST_CALL_MEMFD,
	    TEST_CALL_FTRUNCATE, TEST_CALL_MMAP, TEST_CALL_MPROTECT};
	const size_t bytes = 80 << 20;

	start_source(WEIR_SOURCE_MEMFD, 0);
	use_everything();
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		for (unsigned after = 0; after < 4; after++) {
			struct weiri_span span = {.kind = WEIRI_SPAN_OTHER};

			test_refuse(calls[i], after, 1, ENOMEM);
			if (weiri_span_alloc(&span, bytes, WEIRI_PAGE) == 0) {
				span.base[0] = span.base[bytes - 1] = 1;
				weiri_span_free(&span);
			}
			test_refuse(calls[i], 0, UINT32_MAX, ENOMEM);
			CHECK_EQ(weiri_span_alloc(&span, bytes, WEIRI_PAGE),
			    -ENOMEM);
			test_refuse(calls[i], 0, 0, 0);
			(void)weir_trim();
			CHECK(weiri_pages_check());
		}
	use_everything();
}
