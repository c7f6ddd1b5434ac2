/* SPDX-License-Identifier: MIT */
/*
 * Two copies of the library in one process, as when a program and a plug-in
 * each bring their own: both work on the same threads, and an object of one is
 * foreign to the other.
 */
#include "support/test.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

struct copy {
	void *library;
	struct weir_cache *cache;
	int (*create)(const char *, const struct weir_cache_config *,
	    struct weir_cache **);
	void *(*alloc)(struct weir_cache *);
	void (*free)(struct weir_cache *, void *);
	bool (*check)(struct weir_cache *);
	int (*stats)(struct weir_cache *, struct weir_pool_stats *);
	void (*destroy)(struct weir_cache *);
	size_t (*pools)(struct weir_pool_stats *, size_t);
	int (*set_limit)(uint64_t, uint64_t);
	uint64_t (*shutdown)(void);
	const char *(*version)(void);
	int (*version_number)(void);
};

/* The same file under another name would be the same library to the loader. */
static void
copy_file(const char *from, const char *to)
{
	char command[600];

	snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
	CHECK_EQ(system(command), 0);
}

static void
copy_symbol(struct copy *copy, const char *name, void *function)
{
	void *address = dlsym(copy->library, name);

	CHECK_NOT_NULL(address);
	memcpy(function, &address, sizeof(address));
}

static void
copy_load(struct copy *copy, const char *name)
{
	const char *build = getenv("WEIR_BUILD");
	char from[256], to[256];

	if (build == NULL)
		SKIP("WEIR_BUILD does not name the build directory");
	snprintf(from, sizeof(from), "%s/libweir.so", build);
	snprintf(to, sizeof(to), "/tmp/weir-%s-%d.so", name, (int)getpid());
	copy_file(from, to);
	copy->library = dlopen(to, RTLD_NOW | RTLD_LOCAL);
	(void)unlink(to);
	if (copy->library == NULL)
		FAIL("%s", dlerror());
	copy_symbol(copy, "weir_cache_create", &copy->create);
	copy_symbol(copy, "weir_cache_alloc", &copy->alloc);
	copy_symbol(copy, "weir_cache_free", &copy->free);
	copy_symbol(copy, "weir_cache_check", &copy->check);
	copy_symbol(copy, "weir_cache_stats", &copy->stats);
	copy_symbol(copy, "weir_cache_destroy", &copy->destroy);
	copy_symbol(copy, "weir_stats_pools", &copy->pools);
	copy_symbol(copy, "weir_set_limit", &copy->set_limit);
	copy_symbol(copy, "weir_shutdown", &copy->shutdown);
	copy_symbol(copy, "weir_version", &copy->version);
	copy_symbol(copy, "weir_version_number", &copy->version_number);
	/* What the loader found is what the headers say, here. */
	CHECK_STR(copy->version(), WEIR_VERSION_STRING);
	CHECK_EQ(copy->version_number(), WEIR_VERSION_NUMBER);
	CHECK_EQ(
	    copy->create(name, &(struct weir_cache_config){.object_bytes = 100},
		&copy->cache),
	    0);
}

static void *
copies_use(void *argument)
{
	struct copy *copies = argument;
	void *objects[2][300];

	for (size_t i = 0; i < 300; i++)
		for (size_t c = 0; c < 2; c++) {
			objects[c][i] = copies[c].alloc(copies[c].cache);
			CHECK_NOT_NULL(objects[c][i]);
			memset(objects[c][i], (int)c, 100);
		}
	for (size_t i = 0; i < 300; i++)
		for (size_t c = 0; c < 2; c++)
			copies[c].free(copies[c].cache, objects[c][i]);
	return NULL;
}

TEST(two_copies_of_the_library_share_a_process)
{
	struct copy copies[2];
	pthread_t thread;
	int status;
	pid_t pid;

	copy_load(&copies[0], "first");
	copy_load(&copies[1], "second");
	CHECK(copies[0].alloc != copies[1].alloc);
	copies_use(copies);
	CHECK_EQ(pthread_create(&thread, NULL, copies_use, copies), 0);
	pthread_join(thread, NULL);

	/* Neither sees the other's pools, nor obeys the other's limit. */
	for (size_t c = 0; c < 2; c++)
		CHECK_EQ(copies[c].pools(NULL, 0), 1);
	CHECK_EQ(copies[1].set_limit(1, UINT64_MAX), 0);

	void *object = copies[0].alloc(copies[0].cache);

	CHECK_NOT_NULL(object);
	CHECK_EQ(copies[0].shutdown(), 1);
	CHECK_EQ(copies[1].shutdown(), 0);
	CHECK_EQ(copies[1].set_limit(UINT64_MAX, UINT64_MAX), 0);
	EXPECT_ABORT("FAULT foreign-pointer: cache \"second\"",
	    { copies[1].free(copies[1].cache, object); });
	/* Both follow a fork. */
	pid = fork();
	CHECK_NE(pid, -1);
	if (pid == 0) {
		copies_use(copies);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	copies[0].free(copies[0].cache, object);
	for (size_t c = 0; c < 2; c++) {
		struct weir_pool_stats stats = {.size = sizeof(stats)};

		CHECK(copies[c].check(copies[c].cache));
		CHECK_EQ(copies[c].stats(copies[c].cache, &stats), 0);
		CHECK_EQ(stats.in_use, 0);
		copies[c].destroy(copies[c].cache);
	}
}

static void *
use_then_wait(void *argument)
{
	struct copy *copy = argument;

	copy->free(copy->cache, copy->alloc(copy->cache));
	/* Ends after the close: the exit hook must still be there. */
	usleep(50000);
	return NULL;
}

TEST(a_thread_may_outlive_dlclose)
{
	struct copy copy;
	pthread_t thread;

	copy_load(&copy, "closed");
	CHECK_EQ(pthread_create(&thread, NULL, use_then_wait, &copy), 0);
	usleep(10000);
	CHECK_EQ(dlclose(copy.library), 0);
	pthread_join(thread, NULL);
	copy.destroy(copy.cache);
}
