/* SPDX-License-Identifier: MIT */
/*
 * test_config.c - where options come from, and what a bad one does.
 */
#include "test.h"

#include "config/config.h"
#include "config/resolve.h"
#include "os/os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB ((uint64_t)1 << 30)

/* ---- a world of the test's own -------------------------------------------- */

static const char *world[16]; /* name, value, ... */

static const char *
world_variable(const char *name)
{
	for (size_t i = 0; i + 1 < 16 && world[i] != NULL; i += 2)
		if (strcmp(world[i], name) == 0)
			return world[i + 1];
	return NULL;
}

static void
world_set(const char *name, const char *value)
{
	memset(world, 0, sizeof(world));
	world[0] = name;
	world[1] = value;
}

static struct weiri_options options;

static int
resolve(const struct weir_config *config, uint64_t cgroup, bool secure)
{
	const struct weiri_inputs inputs = {world_variable, cgroup, secure};

	return weiri_options_resolve(&options, config, &inputs);
}

/* ---- precedence ------------------------------------------------------------ */

TEST(nothing_set_gives_the_defaults)
{
	CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.limit_bytes, UINT64_MAX);
	CHECK_EQ(options.effective.soft_bytes, UINT64_MAX);
	CHECK_EQ(options.effective.source.kind, WEIR_SOURCE_ANONYMOUS);
	CHECK_EQ(options.effective.source.flags, 0);
	CHECK_EQ(options.effective.flags, 0);
	CHECK_STR(options.warnings, "");
	CHECK_EQ(options.limit, WEIRI_ORIGIN_DEFAULT);
}

TEST(cgroup_is_the_default_limit_and_soft_is_nine_tenths_of_it)
{
	CHECK_EQ(resolve(NULL, 1000, false), 0);
	CHECK_EQ(options.effective.limit_bytes, 1000);
	CHECK_EQ(options.effective.soft_bytes, 900);
	CHECK_EQ(options.limit, WEIRI_ORIGIN_CGROUP);
	CHECK_EQ(options.soft, WEIRI_ORIGIN_DEFAULT);
}

TEST(environment_beats_default_and_config_beats_environment)
{
	struct weir_config config = {.limit_bytes = 3 * GIB};

	world_set("WEIR_LIMIT", "2G");
	CHECK_EQ(resolve(NULL, GIB, false), 0);
	CHECK_EQ(options.effective.limit_bytes, 2 * GIB);
	CHECK_EQ(options.limit, WEIRI_ORIGIN_ENVIRONMENT);
	CHECK_EQ(resolve(&config, GIB, false), 0);
	CHECK_EQ(options.effective.limit_bytes, 3 * GIB);
	CHECK_EQ(options.limit, WEIRI_ORIGIN_CONFIG);
	/* "None" is a choice too. */
	config.limit_bytes = UINT64_MAX;
	CHECK_EQ(resolve(&config, GIB, false), 0);
	CHECK_EQ(options.effective.limit_bytes, UINT64_MAX);
	CHECK_EQ(options.effective.soft_bytes, UINT64_MAX);
	world_set("WEIR_LIMIT", "none");
	CHECK_EQ(resolve(NULL, GIB, false), 0);
	CHECK_EQ(options.effective.limit_bytes, UINT64_MAX);
	CHECK_STR(options.warnings, "");
}

TEST(each_option_has_its_own_precedence)
{
	struct weir_config config = {
	    .source = {.kind = WEIR_SOURCE_MEMFD},
	    .flags = WEIR_REPORT_LEAKS,
	};

	world_set("WEIR_SOURCE", "huge");
	world[2] = "WEIR_SOURCE_FLAGS";
	world[3] = "lock,nodump";
	world[4] = "WEIR_LEAKS";
	world[5] = "0";
	world[6] = "WEIR_SHOW";
	world[7] = "1";
	CHECK_EQ(resolve(&config, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.source.kind, WEIR_SOURCE_MEMFD);
	CHECK_EQ(options.effective.source.flags,
	    WEIR_SOURCE_LOCK | WEIR_SOURCE_NO_DUMP);
	CHECK_EQ(
	    options.effective.flags, WEIR_REPORT_LEAKS | WEIR_SHOW_OPTIONS);
	CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.source.kind, WEIR_SOURCE_HUGE);
	CHECK_EQ(options.effective.flags, WEIR_SHOW_OPTIONS);
	CHECK_STR(options.warnings, "");
}

