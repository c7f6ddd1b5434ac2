/* SPDX-License-Identifier: MIT */
/*
 * calls.c - the hot calls of caches and heaps, each from a function of its own.
 *
 * run.sh counts the instructions under callgrind and tells the calls apart by
 * the function they are made from, so each case below has a pair of them.  They
 * run where a server is most of the time: the thread's magazine is neither empty
 * nor full.
 *
 * Compiled three times: against the static library, against the shared one, and
 * with BUDGET_DLOPEN, where the library is loaded by name (argument 1) and every
 * call goes through a pointer.
 */
#include <weir/cache.h>
#include <weir/handle.h>
#include <weir/heap.h>

/* The function: what a constant size comes to is a case of its own. */
#undef weir_alloc

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* run.sh divides by these. */
#define ROUNDS 1000

#define ALONE __attribute__((noinline))

/* No instruction; functions that differ in nothing else are made one. */
#define DIFFERENT(name) __asm__ volatile("# " #name)

#ifdef BUDGET_DLOPEN
#define CALL(name) (*budget_##name)
static __typeof__(weir_cache_create) *budget_weir_cache_create;
static __typeof__(weir_cache_alloc) *budget_weir_cache_alloc;
static __typeof__(weir_cache_free) *budget_weir_cache_free;
static __typeof__(weir_cache_stats) *budget_weir_cache_stats;
static __typeof__(weir_cache_alloc_bulk) *budget_weir_cache_alloc_bulk;
static __typeof__(weir_cache_free_bulk) *budget_weir_cache_free_bulk;
static __typeof__(weir_cache_handle) *budget_weir_cache_handle;
static __typeof__(weir_cache_resolve) *budget_weir_cache_resolve;
static __typeof__(weir_heap_create) *budget_weir_heap_create;
static __typeof__(weir_heap_set_default) *budget_weir_heap_set_default;
static __typeof__(weir_heap_alloc) *budget_weir_heap_alloc;
static __typeof__(weir_heap_free) *budget_weir_heap_free;
static __typeof__(weir_alloc) *budget_weir_alloc;
static __typeof__(weir_alloc_class) *budget_weir_alloc_class;
static __typeof__(weir_free) *budget_weir_free;
static __typeof__(weir_free_sized) *budget_weir_free_sized;

static void
budget_find(void *library, const char *name, void *pointer)
{
	*(void **)pointer = dlsym(library, name);
	if (*(void **)pointer == NULL) {
		fprintf(stderr, "calls: %s\n", dlerror());
		exit(1);
	}
}

static void
budget_load(const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL) {
		fprintf(stderr, "calls: %s\n", dlerror());
		exit(1);
	}
#define FIND(name) budget_find(library, #name, &budget_##name)
	FIND(weir_cache_create);
	FIND(weir_cache_alloc);
	FIND(weir_cache_free);
	FIND(weir_cache_stats);
	FIND(weir_cache_alloc_bulk);
	FIND(weir_cache_free_bulk);
	FIND(weir_cache_handle);
	FIND(weir_cache_resolve);
	FIND(weir_heap_create);
	FIND(weir_heap_set_default);
	FIND(weir_heap_alloc);
	FIND(weir_heap_free);
	FIND(weir_alloc);
	FIND(weir_alloc_class);
	FIND(weir_free);
	FIND(weir_free_sized);
#undef FIND
}
#else
#define CALL(name) name
#endif

/* ---- one function for each case -------------------------------------------- */

