/* SPDX-License-Identifier: MIT */
/*
 * net.c - engines: configuration, memory and figures of all loops.
 *
 * Unless the program brings its own memory, an engine owns a buffer pool and a
 * cache for each kind of object, shared by its loops: a thread's magazines keep
 * them apart, and what one loop does not use serves the others.
 */
#include "net/backend.h"

#include "base/text.h"
#include "config/config.h"
#include "net/payer.h"
#include "pools/account.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NET_RECEIVE_BYTES_MIN 2048u
#define NET_SEND_QUOTA_BYTES 65536u
#define NET_STALL_MS 30000u
/* 13 KB/s: a slow line may fill or empty the largest buffer. */
#define NET_HOLD_MS 5000u
#define NET_HOLD_BYTES WEIR_NET_BUFFER_BYTES_MAX
/* Below that, pinning pages and the notification cost more than the copy. */
#define NET_ZERO_COPY_BYTES 32768u
/* Enough to spread the cost of a pass; more would push the first buffers of a
 * pass out of the L2 cache before they are sent. */
#define NET_BATCH 256u
#define NET_BATCH_MAX 1024u

/* The best first. */
static const struct weiri_backend *const net_backends[] = {
#if WEIRI_HAVE_URING
    &weiri_backend_uring,
#endif
    &weiri_backend_epoll,
};

/* ---- memory: weir's pools -------------------------------------------- */

static struct weir_buffer *
net_pool_buffer(size_t bytes, void *context)
{
	struct weir_net *net = context;

	return weir_buffer_acquire(net->buffers, bytes);
}

static void *
net_pool_object(enum weir_net_object kind, size_t object_bytes, void *context)
{
	struct weir_net *net = context;

	(void)object_bytes; /* the cache was made for it */
	return weir_cache_alloc(net->objects[kind]);
}

static void
net_pool_object_free(enum weir_net_object kind, void *object, void *context)
{
	struct weir_net *net = context;

	weir_cache_free(net->objects[kind], object);
}

static void
net_destroy_pools(struct weir_net *net)
{
	for (size_t i = 0; i < WEIR_NET_OBJECT_COUNT; i++)
		weir_cache_destroy(net->objects[i]);
	weir_cache_destroy(net->views);
	/* Its buffers the kernel has not given back must not be others'. */
	if (!net->lossy)
		weir_buffer_pool_destroy(net->buffers);
}

/* The tiers that receives and carries step through, and the odd small send. */
static void
net_buffer_config(
    const struct weir_net *net, struct weir_buffer_pool_config *out)
{
	static const uint32_t sizes[] = {64, 512, 2048, 8192, 32768, 65536};

	*out = (struct weir_buffer_pool_config){
	    .tier_count = WEIRI_COUNT_OF(sizes),
	    .limit_bytes = net->config.buffer_limit_bytes,
	};
	for (size_t i = 0; i < WEIRI_COUNT_OF(sizes); i++) {
		out->tier[i].bytes = sizes[i];
		if (net->config.receive_bytes_min <= sizes[i] &&
		    (i == 0 || net->config.receive_bytes_min > sizes[i - 1]))
			out->tier[i].prealloc = net->config.buffers_prealloc;
	}
}

static int
net_create_pools(struct weir_net *net)
{
	struct weir_buffer_pool_config buffers;
	struct weir_cache_config conns = {
	    .object_bytes = net->conn_bytes,
	    .object_align = WEIRI_CACHE_LINE,
	    .prealloc = net->config.connections_prealloc,
	};
	struct weir_cache_config ops = {
	    .object_bytes = sizeof(struct weiri_op),
	    .prealloc = net->config.batch,
	};
	struct weir_cache_config views = {
	    .object_bytes = sizeof(struct weir_buffer),
	    .object_align = WEIRI_CACHE_LINE,
	};
	int error;

	net_buffer_config(net, &buffers);
	error = weir_buffer_pool_create("net.buffers", &buffers, &net->buffers);
	if (error == 0)
		error = weir_cache_create("net.connections", &conns,
		    &net->objects[WEIR_NET_CONNECTION]);
	if (error == 0)
		error = weir_cache_create(
		    "net.operations", &ops, &net->objects[WEIR_NET_OPERATION]);
	if (error == 0 && net->features & WEIR_NET_INCREMENTAL)
		error = weir_cache_create("net.views", &views, &net->views);
	if (error != 0)
		net_destroy_pools(net);
	net->memory = (struct weir_net_memory){
	    .buffer_acquire = net_pool_buffer,
	    .object_alloc = net_pool_object,
	    .object_free = net_pool_object_free,
	    .context = net,
	};
	return error;
}

/* ---- configuration --------------------------------------------------- */

static void
net_default(uint32_t *field, uint32_t value)
{
	if (*field == 0)
		*field = value;
}

/* What one receive brings may all stay unsent, so it is to fit the quota; in
 * steps that are sizes of buffers. */
