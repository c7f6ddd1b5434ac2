/* SPDX-License-Identifier: MIT */
/*
 * cmd_serve.c - `weir serve`: the packet server on weir pools.
 *
 *     weir serve --port 7700
 *     weir load --port 7700 --connections 10000      in another terminal
 *     kill -USR1 PID     figures now
 *     kill PID           drain, figures, verdict on leaks
 *
 * Each thread runs a loop with a listener of its own; the kernel spreads new
 * connections over them.  The main thread runs the first loop: a server of one
 * thread stays a process of one thread, for which libc's recv and send skip
 * their care for thread cancellation, a hundred instructions a packet.
 *
 * Signals reach the main thread only, and their handlers do what is allowed in
 * one: weir_loop_stop() and weir_loop_post().
 */
#include "cmd.h"

#include <weir/runtime.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "load.h"
#include "serve.h"

struct serve_worker {
	struct serve *serve;
	struct weir_loop *loop;
	pthread_t thread;
	int error; /* what weir_loop_run() returned */
};

struct serve {
	const struct serve_settings *set;
	struct weir_net *net;
	struct weir_channel *all; /* --broadcast, or NULL */
	FILE *json;               /* NULL: none is asked for */
	FILE *prose; /* standard output, unless the JSON goes there */
	struct serve_worker *workers;
	size_t loops;   /* created */
	size_t started; /* running, the main thread's included */
	uint16_t port;
	uint64_t dropped; /* reports nobody read, since the last one read */

	/* Written by signal handlers. */
	volatile sig_atomic_t stopping;
	volatile sig_atomic_t reporting; /* the task is posted */
	struct weir_task report;
};

/* Where signal handlers find it. */
static struct serve *serve_running;

/* ---- start ----------------------------------------------------------- */

static uint32_t
serve_ms(uint64_t ns)
{
	uint64_t ms = ns / 1000000 + (ns % 1000000 != 0);

	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX - 1;
}

static int
serve_create_net(struct serve *serve)
{
	const struct serve_settings *set = serve->set;
	struct weir_net_config config = {.backend = WEIR_BACKEND_AUTO};
	bool all =
	    set->preset == 0 ||
	    weir_net_preset((enum weir_net_preset)set->preset, &config) != 0;

	config.backend = (enum weir_net_backend)set->backend;
	config.connections_max = (uint32_t)set->connections_max;
	config.address_max = (uint32_t)set->address_max;
	config.buffer_limit_bytes = set->buffer_limit;
	config.account_limit_bytes = set->account_limit;
	config.connection_limit_bytes = set->connection_limit;
	config.accounting = set->listener_limit != 0;
	config.hold_ms =
	    set->hold_ns == 0 ? UINT32_MAX : serve_ms(set->hold_ns);
	config.without = (uint32_t)set->without;
	config.with = (uint32_t)set->with;
	if (all || set->send_quota_given)
		config.send_quota_bytes = (uint32_t)set->send_quota;
	if (all || set->stall_given)
		config.stall_ms =
		    set->stall_ns == 0 ? UINT32_MAX : serve_ms(set->stall_ns);
	if (all || set->idle_given)
		config.idle_ms = serve_ms(set->idle_ns);
	if (all || set->packet_given)
		config.packet_ms = serve_ms(set->packet_ns);
	if (all || set->prealloc_given)
		config.connections_prealloc = (uint32_t)set->prealloc;
	if (set->memory == SERVE_MALLOC)
		config.memory = serve_malloc();
	return weir_net_create(&config, &serve->net);
}

static int
serve_create_channel(struct serve *serve)
{
	const struct serve_settings *set = serve->set;
	struct weir_channel_config config = {
	    .policy = set->broadcast == SERVE_CLOSE ? WEIR_SLOW_CLOSE
						    : WEIR_SLOW_SKIP,
	    .limit_messages = (uint32_t)set->broadcast_messages,
	};

	return set->broadcast == SERVE_ECHO
		   ? 0
		   : weir_channel_create(serve->net, &config, &serve->all);
}

static int
serve_listen(struct serve *serve, struct weir_loop *loop, bool shared)
{
	struct weir_listen_config config = {
	    .address = serve->set->address,
	    .port = serve->port,
	    .shared = shared,
	    .account_limit_bytes = serve->set->listener_limit,
	    .handlers = serve_handlers(
		(enum serve_protocol)serve->set->protocol, serve->all),
	};
	struct weir_listener *listener;
	int error = weir_listen(loop, &config, &listener);

	if (error == 0)
		serve->port = weir_listener_port(listener);
	return error;
}

