/* SPDX-License-Identifier: MIT */
/*
 * load.h - the load engine: many connections, every byte verified.
 *
 * An engine holds connections to one server and drives them from the calling
 * thread, in as many runs as the caller likes without connecting again:
 *
 *     load_create(&load, &config)
 *     load_connect(load, &report)        all connections, in batches
 *     load_run(load, &run, &report)      warm-up, measured window, drain
 *     ...
 *     load_destroy(load)                 closes by reset: no TIME_WAIT is left
 *
 * Closed loop (rate 0): each active connection keeps `depth` packets in
 * flight.  Open loop: packets are due at a fixed rate, in turn on the active
 * connections, and latency counts from the time a packet was due, not from
 * when a slow server let it be sent (no coordinated omission).
 */
#ifndef WEIR_TOOL_LOAD_H
#define WEIR_TOOL_LOAD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "hist.h"

#define LOAD_PACKET_HEADER 4      /* big-endian length of the payload */
#define LOAD_PAYLOAD_MAX 65532u   /* header and payload fill 64 KiB */
#define LOAD_DEPTH_MAX 1024u      /* packets in flight on a connection */
#define LOAD_SPARE_DESCRIPTORS 32 /* what a process holds beside sockets */

enum load_protocol {
	LOAD_PACKET, /* length and payload */
	LOAD_RAW,    /* payload alone; the server echoes bytes */
};

/* Why connections or packets were lost: name, key in JSON, text. */
#define LOAD_CAUSES(X)                                                         \
	X(REFUSED, connect_refused, "connections refused")                     \
	X(CONNECT_TIMEOUT, connect_timeout, "connects that timed out")         \
	X(NO_PORT, connect_no_port, "connects without a free local port")      \
	X(NO_DESCRIPTOR, connect_no_descriptor, "connects without descriptor") \
	X(CONNECT_OTHER, connect_other, "connects that failed otherwise")      \
	X(RESET, reset, "connections reset by the server")                     \
	X(CLOSED, closed, "connections closed by the server")                  \
	X(UNASKED, unasked, "connections that sent bytes nobody asked for")    \
	X(IO, io, "connections lost by another error")                         \
	X(UNANSWERED, unanswered, "packets not answered in time")

enum load_cause {
#define LOAD_CAUSE_NAME(name, key, text) LOAD_##name,
	LOAD_CAUSES(LOAD_CAUSE_NAME)
#undef LOAD_CAUSE_NAME
	    LOAD_CAUSE_COUNT
};

struct load_config {
	struct sockaddr_storage address;
	socklen_t address_bytes;
	uint32_t connections;
	uint32_t active; /* the rest stays connected and silent */
	uint32_t payload_bytes;
	uint32_t depth;
	uint64_t timeout_ns; /* without any progress: give up waiting */
	enum load_protocol protocol;
	bool verify;
	const volatile sig_atomic_t *stop; /* ends any call early; or NULL */
};

struct load_run {
	uint64_t warmup_ns;
	uint64_t duration_ns; /* 0: until the packets are through, or stop */
	uint64_t packets;     /* 0: no limit; needs warmup_ns == 0 */
	uint64_t rate;        /* packets/s of the open loop; 0: closed loop */
	bool burst; /* depth packets on each active connection, and no more;
		       closed loop, duration 0, packets 0 */

	/* Called when the measured window begins and when it ends. */
	void (*mark)(void *context, bool begin);
	void *context;
};

/* Where the first wrong byte was. */
struct load_mismatch {
	uint32_t connection;
	uint32_t offset; /* in the packet, header included */
	uint64_t packet;
	uint8_t expected;
	uint8_t got;
};

struct load_report {
	uint64_t packets;     /* answered and right, in the measured window */
	uint64_t elapsed_ns;  /* length of the window */
	uint64_t cpu_ns;      /* of this thread, in the window */
	uint64_t all_packets; /* with warm-up and drain */
	uint64_t mismatches;  /* packets that came back wrong, whole run */
	uint64_t errors[LOAD_CAUSE_COUNT]; /* whole run */
	uint64_t backlog;   /* open loop: due in time, never sent */
	uint32_t connected; /* connections alive at the end */
	bool stopped;       /* config.stop ended it */
	struct load_mismatch first_mismatch;
	struct hist latency; /* ns */
};

struct load;

/**
 * load_create() - an engine without connections.
 *
 * Returns 0, -EINVAL for a size or count outside its limits, or -ENOMEM; or
 * the error of epoll_create1().  *out is NULL on failure.
 */
int load_create(struct load **out, const struct load_config *config);

/**
 * load_connect() - make the connections; failures are counted by cause.
 *
 * Connects in batches, and has the server answer one packet after each, so
 * that what is connected is accepted too and the backlog never overflows.
 */
void load_connect(struct load *load, struct load_report *report);

/** load_run() - drive the server; @report is overwritten. */
void load_run(
    struct load *load, const struct load_run *run, struct load_report *report);

/** load_destroy() - reset all connections; accepts NULL. */
void load_destroy(struct load *load);

/** load_errors() - the sum over all causes. */
uint64_t load_errors(const struct load_report *report);

/** load_cause_key(), load_cause_text() - names of a cause. */
const char *load_cause_key(enum load_cause cause);
const char *load_cause_text(enum load_cause cause);

/**
 * load_raise_descriptors() - raise the soft limit of descriptors to the hard.
 *
 * Returns how many connections fit.
 */
uint64_t load_raise_descriptors(void);

#endif /* WEIR_TOOL_LOAD_H */