static void
net_cap_receives(struct weir_net_config *c)
{
	uint32_t bytes = c->receive_bytes_min;

	if (c->receive_bytes_max <= c->send_quota_bytes)
		return;
	while (bytes <= c->send_quota_bytes / WEIRI_HINT_STEP &&
	       bytes <= c->receive_bytes_max / WEIRI_HINT_STEP)
		bytes *= WEIRI_HINT_STEP;
	c->receive_bytes_max = bytes;
}

static bool
net_keeps_accounts(const struct weir_net_config *c)
{
	return c->accounting != 0 || c->account != NULL ||
	       c->account_limit_bytes != 0 || c->connection_limit_bytes != 0;
}

static int
net_configure(struct weir_net *net, const struct weir_net_config *config)
{
	struct weir_net_config *c = &net->config;

	if (config != NULL)
		*c = *config;
	for (size_t i = 0; i < WEIRI_COUNT_OF(c->reserved); i++)
		if (c->reserved[i] != 0)
			return -EINVAL;
	if (c->accounting > 1)
		return -EINVAL;
	if (((c->without | c->with) & ~(uint32_t)WEIR_NET_FEATURES_ALL) != 0)
		return -EINVAL;
	net_default(&c->receive_bytes_min, NET_RECEIVE_BYTES_MIN);
	net_default(&c->receive_bytes_max, WEIR_NET_BUFFER_BYTES_MAX);
	net_default(&c->send_quota_bytes, NET_SEND_QUOTA_BYTES);
	net_default(&c->stall_ms, NET_STALL_MS);
	net_default(&c->batch, NET_BATCH);
	net_default(&c->hold_ms, NET_HOLD_MS);
	net_default(&c->hold_bytes, NET_HOLD_BYTES);
	/* Off unless a size is given, or it is asked for to whomever. */
	if (c->zero_copy_bytes == 0 && (c->with & WEIR_NET_ZERO_COPY) == 0)
		c->without |= WEIR_NET_ZERO_COPY;
	net_default(&c->zero_copy_bytes, NET_ZERO_COPY_BYTES);
	if (c->receive_bytes_max > WEIR_NET_BUFFER_BYTES_MAX ||
	    c->receive_bytes_min > c->receive_bytes_max ||
	    c->batch > NET_BATCH_MAX ||
	    (c->buffer_limit_bytes != 0 &&
		c->buffer_limit_bytes < WEIR_NET_BUFFER_LIMIT_BYTES_MIN))
		return -EINVAL;
	net_cap_receives(c);
	net->accounting = net_keeps_accounts(c);
	net->conn_bytes = sizeof(struct weir_conn) +
			  (net->accounting ? sizeof(struct weiri_payer) : 0);
	/* Foreign buffers have nowhere to keep who pays for them. */
	if ((net->accounting && c->memory != NULL) ||
	    (c->account_limit_bytes != 0 &&
		c->account_limit_bytes < WEIR_NET_BUFFER_LIMIT_BYTES_MIN) ||
	    (c->connection_limit_bytes != 0 &&
		c->connection_limit_bytes < WEIR_NET_BUFFER_LIMIT_BYTES_MIN))
		return -EINVAL;
	if (c->memory != NULL &&
	    (c->memory->buffer_acquire == NULL ||
		c->memory->object_alloc == NULL ||
		c->memory->object_free == NULL || c->buffer_limit_bytes != 0))
		return -EINVAL;
	net->stall_ns =
	    c->stall_ms == UINT32_MAX ? UINT64_MAX : c->stall_ms * WEIRI_MS;
	net->hold_ns =
	    c->hold_ms == UINT32_MAX ? UINT64_MAX : c->hold_ms * WEIRI_MS;
	net->idle_ns = c->idle_ms * WEIRI_MS;
	net->packet_ns = c->packet_ms * WEIRI_MS;
	return 0;
}

static void
net_tell_unusable(const char *name, int error)
{
	char line[96];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "net: ");
	weiri_text_str(&text, name);
	weiri_text_str(&text, " cannot be used here: errno ");
	weiri_text_u64(&text, (uint64_t)-error);
	weiri_message(WEIR_MESSAGE_INFO, line);
}

/* Features that are not to be tried. */
static uint32_t
net_without(const struct weir_net_config *config)
{
	uint32_t without = config->without;

	without |= (uint32_t)WEIR_NET_FEATURES_ASKED & ~config->with;
	/* The address of a peer is asked for by descriptor. */
	if (config->address_max != 0)
		without |= WEIR_NET_DIRECT;
	/* What a slice of a few bytes pins is nothing a limit knows. */
	if (config->memory != NULL || config->buffer_limit_bytes != 0 ||
	    net_keeps_accounts(config))
		without |= WEIR_NET_INCREMENTAL;
	return without;
}