/*
 * Sockets that share a port do so with any other program of the same user,
 * and each would get a part of the connections.  So the port is first taken
 * alone for a moment, which fails if anybody has it.
 */
static int
serve_claim_port(struct serve *serve)
{
	struct weir_loop *loop;
	int error = weir_loop_create(serve->net, &loop);

	if (error == 0) {
		error = serve_listen(serve, loop, false);
		weir_loop_destroy(loop);
	}
	return error;
}

static int
serve_create_loops(struct serve *serve)
{
	size_t threads = (size_t)serve->set->threads;
	int error = threads > 1 ? serve_claim_port(serve) : 0;

	for (size_t i = 0; i < threads && error == 0; i++) {
		struct serve_worker *worker = &serve->workers[i];
		worker->serve = serve;
		error = weir_loop_create(serve->net, &worker->loop);
		if (error != 0)
			break;
		serve->loops++;
		error = serve_listen(serve, worker->loop, threads > 1);
	}
	return error;
}

static void
serve_stop(struct serve *serve, uint64_t grace_ns)
{
	for (size_t i = 0; i < serve->loops; i++)
		weir_loop_stop(serve->workers[i].loop, serve_ms(grace_ns));
}

static void
serve_work(struct serve_worker *worker)
{
	struct serve *serve = worker->serve;

	worker->error = weir_loop_run(worker->loop);
	/* A loop that ends by itself has failed; the others end with it. */
	if (worker->error != 0)
		serve_stop(serve, serve->set->grace_ns);
	serve_malloc_collect();
}

static void *
serve_thread(void *argument)
{
	serve_work(argument);
	return NULL;
}

/* All but the first, which is the main thread's. */
static int
serve_start_threads(struct serve *serve)
{
	sigset_t all, before;
	int error = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (serve->started = 1; serve->started < serve->loops;
	     serve->started++) {
		struct serve_worker *worker = &serve->workers[serve->started];
		error =
		    pthread_create(&worker->thread, NULL, serve_thread, worker);
		if (error != 0)
			break;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

static void
serve_announce_features(uint32_t features)
{
	const char *before = " with ";

#define SERVE_FEATURE(name, bit, word)                 \
	if (features & WEIR_NET_##name) {              \
		fprintf(stderr, "%s%s", before, word); \
		before = ",";                          \
	}
	WEIR_NET_FEATURES(SERVE_FEATURE)
#undef SERVE_FEATURE
}

static void
serve_announce(const struct serve *serve)
{
	const struct serve_settings *set = serve->set;
	struct sockaddr_storage address;
	socklen_t bytes;
	char text[ADDRESS_TEXT_BYTES];

	fprintf(stderr, "weir serve: backend %s%s",
	    weir_net_backend(serve->net),
	    set->backend == WEIR_BACKEND_AUTO
		? " (auto: best of those that work here)"
		: "");
	serve_announce_features(weir_net_features(serve->net));
	fprintf(stderr, ", %s, %llu thread%s\n",
	    set->memory == SERVE_MALLOC ? "malloc" : "weir pools",
	    (unsigned long long)set->threads, set->threads == 1 ? "" : "s");
	if (address_parse(set->address, serve->port, &address, &bytes) == 0)
		printf("listening on %s\n", address_text(&address, text));
	fflush(stdout);
}

/* ---- signals and end ------------------------------------------------- */

static void
serve_report_now(struct weir_loop *loop, struct weir_task *task)
{
	struct serve *serve = task->context;

	(void)loop;
	serve->reporting = 0;
	serve_report_offer(serve->prose, serve->net, &serve->dropped);
}

/* A first signal drains, a second one drops. */
static void
serve_on_stop(int number)
{
	struct serve *serve = serve_running;

	(void)number;
	serve_stop(serve, serve->stopping ? 0 : serve->set->grace_ns);
	serve->stopping = 1;
}

static void
serve_on_report(int number)
{
	struct serve *serve = serve_running;

	(void)number;
	if (serve->reporting)
		return;
	serve->reporting = 1;
	weir_loop_post(serve->workers[0].loop, &serve->report);
}

/* Before the first thread: they read what the handlers use. */
static void
serve_catch_signals(struct serve *serve)
{
	struct sigaction action = {.sa_flags = SA_RESTART};

	serve->report.run = serve_report_now;
	serve->report.context = serve;
	serve_running = serve;
	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGINT);
	sigaddset(&action.sa_mask, SIGTERM);
	action.sa_handler = serve_on_stop;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	action.sa_handler = serve_on_report;
	sigaction(SIGUSR1, &action, NULL);
}

/* The loops are about to go: from here on, signals end the process. */
static void
serve_release_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGUSR1, &action, NULL);
}

