/* SPDX-License-Identifier: MIT */
/*
 * test.h - the test runner of weir.
 *
 *     TEST(cache_free_on_other_thread_returns_to_owner)
 *     {
 *             CHECK_EQ(weir_cache_create(&cache, "conn", &config), 0);
 *             ...
 *     }
 *
 * A file of tests is a program: each TEST registers itself before main(), and
 * main() is in the support library.  Every test runs in a process of its own,
 * so a crash, a hang or a leak spoils one test and no other.  A check that
 * fails in the test, in any of its threads or in any process it forked ends
 * that process and fails the test.
 *
 * `program --help` lists what a program takes.  Environment: WEIR_TEST_SEED
 * repeats a random run, WEIR_TEST_QUICK=1 and WEIR_TEST_LONG=1 scale counts.
 */
#ifndef WEIR_TEST_H
#define WEIR_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#endif
#ifndef TEST_ASAN
#define TEST_ASAN 0 /* 1 when built with AddressSanitizer */
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0 /* 1 when built with ThreadSanitizer */
#endif

/* ---- tests ------------------------------------------------------------- */

struct test_case {
	const char *name;
	void (*run)(void);
	unsigned limit_s; /* before test_scale() and slow tools stretch it */
	struct test_case *next;
};

void test_register(struct test_case *test);

/* TEST_LIMIT(name, seconds) { ... } - a test with a time limit of its own. */
#define TEST_LIMIT(test_name, seconds)                                      \
	static void test_run_##test_name(void);                             \
	__attribute__((constructor)) static void test_add_##test_name(void) \
	{                                                                   \
		static struct test_case test = {                            \
		    .name = #test_name,                                     \
		    .run = test_run_##test_name,                            \
		    .limit_s = (seconds),                                   \
		};                                                          \
		test_register(&test);                                       \
	}                                                                   \
	static void test_run_##test_name(void)

/* TEST(name) { ... } - a test that must end within a minute. */
#define TEST(test_name) TEST_LIMIT(test_name, 60)

/* ---- checks ------------------------------------------------------------ */

/* Ends this process and fails the test; any thread, any descendant. */
_Noreturn void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));
_Noreturn void test_skip(const char *format, ...)
    __attribute__((format(printf, 1, 2), cold));

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define SKIP(...) test_skip(__VA_ARGS__)