static int
net_choose_backend(struct weir_net *net)
{
	static const char *const names[] = {
	    [WEIR_BACKEND_AUTO] = NULL,
	    [WEIR_BACKEND_EPOLL] = "epoll",
	    [WEIR_BACKEND_IO_URING] = "io_uring",
	};
	size_t asked = (size_t)net->config.backend;
	int error = -ENOSYS; /* left out of this build */

	if (asked >= WEIRI_COUNT_OF(names))
		return -EINVAL;
	for (size_t i = 0; i < WEIRI_COUNT_OF(net_backends); i++) {
		const struct weiri_backend *backend = net_backends[i];
		if (names[asked] != NULL &&
		    strcmp(names[asked], backend->name) != 0)
			continue;
		net->features = 0;
		error =
		    backend->works(net_without(&net->config), &net->features);
		if (error == 0) {
			net->backend = backend;
			return 0;
		}
		net_tell_unusable(backend->name, error);
	}
	return error;
}

int
weir_net_create(const struct weir_net_config *config, struct weir_net **out)
{
	struct weir_net *net =
	    aligned_alloc(WEIRI_CACHE_LINE, sizeof(struct weir_net));
	int error;

	*out = NULL;
	if (net == NULL)
		return -ENOMEM;
	memset(net, 0, sizeof(*net));
	weiri_mutex_init(&net->lock);
	weiri_list_init(&net->loops);
	weiri_list_init(&net->ended);
	weiri_list_init(&net->listeners_ended);
	weiri_spare_init(&net->spare);
	weiri_peers_init(&net->peers);
	error = net_configure(net, config);
	if (error == 0)
		error = net_choose_backend(net);
	if (error == 0 && net->config.memory != NULL)
		net->memory = *net->config.memory;
	else if (error == 0)
		error = net_create_pools(net);
	if (error == 0) {
		error = weiri_payer_net_begin(net);
		if (error != 0)
			net_destroy_pools(net);
	}
	if (error != 0) {
		weiri_peers_destroy(&net->peers);
		weiri_spare_destroy(&net->spare);
		weiri_mutex_destroy(&net->lock);
		free(net);
		return error;
	}
	net->config.memory = NULL; /* the caller's storage; copied */
	*out = net;
	return 0;
}

void
weir_net_destroy(struct weir_net *net)
{
	if (net == NULL)
		return;
	WEIR_ASSERT(weiri_list_empty(&net->loops));
	weiri_payer_net_end(net);
	net_destroy_pools(net);
	weiri_peers_destroy(&net->peers);
	weiri_spare_destroy(&net->spare);
	weiri_mutex_destroy(&net->lock);
	free(net);
}

const char *
weir_net_backend(const struct weir_net *net)
{
	return net->backend->name;
}

uint32_t
weir_net_features(const struct weir_net *net)
{
	return net->features;
}

/* ---- figures --------------------------------------------------------- */

static void
net_add_counters(struct weir_net_figures *out, struct weiri_net_counters *from)
{
#define NET_ADD(name) out->name += WEIRI_LOAD(&from->name);
	WEIRI_NET_COUNTERS(NET_ADD)
#undef NET_ADD
	for (size_t i = 0; i < WEIR_CLOSE_REASON_COUNT; i++)
		out->closed[i] += WEIRI_LOAD(&from->closed[i]);
}

int
weir_net_stats(struct weir_net *net, struct weir_net_figures *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	*out = (struct weir_net_figures){
	    .size = sizeof(*out),
	    .version = WEIR_NET_STATS_VERSION,
	};
	weiri_mutex_lock(&net->lock);
	net_add_counters(out, &net->retired);
	WEIRI_LIST_FOR(node, &net->loops)
	{
		net_add_counters(
		    out, &WEIRI_CONTAINER_OF(node, struct weir_loop, link)
			      ->counters);
	}
	weiri_mutex_unlock(&net->lock);
	if (net->accounting) {
		out->account_bytes = weiri_account_used(&net->account);
		out->account_bytes_peak = WEIRI_LOAD(&net->account.peak);
	}
	return 0;
}

void
weiri_net_retire(struct weir_loop *loop)
{
	struct weir_net *net = loop->net;
	struct weiri_net_counters *to = &net->retired;

	weiri_mutex_lock(&net->lock);
#define NET_RETIRE(name) to->name += loop->counters.name;
	WEIRI_NET_COUNTERS(NET_RETIRE)
#undef NET_RETIRE
	for (size_t i = 0; i < WEIR_CLOSE_REASON_COUNT; i++)
		to->closed[i] += loop->counters.closed[i];
	weiri_list_remove(&loop->link);
	WEIRI_STORE(&net->loop_count, net->loop_count - 1);
	weiri_mutex_unlock(&net->lock);
}

void
weiri_net_lose(struct weir_loop *loop, uint64_t count)
{
	struct weir_net *net = loop->net;
	uint64_t lost;

	weiri_mutex_lock(&net->lock);
	net->lossy = true;
	lost = net->retired.buffers_lost += count;
	weiri_mutex_unlock(&net->lock);
	weiri_loop_warn(loop, "buffers left to a ring that failed", lost);
}

const char *
weir_close_reason_text(enum weir_close_reason reason)
{
	static const char *const texts[] = {
#define NET_TEXT(name, text) text,
	    WEIR_CLOSE_REASONS(NET_TEXT)
#undef NET_TEXT
	};

	return (unsigned)reason < WEIRI_COUNT_OF(texts) ? texts[reason]
							: "unknown";
}
