/* SPDX-License-Identifier: MIT */
/*
 * work.c - what tests draw, how much of it they do, and on how many threads.
 */
#include "test.h"

#include "config/config.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- random numbers ---------------------------------------------------- */

static uint64_t
splitmix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* xoshiro256**, by Blackman and Vigna, who placed it in the public domain. */
void
test_rng_init(struct test_rng *rng, uint64_t seed)
{
	for (size_t i = 0; i < 4; i++)
		rng->state[i] = splitmix(&seed);
}

static uint64_t
rotate(uint64_t value, unsigned bits)
{
	return value << bits | value >> (64 - bits);
}

uint64_t
test_rand(struct test_rng *rng)
{
	uint64_t *s = rng->state;
	uint64_t result = rotate(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

uint64_t
test_rand_below(struct test_rng *rng, uint64_t bound)
{
	/* Values under 2^64 mod bound would make small results likelier. */
	uint64_t unfair = (0 - bound) % bound;
	uint64_t value;

	do
		value = test_rand(rng);
	while (value < unfair);
	return value % bound;
}

/* ---- how much to do ------------------------------------------------------ */

bool
test_under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

bool
test_under_guard(void)
{
	const struct weiri_guard_option *guard;

	/* Asked for, the library starts; tests may want that later. */
	if (getenv("WEIR_GUARD") == NULL)
		return false;
	guard = weiri_config_guard();
	return guard->mode != WEIR_GUARD_OFF;
}

bool
test_env_set(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' && strcmp(value, "0") != 0;
}

double
test_scale(void)
{
	double scale = 1;

	if (test_env_set("WEIR_TEST_QUICK"))
		scale = 0.1;
	else if (test_env_set("WEIR_TEST_LONG"))
		scale = 10;
	if (test_under_valgrind())
		scale *= 0.1;
	else if (TEST_ASAN || TEST_TSAN)
		scale /= 3;
	return scale;
}

size_t
test_count(size_t count)
{
	double scaled = (double)count * test_scale();

	return scaled < 1 ? 1 : (size_t)scaled;
}

/* ---- threads ------------------------------------------------------------- */

struct thread_start {
	pthread_t thread;
	unsigned index;
	void (*run)(unsigned index, void *context);
	void *context;
	pthread_barrier_t *gate;
};

static void *
thread_main(void *argument)
{
	struct thread_start *start = argument;

	pthread_barrier_wait(start->gate);
	start->run(start->index, start->context);
	return NULL;
}

void
test_threads(
    unsigned count, void (*run)(unsigned index, void *context), void *context)
{
	struct thread_start *threads;
	pthread_barrier_t gate;

	CHECK(count > 0);
	threads = calloc(count, sizeof(*threads));
	CHECK(threads != NULL);
	CHECK(pthread_barrier_init(&gate, NULL, count) == 0);
	for (unsigned i = 0; i < count; i++) {
		threads[i] = (struct thread_start){
		    .index = i, .run = run, .context = context, .gate = &gate};
		CHECK(pthread_create(&threads[i].thread, NULL, thread_main,
			  &threads[i]) == 0);
	}
	for (unsigned i = 0; i < count; i++)
		CHECK(pthread_join(threads[i].thread, NULL) == 0);
	pthread_barrier_destroy(&gate);
	free(threads);
}
