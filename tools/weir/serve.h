/* SPDX-License-Identifier: MIT */
/*
 * serve.h - what the files of `weir serve` share.
 *
 *   cmd_serve.c     start, signals, end
 *   serve_options.c the command line
 *   serve_echo.c    the two protocols, echoed or broadcast, on public headers only
 *   serve_memory.c  malloc in place of weir's pools, for comparison
 *   serve_report.c  figures, also without waiting, verdict on leaks, complaints
 */
#ifndef WEIR_TOOL_SERVE_H
#define WEIR_TOOL_SERVE_H

#include <weir/channel.h>

#include <stdio.h>

#include "cli.h"

/* A packet: 4 bytes, the length of the payload in network order, and it. */
#define SERVE_HEADER_BYTES 4u
#define SERVE_PAYLOAD_MAX (WEIR_NET_BUFFER_BYTES_MAX - SERVE_HEADER_BYTES)

enum serve_protocol {
	SERVE_PACKET,
	SERVE_RAW,
};

/* What a packet is answered with. */
enum serve_broadcast {
	SERVE_ECHO,
	SERVE_SKIP, /* to all, and passing over who is slow */
	SERVE_CLOSE,
};

enum serve_memory_kind {
	SERVE_POOL,
	SERVE_MALLOC,
};

struct serve_settings {
	const char *address;
	uint64_t port;
	uint64_t threads;
	uint64_t connections_max;
	uint64_t address_max;
	uint64_t buffer_limit;
	uint64_t account_limit, listener_limit, connection_limit;
	uint64_t send_quota;
	uint64_t prealloc;
	uint64_t stall_ns;
	uint64_t hold_ns;
	uint64_t idle_ns;
	uint64_t packet_ns;
	uint64_t grace_ns;
	uint64_t without;
	uint64_t with;
	int preset; /* enum weir_net_preset, 0: none */
	int backend;
	int protocol;
	int broadcast; /* enum serve_broadcast */
	uint64_t broadcast_messages;
	int memory;
	const char *json;
	bool buffer_limit_given;
	bool send_quota_given, prealloc_given;
	bool stall_given, idle_given, packet_given;
};

/** serve_options() - read the command line; CLI_GO_ON, or the exit status. */
int serve_options(int argc, char **argv, const struct serve_settings **out);

/** serve_handlers() - @all: packets go to all its members; NULL: echo. */
struct weir_handlers serve_handlers(
    enum serve_protocol protocol, struct weir_channel *all);

/**
 * struct serve_packets - whole packets at the start of some bytes.
 * @whole_bytes: they end here.
 * @need_bytes:  bytes the packet behind them must have before more can be said
 *               of it; 0 when nothing is behind them.
 * @malformed:   what is behind them is no packet.
 */
struct serve_packets {
	uint32_t whole_bytes;
	uint32_t need_bytes;
	bool malformed;
};

struct serve_packets serve_scan(const unsigned char *data, uint32_t bytes);

/** serve_malloc() - the engine's memory as one malloc for each piece. */
const struct weir_net_memory *serve_malloc(void);

/** What serve_malloc() has handed out. */
struct serve_malloc_counts {
	uint64_t buffers_taken;
	uint64_t buffers_given;
	uint64_t objects_taken;
	uint64_t objects_given;
};

/**
 * serve_malloc_collect() - add the calling thread's counts to the total.
 *
 * Every thread that served calls it once at its end; counting per thread keeps
 * the comparison free of a shared line that malloc itself does not have.
 */
void serve_malloc_collect(void);
struct serve_malloc_counts serve_malloc_total(void);

/** serve_report_channel() - figures of a channel for people. */
void serve_report_channel(FILE *out, struct weir_channel *channel);

/** serve_report() - figures of engine and pools for people. */
void serve_report(FILE *out, struct weir_net *net);

/**
 * serve_report_offer() - the same without ever waiting for a reader.
 * @out:     what was written to it before is flushed.
 * @dropped: reports in a row that did not go out whole, kept by the caller;
 *           the next one that does begins by saying so.
 */
void serve_report_offer(FILE *out, struct weir_net *net, uint64_t *dropped);
void serve_report_dropped(FILE *out, uint64_t dropped); /* says so, if any */

/**
 * serve_report_json() - the same and the number of leaks, as one JSON object.
 *
 * Returns 0, or -errno when it could not be written whole.
 */
int serve_report_json(FILE *out, struct weir_net *net, uint64_t leaks);

/**
 * serve_leaks() - what is still out, once the loops are gone.
 * @out: receives "leaks: none" or one line for each kind; NULL: silent.
 *
 * Returns the number of things out.
 */
uint64_t serve_leaks(FILE *out, struct weir_net *net);

/** serve_complain() - why the server could not run; @error is -errno. */
void serve_complain(const char *address, uint64_t port, int error);

#endif /* WEIR_TOOL_SERVE_H */
