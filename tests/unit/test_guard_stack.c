/* SPDX-License-Identifier: MIT */
/*
 * test_guard_stack.c - walks over stacks that are none, and a table of stacks
 * that is full.
 *
 * A report may come when memory is in ruins: a walk ends where a frame cannot be
 * one, and reads nothing that is not there.
 */
#include "test.h"

#include "guard/stack.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- walking ----------------------------------------------------------------- */

/* Frames one above the other, each with the return address 1000 + its number. */
struct chain {
	uintptr_t words[2 * 40];
};

static uintptr_t
chain_frame(const struct chain *chain, size_t i)
{
	return (uintptr_t)&chain->words[2 * i];
}

static void
chain_make(struct chain *chain, size_t count)
{
	memset(chain, 0, sizeof(*chain));
	for (size_t i = 0; i < count; i++) {
		chain->words[2 * i] = chain_frame(chain, i + 1);
		chain->words[2 * i + 1] = 1000 + i;
	}
}

/* How many frames a walk from the first one finds, which are all right. */
static uint32_t
walk(const struct chain *chain, uintptr_t pc)
{
	struct weiri_stack stack;
	uint32_t at = pc != 0;

	weiri_stack_from(
	    &stack, pc, chain_frame(chain, 0), chain_frame(chain, 0));
	if (pc != 0)
		CHECK_EQ(stack.frame[0], pc);
	for (uint32_t i = at; i < stack.count; i++)
		CHECK_EQ(stack.frame[i], 1000 + i - at);
	return stack.count - at;
}

static void
walk_chains(struct chain *chain)
{
	struct weiri_stack stack;

	chain_make(chain, 5);
	CHECK_EQ(walk(chain, 0), 5);
	CHECK_EQ(walk(chain, 77), 5);
	/* No more than are kept. */
	chain_make(chain, 39);
	CHECK_EQ(walk(chain, 0), WEIRI_STACK_FRAMES);
	CHECK_EQ(walk(chain, 77), WEIRI_STACK_FRAMES - 1);
	/* Down again, to itself, to nothing aligned, far above. */
	chain_make(chain, 5);
	chain->words[4] = chain_frame(chain, 1);
	CHECK_EQ(walk(chain, 0), 3);
	chain->words[4] = chain_frame(chain, 2);
	CHECK_EQ(walk(chain, 0), 3);
	chain->words[4] = chain_frame(chain, 3) + 1;
	CHECK_EQ(walk(chain, 0), 3);
	chain->words[4] = UINTPTR_MAX - 7;
	CHECK_EQ(walk(chain, 0), 3);
	/* The first frame is below where the stack is in use. */
	weiri_stack_from(
	    &stack, 9, chain_frame(chain, 0), chain_frame(chain, 1));
	CHECK_EQ(stack.count, 1);
}

TEST(walk_ends_where_a_frame_cannot_be_one)
{
	struct chain chain;

	(void)weiri_guard_thread();
	CHECK_GT(weiri_guard_self.high, 0);
	walk_chains(&chain);
}

/* Elsewhere the kernel reads, and a frame that is not there is none. */
TEST(walk_outside_of_the_threads_stack_asks_the_kernel)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct chain *last;

	CHECK(pages != MAP_FAILED);
	CHECK_EQ(mprotect(pages + page, page, PROT_NONE), 0);
	last = (struct chain *)(void *)(pages + page - sizeof(*last));
	(void)weiri_guard_thread();
	walk_chains(last);
	chain_make(last, 5);
	last->words[4] = (uintptr_t)pages + page;
	CHECK_EQ(walk(last, 0), 3);
	last->words[4] = (uintptr_t)pages + page - 8;
	CHECK_EQ(walk(last, 0), 3);
	CHECK_EQ(munmap(pages, 2 * page), 0);
}

/* A handler may be the first that asks, on a thread that never did. */
static void *
walk_unknown(void *argument)
{
	struct chain chain;

	(void)argument;
	CHECK(!weiri_guard_self.ready);
	walk_chains(&chain);
	weiri_guard_thread_forked();
	CHECK_EQ(weiri_guard_self.number, 0);
	(void)weiri_guard_thread();
	CHECK_NE(weiri_guard_self.number, 0);
	weiri_guard_self.high = 0; /* as where the system does not tell */
	walk_chains(&chain);
	return NULL;
}

TEST(walk_on_a_thread_whose_stack_is_not_known)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, walk_unknown, NULL), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ---- keeping --------------------------------------------------------------------- */

TEST(equal_stacks_are_kept_once_until_the_table_is_full)
{
	static uint32_t bucket[1];
	static uintptr_t word[16];
	struct weiri_sites sites = {.bucket = bucket,
	    .bucket_count = 1,
	    .word = word,
	    .word_count = 16};
	struct weiri_stack stack = {.count = 3, .frame = {1, 2, 3}};
	struct weiri_stack other = {.count = 3, .frame = {1, 2, 4}};
	struct weiri_stack brief = {.count = 2, .frame = {1, 2}};
	struct weiri_stack got;
	uint32_t first = weiri_sites_keep(&sites, &stack), second;

	CHECK_NE(first, 0);
	CHECK_EQ(weiri_sites_keep(&sites, &stack), first);
	second = weiri_sites_keep(&sites, &other);
	CHECK_NE(second, 0);
	CHECK_NE(second, first);
	CHECK_NE(weiri_sites_keep(&sites, &brief), 0);
	CHECK_EQ(weiri_sites_keep(&sites, &stack), first);
	brief.frame[0] = 9;
	CHECK_EQ(weiri_sites_keep(&sites, &brief), 0);
	weiri_sites_get(&sites, second, &got);
	CHECK_EQ(got.count, 3);
	CHECK_EQ(got.frame[2], 4);
	CHECK_EQ(weiri_sites_frames(&sites, first)[2], 3);
	/* What found no room is an empty stack. */
	weiri_sites_get(&sites, 0, &got);
	CHECK_EQ(got.count, 0);
	CHECK_NULL(weiri_sites_frames(&sites, 0));
}

enum { THREADS = 4, STACKS = 400 };

static struct weiri_sites shared_sites;

static void
keep_many(unsigned index, void *context)
{
	(void)index;
	(void)context;
	for (uintptr_t i = 0; i < STACKS; i++) {
		struct weiri_stack stack = {.count = 2, .frame = {i, i + 1}};
		struct weiri_stack got;
		uint32_t site = weiri_sites_keep(&shared_sites, &stack);

		CHECK_NE(site, 0);
		weiri_sites_get(&shared_sites, site, &got);
		CHECK_EQ(got.count, 2);
		CHECK_EQ(got.frame[0], i);
		CHECK_EQ(got.frame[1], i + 1);
	}
}

/* Two that keep the same stack at once may keep it twice. */
TEST(stacks_of_threads_that_keep_at_once_are_whole)
{
	enum { WORDS = THREADS * STACKS * 4 + 1 };
	static uint32_t bucket[8];

	shared_sites = (struct weiri_sites){.bucket = bucket,
	    .bucket_count = 8,
	    .word = calloc(WORDS, sizeof(uintptr_t)),
	    .word_count = WORDS};
	CHECK_NOT_NULL(shared_sites.word);
	test_threads(THREADS, keep_many, NULL);
	CHECK_GE(shared_sites.used, STACKS * 4);
	free(shared_sites.word);
}
