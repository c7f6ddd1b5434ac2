/* SPDX-License-Identifier: MIT */
/*
 * load_rude.h - clients that do harm: silent, deaf, unfinished, or talking
 * nonsense.
 *
 *     load_rude.c      silent, slow and half-open ones, and what they share
 *     load_garbage.c   bytes that are no packets, and resets
 *     load_broadcast.c one speaks, all must hear it: no harm, but this kind of run
 *     load_probe.c     a newcomer, and the verdict
 *     load_modes.c     the results for people and programs
 *
 * What is asked of a server is the same in every mode: it may throttle or close
 * who harms it, but it returns no wrong byte, loses nothing on a connection it
 * left open, and serves a newcomer at the end.
 */
#ifndef WEIR_TOOL_LOAD_RUDE_H
#define WEIR_TOOL_LOAD_RUDE_H

#include "load.h"

enum load_mode {
	LOAD_MODE_ECHO, /* of load.h, as is BURST */
	LOAD_MODE_IDLE,
	LOAD_MODE_SLOW_READER,
	LOAD_MODE_BURST,
	LOAD_MODE_BROADCAST,
	LOAD_MODE_HALF_OPEN,
	LOAD_MODE_GARBAGE,
};

/*
 * What garbage there is: name, key, what the server has to do with it (ANSWER
 * it byte for byte, CLOSE the connection, or bear that it is gone), text.
 */
/* clang-format off */
#define RUDE_GARBAGE(X)                                                  \
	X(EMPTY, empty, ANSWER, "packets of length 0")                   \
	X(LARGEST, largest, ANSWER, "packets of the largest length")     \
	X(BYTEWISE, bytewise, ANSWER, "packets sent byte by byte")       \
	X(BEYOND, beyond, CLOSE, "lengths one above the largest")        \
	X(NEGATIVE, negative, CLOSE, "lengths of 0xffffffff")            \
	X(RANDOM, random, CLOSE, "random bytes")                         \
	X(CUT, cut, BEAR, "resets inside a packet")                      \
	X(KNOCK, knock, BEAR, "resets right after the connect")
/* clang-format on */

enum rude_garbage {
#define RUDE_NAME(name, key, due, text) RUDE_##name,
	RUDE_GARBAGE(RUDE_NAME)
#undef RUDE_NAME
	    RUDE_GARBAGE_COUNT
};

struct rude_config {
	struct sockaddr_storage address;
	socklen_t address_bytes;
	enum load_mode mode;
	enum load_protocol protocol;
	uint32_t connections;
	uint32_t payload_bytes;
	uint64_t pump_bytes;  /* a slow reader sends at most; 0: no end */
	uint64_t duration_ns; /* 0: until stop */
	uint64_t timeout_ns;  /* for a connect, an answer, a close */
	uint64_t seed;        /* of the random bytes */
	bool leave;           /* at the end, without asking for what is due */
	const volatile sig_atomic_t *stop; /* ends it early; or NULL */
};

struct rude_kind {
	uint64_t played;
	uint64_t answered; /* whole and right */
	uint64_t closed;   /* by the server, reset or not */
	uint64_t ignored;  /* neither in time */
};

struct rude_report {
	uint64_t connect_ns;
	uint64_t elapsed_ns; /* of the window */
	uint64_t connected;  /* in all */
	uint64_t sent_bytes; /* in the window */
	uint64_t most_bytes; /* by one connection */
	uint64_t throttled;  /* open at its end, and not taken from any more */
	uint64_t closed;     /* by the server, in order ... */
	uint64_t reset;      /* ... and by reset */
	uint64_t first_ns;   /* when the first of those was, in the window */
	uint64_t open;       /* at the window's end */
	uint64_t recovered;  /* of those: all it was owed came, and right */
	uint64_t unanswered; /* of those: it did not come in time */
	uint64_t mismatches; /* connections with a wrong byte */
	uint64_t failed[LOAD_CAUSE_COUNT]; /* connects */
	struct rude_kind kinds[RUDE_GARBAGE_COUNT];
	uint64_t packets;       /* broadcast: that all listeners have */
	uint64_t delivered;     /* to one listener each */
	struct hist last_heard; /* ns from a packet to its last listener */
	uint64_t alive_ns; /* a newcomer's packet took; 0: it got no answer */
	bool stopped;
};

/**
 * rude_run() - do it.
 *
 * Returns 0, or -errno when it cannot begin.  Raises no signal, and closes all
 * connections by reset.
 */
int rude_run(const struct rude_config *config, struct rude_report *report);

/** rude_verdict() - did the server do all that is asked of it? */
bool rude_verdict(
    const struct rude_config *config, const struct rude_report *report);

/* ---- between those files -------------------------------------------------- */

/* A socket on its way, -errno on failure. */
int rude_socket(const struct rude_config *config);

/* The ANSWER, CLOSE and BEAR of a kind. */
enum rude_due { RUDE_ANSWER, RUDE_CLOSE, RUDE_BEAR };
enum rude_due rude_due(enum rude_garbage kind);
const char *rude_key(enum rude_garbage kind);
const char *rude_text(enum rude_garbage kind);

/* The garbage part of rude_run(). */
int rude_garbage_run(
    const struct rude_config *config, struct rude_report *report);

/* The broadcast part of rude_run(). */
int rude_broadcast_run(
    const struct rude_config *config, struct rude_report *report);

/* Is a newcomer asked for at the end?  It would speak to all in a broadcast. */
bool rude_probes(const struct rude_config *config);

/* One packet there and back on a new connection: ns, 0 without an answer. */
uint64_t rude_probe(const struct rude_config *config);

#endif /* WEIR_TOOL_LOAD_RUDE_H */