TEST(raised_privileges_and_the_flag_shut_the_environment_out)
{
	struct weir_config config = {.flags = WEIR_IGNORE_ENVIRONMENT};
	char text[1024];
	struct weiri_text out = {text, sizeof(text), 0};

	world_set("WEIR_LIMIT", "rubbish");
	world[2] = "WEIR_SOURCE";
	world[3] = "huge";
	world[4] = "WEIR_LEAKS";
	world[5] = "1";
	CHECK_EQ(resolve(NULL, GIB, true), 0);
	CHECK_EQ(options.effective.limit_bytes, GIB);
	CHECK_EQ(options.effective.source.kind, WEIR_SOURCE_ANONYMOUS);
	CHECK_EQ(options.effective.flags, 0);
	CHECK_STR(options.warnings, "");
	weiri_options_describe(&options, &out);
	CHECK_CONTAINS(text, "environment = ignored (raised privileges)\n");

	CHECK_EQ(resolve(&config, GIB, false), 0);
	CHECK_EQ(options.effective.source.kind, WEIR_SOURCE_ANONYMOUS);
	CHECK_STR(options.warnings, "");
	CHECK_EQ(resolve(NULL, GIB, false), 0);
	CHECK_EQ(options.effective.source.kind, WEIR_SOURCE_HUGE);
}

/* ---- values ------------------------------------------------------------------ */

TEST(sizes_with_every_suffix_are_read)
{
	static const struct {
		const char *value;
		uint64_t bytes;
	} good[] = {
	    {"1", 1},
	    {"4096", 4096},
	    {"64k", 65536},
	    {"512M", 512 << 20},
	    {"3G", 3 * GIB},
	    {"18446744073709551614", UINT64_MAX - 1},
	    {"17179869183G", UINT64_MAX - GIB + 1},
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		world_set("WEIR_LIMIT", good[i].value);
		CHECK_EQ(resolve(NULL, 77, false), 0);
		CHECK_STR(options.warnings, "");
		CHECK_EQ(options.effective.limit_bytes, good[i].bytes);
	}
}

TEST(bad_sizes_are_refused_by_name_and_leave_the_default)
{
	static const char *const bad[] = {"0", "0k", "-1", "+5", " 5", "5 ",
	    "5K", "5m", "5kk", "5kB", "0x10", "1.5G", "k", "None", "1e9",
	    "18446744073709551615", "18446744073709551616",
	    "99999999999999999999", "17179869184G", "ten"};
	char expected[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		world_set("WEIR_LIMIT", bad[i]);
		CHECK_EQ(resolve(NULL, 77, false), 0);
		CHECK_EQ(options.effective.limit_bytes, 77);
		CHECK_EQ(options.limit, WEIRI_ORIGIN_CGROUP);
		snprintf(expected, sizeof(expected),
		    "WEIR_LIMIT=%s is ignored: expected a size above 0 such as "
		    "4096, 64k, 512M or 2G, or none\n",
		    bad[i]);
		CHECK_STR(options.warnings, expected);
	}
	/* Set to nothing is not set. */
	world_set("WEIR_LIMIT", "");
	CHECK_EQ(resolve(NULL, 77, false), 0);
	CHECK_STR(options.warnings, "");
}