#define CASE(name)                                                            \
	ALONE static void *name##_alloc(struct weir_cache *cache)             \
	{                                                                     \
		void *object;                                                 \
                                                                              \
		DIFFERENT(name##_alloc);                                      \
		object = CALL(weir_cache_alloc)(cache);                       \
		__asm__ volatile("" : "+r"(object));                          \
		return object;                                                \
	}                                                                     \
	ALONE static void name##_free(struct weir_cache *cache, void *object) \
	{                                                                     \
		CALL(weir_cache_free)(cache, object);                         \
		DIFFERENT(name##_free);                                       \
	}

CASE(batch)
CASE(word)
CASE(table)
CASE(byte)
CASE(handles)

#define BULK(name, count)                                                   \
	ALONE static void name##_alloc(                                     \
	    struct weir_cache *cache, void **objects)                       \
	{                                                                   \
		if (CALL(weir_cache_alloc_bulk)(cache, (count), objects) != \
		    (count))                                                \
			abort();                                            \
		DIFFERENT(name##_alloc);                                    \
	}                                                                   \
	ALONE static void name##_free(                                      \
	    struct weir_cache *cache, void **objects)                       \
	{                                                                   \
		CALL(weir_cache_free_bulk)(cache, (count), objects);        \
		DIFFERENT(name##_free);                                     \
	}

BULK(batch8, 8)
BULK(batch32, 32)
BULK(batch126, 126)
BULK(word8, 8)
BULK(word32, 32)
BULK(word126, 126)

ALONE static struct weir_handle
handles_make(struct weir_cache *cache, void *object)
{
	return CALL(weir_cache_handle)(cache, object);
}

ALONE static void *
handles_good(struct weir_cache *cache, struct weir_handle handle)
{
	DIFFERENT(good);
	return CALL(weir_cache_resolve)(cache, handle);
}

ALONE static void *
handles_stale(struct weir_cache *cache, struct weir_handle handle)
{
	DIFFERENT(stale);
	return CALL(weir_cache_resolve)(cache, handle);
}

/* Each of a heap's calls twice: to be counted, and from elsewhere.  An argument
 * without a use would give the function another name. */
#define HEAP(name, alloc, free)                                   \
	ALONE static void *name##_alloc(size_t bytes)             \
	{                                                         \
		void *object;                                     \
                                                                  \
		__asm__ volatile("" : : "r"(bytes));              \
		DIFFERENT(name##_alloc);                          \
		object = (alloc);                                 \
		__asm__ volatile("" : "+r"(object));              \
		return object;                                    \
	}                                                         \
	ALONE static void *name##_take(size_t bytes)              \
	{                                                         \
		void *object;                                     \
                                                                  \
		__asm__ volatile("" : : "r"(bytes));              \
		DIFFERENT(name##_take);                           \
		object = (alloc);                                 \
		__asm__ volatile("" : "+r"(object));              \
		return object;                                    \
	}                                                         \
	ALONE static void name##_free(void *object, size_t bytes) \
	{                                                         \
		__asm__ volatile("" : : "r"(bytes));              \
		(free);                                           \
		DIFFERENT(name##_free);                           \
	}                                                         \
	ALONE static void name##_give(void *object, size_t bytes) \
	{                                                         \
		__asm__ volatile("" : : "r"(bytes));              \
		(free);                                           \
		DIFFERENT(name##_give);                           \
	}

static struct weir_heap *budget_heap, *budget_heap_batch;

HEAP(heap, CALL(weir_alloc)(bytes), CALL(weir_free)(object))
HEAP(constant, CALL(weir_alloc_class)(weir_heap_class(64) | 64 << 8),
    CALL(weir_free_sized)(object, bytes))
HEAP(default_batch, CALL(weir_alloc)(bytes), CALL(weir_free)(object))
HEAP(heap_each, CALL(weir_heap_alloc)(budget_heap, bytes),
    CALL(weir_heap_free)(budget_heap, object))
HEAP(heap_batch, CALL(weir_heap_alloc)(budget_heap_batch, bytes),
    CALL(weir_heap_free)(budget_heap_batch, object))

#ifndef BUDGET_DLOPEN
/*
 * In line: what these functions have is the call, a return and, as programs do
 * before they free it, a use of the object.  The order of the arguments is that
 * of the long way, so that none changes its register.
 */
#define INLINE(name)                                                          \
	ALONE static void *name##_alloc_at(                                   \
	    struct weir_cache *cache, struct weir_local *local)               \
	{                                                                     \
		DIFFERENT(name##_alloc_at);                                   \
		return weir_cache_alloc_at(local, cache);                     \
	}                                                                     \
	ALONE static void name##_free_at(                                     \
	    struct weir_cache *cache, char *object, struct weir_local *local) \
	{                                                                     \
		DIFFERENT(name##_free_at);                                    \
		*object = 0;                                                  \
		weir_cache_free_at(local, cache, object);                     \
	}                                                                     \
	static void name##_inline(struct weir_cache * cache)                  \
	{                                                                     \
		struct weir_local *local = weir_local();                      \
                                                                              \
		for (int i = 0; i < ROUNDS; i++)                              \
			name##_free_at(                                       \
			    cache, name##_alloc_at(cache, local), local);     \
	}

INLINE(batch)
INLINE(word)
INLINE(table)
#endif

/* ---- to be counted --------------------------------------------------------- */

static uint64_t
budget_misses(struct weir_cache *cache)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	if (CALL(weir_cache_stats)(cache, &stats) != 0)
		abort();
	return stats.misses;
}

static struct weir_cache *
budget_cache(const struct weir_cache_config *config)
{
	enum { WARM = 4000, TURNS = 20, TURNS_MAX = 2000, LARGE = 1024 };
	static void *objects[WARM];
	struct weir_cache *cache;
	uint64_t misses = 0, before;
	int turn = 0;

	if (CALL(weir_cache_create)("budget", config, &cache) != 0)
		abort();
	/* Magazines grow while trips come fast, which on a busy machine takes
	 * its time: to 126 slots of small objects.  Then one is used in part. */
	do {
		before = misses;
		for (int i = 0; i < WARM; i++)
			objects[i] = CALL(weir_cache_alloc)(cache);
		for (int i = 0; i < WARM; i++)
			CALL(weir_cache_free)(cache, objects[i]);
		misses = budget_misses(cache);
	} while (++turn < TURNS ||
		 (config->object_bytes < LARGE && turn < TURNS_MAX &&
		     misses - before > WARM / 100));
	for (int i = 0; i < 60; i++)
		if (CALL(weir_cache_alloc)(cache) == NULL)
			abort();
	/* Should that have been its end, this begins another. */
	CALL(weir_cache_free)(cache, CALL(weir_cache_alloc)(cache));
	return cache;
}

#define PAIRS(name, ...)                                          \
	static void name##_pairs(void)                            \
	{                                                         \
		struct weir_cache_config config = {__VA_ARGS__};  \
		struct weir_cache *cache = budget_cache(&config); \
                                                                  \
		for (int i = 0; i < ROUNDS; i++)                  \
			name##_free(cache, name##_alloc(cache));  \
		IN_LINE(name, cache);                             \
	}

#define IN_LINE(name, cache) IN_LINE_##name(cache)
#ifdef BUDGET_DLOPEN
#define IN_LINE_batch(cache) (void)(cache)
#define IN_LINE_word(cache) (void)(cache)
#define IN_LINE_table(cache) (void)(cache)
#else
#define IN_LINE_batch(cache) batch_inline(cache)
#define IN_LINE_word(cache) word_inline(cache)
#define IN_LINE_table(cache) table_inline(cache)
#endif
#define IN_LINE_byte(cache) (void)(cache)

PAIRS(batch, .object_bytes = 64, .check = WEIR_CHECK_BATCH)
PAIRS(word, .object_bytes = 200)
PAIRS(table, .object_bytes = 32)
PAIRS(byte, .object_bytes = 40000)

static void
budget_bulk(void)
{
	struct weir_cache *batch = budget_cache(&(struct weir_cache_config){
	    .object_bytes = 64, .check = WEIR_CHECK_BATCH});
	struct weir_cache *word =
	    budget_cache(&(struct weir_cache_config){.object_bytes = 200});
	void *objects[126];

	for (int i = 0; i < ROUNDS; i++) {
		batch8_alloc(batch, objects);
		batch8_free(batch, objects);
		batch32_alloc(batch, objects);
		batch32_free(batch, objects);
		word8_alloc(word, objects);
		word8_free(word, objects);
		word32_alloc(word, objects);
		word32_free(word, objects);
	}
	for (int i = 0; i < ROUNDS; i++) {
		batch126_alloc(batch, objects);
		batch126_free(batch, objects);
		word126_alloc(word, objects);
		word126_free(word, objects);
	}
}

static void
budget_handles(void)
{
	struct weir_cache *cache = budget_cache(&(struct weir_cache_config){
	    .object_bytes = 200, .flags = WEIR_CACHE_HANDLES});

	for (int i = 0; i < ROUNDS; i++) {
		void *object = handles_alloc(cache);
		struct weir_handle handle = handles_make(cache, object);

		if (handles_good(cache, handle) != object)
			abort();
		handles_free(cache, object);
		if (handles_stale(cache, handle) != NULL)
			abort();
	}
}

/* As budget_cache(), of one class; the compiler is not to know which. */
#define HEAP_PAIRS(name)                                         \
	static void name##_pairs(void)                           \
	{                                                        \
		enum { WARM = 4000 };                            \
		static void *objects[WARM];                      \
		size_t bytes = 64;                               \
                                                                 \
		__asm__ volatile("" : "+r"(bytes));              \
		for (int turn = 0; turn < 20; turn++) {          \
			for (int i = 0; i < WARM; i++)           \
				objects[i] = name##_take(bytes); \
			for (int i = 0; i < WARM; i++)           \
				name##_give(objects[i], bytes);  \
		}                                                \
		for (int i = 0; i < 60; i++)                     \
			if (name##_take(bytes) == NULL)          \
				abort();                         \
		name##_give(name##_take(bytes), bytes);          \
		for (int i = 0; i < ROUNDS; i++)                 \
			name##_free(name##_alloc(bytes), bytes); \
	}

HEAP_PAIRS(heap)
HEAP_PAIRS(constant)
HEAP_PAIRS(default_batch)
HEAP_PAIRS(heap_each)
HEAP_PAIRS(heap_batch)

static const struct weir_heap_config batch = {.check = WEIR_CHECK_BATCH};

/* The heap of the process has one level for all of its life. */
static void
budget_default_batch(void)
{
	if (CALL(weir_heap_set_default)(&batch) != 0)
		abort();
	default_batch_pairs();
}

static void
budget_heaps(void)
{
	if (CALL(weir_heap_create)("each", NULL, &budget_heap) != 0 ||
	    CALL(weir_heap_create)("batch", &batch, &budget_heap_batch) != 0)
		abort();
	heap_pairs();
	constant_pairs();
	heap_each_pairs();
	heap_batch_pairs();
}

int
main(int argc, char **argv)
{
#ifdef BUDGET_DLOPEN
	if (argc != 2)
		return 2;
	budget_load(argv[1]);
#else
	(void)argc;
	(void)argv;
#endif
	if (getenv("BUDGET_DEFAULT_BATCH") != NULL) {
		budget_default_batch();
		return 0;
	}
	batch_pairs();
	word_pairs();
	table_pairs();
	byte_pairs();
	budget_bulk();
	budget_handles();
	budget_heaps();
	return 0;
}