static int
serve_join(struct serve *serve)
{
	int error = 0;

	for (size_t i = 1; i < serve->started; i++)
		pthread_join(serve->workers[i].thread, NULL);
	serve_release_signals();
	for (size_t i = 0; i < serve->loops; i++) {
		if (error == 0)
			error = serve->workers[i].error;
		weir_loop_destroy(serve->workers[i].loop);
	}
	serve_malloc_collect();
	return error;
}

static bool
serve_open_json(struct serve *serve)
{
	const char *path = serve->set->json;
	bool standard = path != NULL && strcmp(path, "-") == 0;

	serve->prose = standard ? stderr : stdout;
	if (path == NULL)
		return true;
	serve->json = standard ? stdout : fopen(path, "we");
	if (serve->json == NULL)
		fprintf(stderr, "weir serve: cannot write %s: %s\n", path,
		    strerror(errno));
	return serve->json != NULL;
}

static int
serve_write_json(const struct serve *serve, uint64_t leaks)
{
	int error;

	if (serve->json == NULL)
		return CLI_OK;
	error = serve_report_json(serve->json, serve->net, leaks);
	if (error == 0)
		return CLI_OK;
	fprintf(stderr, "weir serve: cannot write %s: %s\n", serve->set->json,
	    strerror(-error));
	return CLI_FAILED;
}

/* Figures and verdict; who never served is only blamed for what is out. */
static int
serve_conclude(struct serve *serve, bool served)
{
	uint64_t leaks;

	if (served) {
		serve_report_dropped(serve->prose, serve->dropped);
		serve_report(serve->prose, serve->net);
		if (serve->all != NULL)
			serve_report_channel(serve->prose, serve->all);
	}
	leaks = serve_leaks(served ? serve->prose : NULL, serve->net);
	if (!served && leaks > 0)
		serve_leaks(stderr, serve->net);
	if (served && serve_write_json(serve, leaks) != CLI_OK)
		return CLI_FAILED;
	return leaks == 0 ? CLI_OK : CLI_FAILED;
}

static int
serve_run(struct serve *serve)
{
	bool served = false;
	int error = serve_create_loops(serve);

	if (error == 0) {
		serve_catch_signals(serve);
		error = serve_start_threads(serve);
	}
	if (error == 0) {
		served = true;
		serve_announce(serve);
		serve_work(&serve->workers[0]);
	} else {
		serve_stop(serve, 0);
	}
	int end_error = serve_join(serve);
	if (error == 0)
		error = end_error;
	if (error != 0)
		serve_complain(serve->set->address, serve->set->port, error);
	int status = serve_conclude(serve, served);
	return error == 0 ? status : CLI_FAILED;
}

static int
serve_execute(const struct serve_settings *set)
{
	struct serve serve = {.set = set, .port = (uint16_t)set->port};
	int status = CLI_FAILED;
	int error;

	/* The soft limit is there for programs that use select(). */
	(void)load_raise_descriptors();
	if (!serve_open_json(&serve))
		return CLI_FAILED;
	serve.workers = calloc((size_t)set->threads, sizeof(*serve.workers));
	error = serve.workers == NULL ? -ENOMEM : serve_create_net(&serve);
	if (error == 0) {
		error = serve_create_channel(&serve);
		if (error != 0)
			weir_net_destroy(serve.net);
	}
	if (error != 0) {
		serve_complain(set->address, set->port, error);
	} else {
		status = serve_run(&serve);
		weir_channel_destroy(serve.all);
		/* A pool with something out must not be destroyed. */
		if (serve_leaks(NULL, serve.net) == 0)
			weir_net_destroy(serve.net);
	}
	free(serve.workers);
	if (serve.json != NULL && serve.json != stdout &&
	    fclose(serve.json) != 0)
		status = CLI_FAILED;
	return status;
}

int
weir_cmd_serve(int argc, char **argv)
{
	const struct serve_settings *set = NULL;
	int status = serve_options(argc, argv, &set);

	return status == CLI_GO_ON ? serve_execute(set) : status;
}