TEST(bad_words_are_refused_with_what_is_accepted)
{
	static const struct {
		const char *name, *value, *why;
	} bad[] = {
	    {"WEIR_SOURCE", "Huge", "expected anonymous, huge or memfd"},
	    {"WEIR_SOURCE", "range", "expected anonymous, huge or memfd"},
	    {"WEIR_SOURCE_FLAGS", "lock,", "prefault,lock,nodump,notrim"},
	    {"WEIR_SOURCE_FLAGS", ",lock", "prefault,lock,nodump,notrim"},
	    {"WEIR_SOURCE_FLAGS", "lock, nodump", "a list such as"},
	    {"WEIR_SOURCE_FLAGS", "locked", "a list such as"},
	    {"WEIR_SOURCE_FLAGS", "loc", "a list such as"},
	    {"WEIR_LEAKS", "yes", "expected 0 or 1"},
	    {"WEIR_SHOW", "2", "expected 0 or 1"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		world_set(bad[i].name, bad[i].value);
		CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
		CHECK_EQ(options.effective.source.kind, WEIR_SOURCE_ANONYMOUS);
		CHECK_EQ(options.effective.source.flags, 0);
		CHECK_EQ(options.effective.flags, 0);
		CHECK_CONTAINS(options.warnings, bad[i].name);
		CHECK_CONTAINS(options.warnings, bad[i].value);
		CHECK_CONTAINS(options.warnings, bad[i].why);
	}
}

TEST(warning_shows_a_long_or_binary_value_within_one_line)
{
	char value[300];

	memset(value, 'v', sizeof(value));
	value[0] = '\n';
	value[1] = '\xff';
	value[sizeof(value) - 1] = '\0';
	world_set("WEIR_SOURCE", value);
	CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
	CHECK_CONTAINS(options.warnings, "WEIR_SOURCE=??vvv");
	CHECK_CONTAINS(options.warnings, "vvv... is ignored: ");
	CHECK_EQ(strcspn(options.warnings, "\n"), strlen(options.warnings) - 1);
}

TEST(limits_that_contradict_each_other_are_settled)
{
	struct weir_config config = {.soft_bytes = 500};

	/* The environment yields to the program. */
	world_set("WEIR_LIMIT", "400");
	CHECK_EQ(resolve(&config, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.limit_bytes, UINT64_MAX);
	CHECK_EQ(options.effective.soft_bytes, 500);
	CHECK_STR(options.warnings,
	    "WEIR_LIMIT=400 is ignored: it is below the soft limit that the "
	    "program set\n");

	config = (struct weir_config){.limit_bytes = 300};
	world_set("WEIR_SOFT", "301");
	CHECK_EQ(resolve(&config, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.soft_bytes, 270);
	CHECK_STR(options.warnings,
	    "WEIR_SOFT=301 is ignored: it is above the limit\n");
	world_set("WEIR_SOFT", "300");
	CHECK_EQ(resolve(&config, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.soft_bytes, 300);
	CHECK_STR(options.warnings, "");

	/* The system yields to nobody. */
	config = (struct weir_config){.soft_bytes = 500};
	world_set(NULL, NULL);
	CHECK_EQ(resolve(&config, 200, false), 0);
	CHECK_EQ(options.effective.limit_bytes, 200);
	CHECK_EQ(options.effective.soft_bytes, 200);
}

TEST(decay_and_helper_come_from_config_environment_or_default)
{
	static const struct weir_config set = {
	    .decay_ms = WEIR_DECAY_NEVER, .maintain_ms = 7};
	static const char *const bad[] = {"-1", "1s", "x", "12345678901"};

	world_set(NULL, NULL);
	CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.decay_ms, 10000);
	CHECK_EQ(options.effective.maintain_ms, 0);
	world_set("WEIR_DECAY", "250");
	world[2] = "WEIR_MAINTAIN";
	world[3] = "50";
	CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.decay_ms, 250);
	CHECK_EQ(options.effective.maintain_ms, 50);
	CHECK_EQ(options.decay, WEIRI_ORIGIN_ENVIRONMENT);
	CHECK_EQ(options.maintain, WEIRI_ORIGIN_ENVIRONMENT);
	CHECK_EQ(resolve(&set, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.decay_ms, WEIR_DECAY_NEVER);
	CHECK_EQ(options.effective.maintain_ms, 7);
	world_set("WEIR_DECAY", "0");
	CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.decay_ms, WEIR_DECAY_AT_ONCE);
	world_set("WEIR_DECAY", "never");
	CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
	CHECK_EQ(options.effective.decay_ms, WEIR_DECAY_NEVER);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		world_set("WEIR_DECAY", bad[i]);
		CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
		CHECK_EQ(options.effective.decay_ms, 10000);
		CHECK_CONTAINS(options.warnings, "WEIR_DECAY=");
		world_set("WEIR_MAINTAIN", bad[i]);
		CHECK_EQ(resolve(NULL, UINT64_MAX, false), 0);
		CHECK_EQ(options.effective.maintain_ms, 0);
		CHECK_CONTAINS(options.warnings, "WEIR_MAINTAIN=");
	}
}

/* @value as the environment has it; what becomes of it as text, or NULL if it
 * is refused. */
static const char *
guard_of(const char *value, bool secure)
{
	static char text[512];
	struct weiri_text out = {text, sizeof(text), 0};

	world_set("WEIR_GUARD", value);
	CHECK_EQ(resolve(NULL, UINT64_MAX, secure), 0);
	weiri_guard_describe(&out, &options.guard_option);
	if (strstr(options.warnings, "WEIR_GUARD=") != NULL)
		return NULL;
	return text;
}

TEST(guard_is_a_mode_a_rate_and_pools)
{
	static const char *const kept[] = {"off", "sample", "sample:1",
	    "sample:1000", "full", "full:conn", "full:conn,req*",
	    "sample:20:conn", "sample:conn"};
	static const char *const refused[] = {"on", "Full", "sample:0",
	    "sample:1234567890", "off:conn", "full ", "1"};
	char pools[300];

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		CHECK_STR(guard_of(kept[i], false), kept[i]);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		CHECK_NULL(guard_of(refused[i], false));
	CHECK_STR(guard_of("sample::42", false), "sample:42");
	CHECK_EQ(options.guard_option.rate, 0);
	CHECK_STR(options.guard_option.pools, "42");
	memset(pools, 'a', sizeof(pools));
	memcpy(pools, "full:", 5);
	pools[5 + 255] = '\0';
	CHECK_STR(guard_of(pools, false), pools);
	pools[5 + 255] = 'a';
	pools[5 + 256] = '\0';
	CHECK_NULL(guard_of(pools, false));
}

TEST(guard_is_not_read_with_raised_privileges_and_the_config_wins)
{
	struct weir_config config = {.guard = "full:conn"};

	CHECK_STR(guard_of("full", true), "off");
	world_set("WEIR_GUARD", "sample");
	CHECK_EQ(resolve(&config, UINT64_MAX, false), 0);
	CHECK_EQ(options.guard_option.mode, WEIR_GUARD_FULL);
	CHECK_STR(options.guard_option.pools, "conn");
	config.guard = "conn";
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	CHECK_CONTAINS(options.warnings, "guard");
}

TEST(config_out_of_range_is_refused)
{
	static char range[8192] __attribute__((aligned(4096)));
	struct weir_config config = {.flags = 1u << 3};

	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config = (struct weir_config){.maintain_ms = 3600001};
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config = (struct weir_config){.reserved = {[3] = 1}};
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config = (struct weir_config){.source = {.reserved = {[3] = 1}}};
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config = (struct weir_config){.source = {.flags = 1u << 4}};
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config = (struct weir_config){.source = {.kind = WEIR_SOURCE_CUSTOM}};
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config.source.kind = (enum weir_source_kind)5;
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config = (struct weir_config){.limit_bytes = 10, .soft_bytes = 11};
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config.soft_bytes = UINT64_MAX;
	CHECK_EQ(resolve(&config, UINT64_MAX, false), 0);

	config = (struct weir_config){
	    .source = {.base = range, .bytes = sizeof(range)}};
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config.source.kind = WEIR_SOURCE_RANGE;
	CHECK_EQ(resolve(&config, UINT64_MAX, false), 0);
	config.source.base = range + 64;
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config.source.base = range;
	config.source.bytes = 4095;
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config.source.bytes = 0;
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config.source.bytes = SIZE_MAX & ~(size_t)4095;
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
	config.source.base = NULL;
	config.source.bytes = 4096;
	CHECK_EQ(resolve(&config, UINT64_MAX, false), -EINVAL);
}

TEST(text_names_each_option_its_value_and_its_origin)
{
	struct weir_config config = {
	    .soft_bytes = 1000,
	    .source = {.flags = WEIR_SOURCE_PREFAULT | WEIR_SOURCE_NO_TRIM},
	};
	char text[1024];
	struct weiri_text out = {text, sizeof(text), 0};

	world_set("WEIR_SOURCE", "memfd");
	world[2] = "WEIR_SHOW";
	world[3] = "1";
	CHECK_EQ(resolve(&config, 4096, false), 0);
	weiri_options_describe(&options, &out);
	CHECK_STR(text, "limit_bytes = 4096 (cgroup)\n"
			"soft_bytes = 1000 (weir_init)\n"
			"source.kind = memfd (environment)\n"
			"source.flags = prefault,notrim (weir_init)\n"
			"decay_ms = 10000 (default)\n"
			"maintain_ms = 0 (default)\n"
			"guard = off (default)\n"
			"debug = off (default)\n"
			"report_leaks = 0 (default)\n"
			"show_options = 1 (environment)\n"
			"message = standard error\n"
			"oom = none\n"
			"soft = none\n"
			"environment = read\n");
	CHECK_EQ(out.used, strlen(text));
}

/* ---- the real thing, once a process -------------------------------------------- */

static char received[4096];
static int level_seen;

static void
receive(enum weir_message_level level, const char *line, void *context)
{
	CHECK_PTR(context, received);
	level_seen |= 1 << level;
	strcat(received, line);
	strcat(received, "|");
	/* A hook may use the library: no lock is held. */
	CHECK_NOT_NULL(weiri_config());
	CHECK_GT(weir_options_text(NULL, 0), 0);
}

TEST(init_sends_warnings_and_options_to_the_hook)
{
	struct weir_config config = {
	    .flags = WEIR_SHOW_OPTIONS,
	    .limit_bytes = GIB,
	    .message = receive,
	    .message_context = received,
	};

	setenv("WEIR_LIMIT", "rubbish", 1);
	setenv("WEIR_LEAKS", "maybe", 1);
	setenv("WEIR_SOURCE_FLAGS", "?", 1);
	CHECK_EQ(weir_init(&config), 0);
	/* WEIR_LIMIT was not needed and so not looked at. */
	CHECK_CONTAINS(received, "WEIR_SOURCE_FLAGS=? is ignored: ");
	CHECK_CONTAINS(received, "|WEIR_LEAKS=maybe is ignored: expected 0 or");
	CHECK_CONTAINS(received, "|limit_bytes = 1073741824 (weir_init)|");
	CHECK_EQ(
	    level_seen, 1 << WEIR_MESSAGE_WARNING | 1 << WEIR_MESSAGE_INFO);
	CHECK_EQ(weir_init(&config), -EALREADY);
	CHECK_EQ(weir_init(NULL), -EALREADY);
}

TEST(failed_init_changes_nothing)
{
	struct weir_config config = {.flags = 1u << 9};
	char text[1024];

	CHECK_EQ(weir_init(&config), -EINVAL);
	config = (struct weir_config){.limit_bytes = 12345};
	CHECK_EQ(weir_init(&config), 0);
	weir_options_text(text, sizeof(text));
	CHECK_CONTAINS(text, "limit_bytes = 12345 (weir_init)\n");
}

TEST(first_use_starts_the_library_from_the_environment)
{
	char text[1024];
	size_t length;

	setenv("WEIR_LIMIT", "640k", 1);
	length = weir_options_text(text, sizeof(text));
	CHECK_CONTAINS(text, "limit_bytes = 655360 (environment)\n");
	CHECK_EQ(length, strlen(text));
	CHECK_EQ(weir_options_text(text, 5), length);
	CHECK_STR(text, "limi");
	CHECK_EQ(weir_options_text(NULL, 0), length);
	CHECK_EQ(weir_init(NULL), -EALREADY);
}

static void
start(unsigned index, void *context)
{
	const struct weir_config **seen = context;

	seen[index] = weiri_config();
	CHECK_EQ(seen[index]->limit_bytes, 4096);
}

TEST(threads_that_start_together_see_one_set_of_options)
{
	const struct weir_config *seen[8];

	setenv("WEIR_LIMIT", "4096", 1);
	test_threads(8, start, seen);
	for (int i = 1; i < 8; i++)
		CHECK_PTR(seen[i], seen[0]);
}

static bool
free_some(size_t bytes, void *context)
{
	*(size_t *)context += bytes;
	return true;
}

static void
soften(uint64_t charged, uint64_t soft, void *context)
{
	*(uint64_t *)context = charged - soft;
}

TEST(hooks_are_called_with_their_contexts_and_may_be_absent)
{
	size_t wanted = 1;
	uint64_t over = 0;
	struct weir_config config = {
	    .oom = free_some,
	    .oom_context = &wanted,
	    .soft = soften,
	    .soft_context = &over,
	};

	CHECK_EQ(weir_init(&config), 0);
	CHECK(weiri_hook_oom(41));
	CHECK_EQ(wanted, 42);
	weiri_hook_soft(110, 100);
	CHECK_EQ(over, 10);
}

static void
spoil_message(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)line;
	++*(int *)context;
	errno = EBADF;
}