#define CHECK(condition)                                       \
	do {                                                   \
		if (__builtin_expect(!(condition), 0))         \
			test_fail(__FILE__, __LINE__, "%s",    \
			    "CHECK(" #condition ") is false"); \
	} while (0)

/* An integer of any type, so that -1 and UINT64_MAX stay different. */
struct test_number {
	uint64_t bits;
	bool negative;
};

static inline struct test_number
test_signed(long long value)
{
	return (struct test_number){(uint64_t)value, value < 0};
}

static inline struct test_number
test_unsigned(unsigned long long value)
{
	return (struct test_number){value, false};
}

/* The unary plus promotes, which leaves six types to name. */
/* clang-format off */
#define TEST_NUMBER(value)                      \
	_Generic(+(value),                      \
	    int: test_signed,                   \
	    long: test_signed,                  \
	    long long: test_signed,             \
	    unsigned: test_unsigned,            \
	    unsigned long: test_unsigned,       \
	    unsigned long long: test_unsigned)(value)
/* clang-format on */

/* -1, 0 or 1, as strcmp(). */
static inline int
test_order(struct test_number a, struct test_number b)
{
	if (a.negative != b.negative)
		return a.negative ? -1 : 1;
	return a.bits < b.bits ? -1 : a.bits > b.bits;
}

_Noreturn void test_fail_order(const char *file, int line, const char *claim,
    struct test_number a, struct test_number b) __attribute__((cold));

#define TEST_ORDER(a, relation, b)                                      \
	do {                                                            \
		struct test_number test_a_ = TEST_NUMBER(a);            \
		struct test_number test_b_ = TEST_NUMBER(b);            \
		if (__builtin_expect(                                   \
			!(test_order(test_a_, test_b_) relation 0), 0)) \
			test_fail_order(__FILE__, __LINE__,             \
			    #a " " #relation " " #b, test_a_, test_b_); \
	} while (0)

/* Integers of any types, compared by value. */
#define CHECK_EQ(a, b) TEST_ORDER(a, ==, b)
#define CHECK_NE(a, b) TEST_ORDER(a, !=, b)
#define CHECK_LT(a, b) TEST_ORDER(a, <, b)
#define CHECK_LE(a, b) TEST_ORDER(a, <=, b)
#define CHECK_GT(a, b) TEST_ORDER(a, >, b)
#define CHECK_GE(a, b) TEST_ORDER(a, >=, b)

void test_check_pointer(const char *file, int line, const char *claim,
    const void *a, const void *b, bool equal);
void test_check_string(const char *file, int line, const char *claim,
    const char *a, const char *b);
void test_check_contains(const char *file, int line, const char *claim,
    const char *text, const char *part);
void test_check_memory(const char *file, int line, const char *claim,
    const void *a, const void *b, size_t bytes);

#define CHECK_PTR(a, b) \
	test_check_pointer(__FILE__, __LINE__, #a " == " #b, a, b, true)
#define CHECK_NULL(a) \
	test_check_pointer(__FILE__, __LINE__, #a " == NULL", a, NULL, true)
#define CHECK_NOT_NULL(a) \
	test_check_pointer(__FILE__, __LINE__, #a " != NULL", a, NULL, false)
/* Equal strings; NULL equals only NULL. */
#define CHECK_STR(a, b) \
	test_check_string(__FILE__, __LINE__, #a " == " #b, a, b)
#define CHECK_CONTAINS(text, part) \
	test_check_contains(__FILE__, __LINE__, #text, text, part)
#define CHECK_MEM(a, b, bytes) \
	test_check_memory(__FILE__, __LINE__, #a " == " #b, a, b, bytes)

/* ---- code that must die ------------------------------------------------ */

struct test_death {
	int pid;
	int output; /* read end of the child's standard error */
};

bool test_death_begin(struct test_death *death);
_Noreturn void test_death_survived(void);
void test_death_end(
    struct test_death *death, const char *file, int line, const char *message);

/*
 * EXPECT_ABORT(message, { code }) - the code must end by SIGABRT and standard
 * error must hold the message, letter for letter.  It runs in a forked child,
 * so it sees the caller's state and leaves it as it was.
 */
#define EXPECT_ABORT(message, ...)                                         \
	do {                                                               \
		struct test_death test_death_;                             \
		if (test_death_begin(&test_death_)) {                      \
			__VA_ARGS__;                                       \
			test_death_survived();                             \
		}                                                          \
		test_death_end(&test_death_, __FILE__, __LINE__, message); \
	} while (0)

/* ---- random numbers, sizes, threads ------------------------------------ */

struct test_rng {
	uint64_t state[4];
};

/* The seed of this run; the first call in a test prints it. */
uint64_t test_seed(void);

void test_rng_init(struct test_rng *rng, uint64_t seed);
uint64_t test_rand(struct test_rng *rng);

/* Even over 0 .. bound - 1; bound > 0. */
uint64_t test_rand_below(struct test_rng *rng, uint64_t bound);

/* Is the variable in the environment, neither empty nor 0? */
bool test_env_set(const char *name);

/*
 * How much work to do: 1 in a normal run, 0.1 with --quick, 10 with --long,
 * and a tenth of that under valgrind, a third under a sanitizer.
 */
double test_scale(void);

/* A count scaled by test_scale(), at least 1. */
size_t test_count(size_t count);

/* Runs `run` on `count` threads at once, index 0 .. count - 1; joins them. */
void test_threads(
    unsigned count, void (*run)(unsigned index, void *context), void *context);

bool test_under_valgrind(void);

/* May objects be under guard from the start: is WEIR_GUARD other than off? */
bool test_under_guard(void);

/* For what cannot hold then. */
#define NOT_UNDER_GUARD(reason)                       \
	do {                                          \
		if (test_under_guard())               \
			SKIP("under guard: " reason); \
	} while (0)

/* The path of this program, for a test that starts it once more. */
const char *test_program(void);

/* Nanoseconds of the monotonic clock. */
uint64_t test_now_ns(void);

#endif /* WEIR_TEST_H */