static bool
spoil_oom(size_t bytes, void *context)
{
	(void)bytes;
	++*(int *)context;
	errno = EBADF;
	return false;
}

static void
spoil_soft(uint64_t charged, uint64_t soft, void *context)
{
	(void)charged;
	(void)soft;
	++*(int *)context;
	errno = EBADF;
}

TEST(hooks_cannot_change_errno)
{
	int called = 0;
	struct weir_config config = {
	    .message = spoil_message,
	    .message_context = &called,
	    .oom = spoil_oom,
	    .oom_context = &called,
	    .soft = spoil_soft,
	    .soft_context = &called,
	};

	CHECK_EQ(weir_init(&config), 0);
	errno = 77;
	weiri_message(WEIR_MESSAGE_INFO, "so");
	CHECK_EQ(errno, 77);
	CHECK(!weiri_hook_oom(1));
	CHECK_EQ(errno, 77);
	weiri_hook_soft(2, 1);
	CHECK_EQ(errno, 77);
	CHECK_EQ(called, 3);
}

/* A process ends while its other threads go on. */
static void
forget_or_call(unsigned index, void *context)
{
	(void)context;
	if (index == 0) {
		weiri_os_sleep_ns(1000000);
		weiri_config_forget_hooks();
		return;
	}
	for (size_t i = 0; i < test_count(20000); i++) {
		(void)weiri_hook_oom(1);
		weiri_hook_soft(2, 1);
	}
}

TEST(hooks_may_be_forgotten_while_others_call_them)
{
	int called[2] = {0, 0};
	struct weir_config config = {
	    .oom = spoil_oom,
	    .oom_context = &called[0],
	    .soft = spoil_soft,
	    .soft_context = &called[1],
	};

	CHECK_EQ(weir_init(&config), 0);
	test_threads(2, forget_or_call, NULL);
	called[0] = called[1] = 0;
	CHECK(!weiri_hook_oom(1));
	weiri_hook_soft(2, 1);
	CHECK_EQ(called[0] + called[1], 0);
}

TEST(messages_without_hook_are_lines_on_standard_error)
{
	EXPECT_ABORT(
	    "weir: warning: careful\nweir: error: broken\nweir: so\n", {
		    weiri_message(WEIR_MESSAGE_WARNING, "careful");
		    weiri_message(WEIR_MESSAGE_ERROR, "broken");
		    weiri_message(WEIR_MESSAGE_INFO, "so");
		    CHECK(!weiri_hook_oom(1));
		    weiri_hook_soft(2, 1);
		    abort();
	    });
}
