/* SPDX-License-Identifier: MIT */
/*
 * serve_options.c - the command line of `weir serve`.
 */
#include "serve.h"

#include <string.h>
#include <sys/socket.h>

#include "address.h"

#define SERVE_THREADS_MAX 256

static const char *const options_backends[] = {
    "auto", "epoll", "io_uring", NULL};
static const char *const options_protocols[] = {"packet", "raw", NULL};
static const char *const options_memories[] = {"pool", "malloc", NULL};

static const char *const options_broadcasts[] = {"off", "skip", "close", NULL};

static const char *const options_presets[] = {
    "none", "100", "1000", "10000", NULL};

static const char *const options_features[] = {
#define OPTIONS_FEATURE(name, bit, word) word,
    WEIR_NET_FEATURES(OPTIONS_FEATURE)
#undef OPTIONS_FEATURE
	NULL};

static int
options_check(const struct cli_command *command, struct serve_settings *set)
{
	struct sockaddr_storage address;
	socklen_t bytes;

	if (address_parse(
		set->address, (uint16_t)set->port, &address, &bytes) != 0)
		return cli_usage(command,
		    "'%s' is no address: expected a numeric IPv4 or IPv6 "
		    "address, or localhost",
		    set->address);
	if (strcmp(set->address, "localhost") == 0)
		set->address = "127.0.0.1";
	if (set->broadcast != SERVE_ECHO && set->protocol == SERVE_RAW)
		return cli_usage(command,
		    "--broadcast sends whole packets; --protocol raw has none");
	if (set->buffer_limit_given && set->memory == SERVE_MALLOC)
		return cli_usage(command,
		    "--buffer-limit bounds weir's pools; --memory malloc has "
		    "none");
	if (set->memory == SERVE_MALLOC &&
	    (set->account_limit | set->listener_limit |
		set->connection_limit) != 0)
		return cli_usage(command,
		    "--account-limit, --listener-limit and --connection-limit "
		    "count weir's buffers; --memory malloc has none");
	if (set->buffer_limit_given &&
	    set->buffer_limit <
		(set->threads + 1) * (uint64_t)WEIR_NET_BUFFER_BYTES_MAX)
		return cli_usage(command,
		    "--buffer-limit is too small: each of the %llu threads "
		    "keeps 64 KiB in reserve and needs room to work; give at "
		    "least %lluk",
		    (unsigned long long)set->threads,
		    (unsigned long long)(set->threads + 1) * 64);
	return CLI_GO_ON;
}

static struct serve_settings options_set = {
    .address = "127.0.0.1",
    .port = 7700,
    .threads = 1,
    .broadcast_messages = 1024,
    .send_quota = 65536,
    .stall_ns = UINT64_C(30000000000),
    .hold_ns = UINT64_C(5000000000),
    .grace_ns = UINT64_C(5000000000),
};

static const struct cli_option options_table[] = {
    {.name = "address",
	.letter = 'a',
	.kind = CLI_STRING,
	.target = &options_set.address,
	.value_name = "ADDR",
	.help = "address to listen on, numeric; 0.0.0.0 or :: "
		"for all"},
    {.name = "port",
	.letter = 'p',
	.kind = CLI_U64,
	.target = &options_set.port,
	.max = 65535,
	.value_name = "PORT",
	.help = "port, 0 for any free one"},
    {.name = "threads",
	.letter = 't',
	.kind = CLI_U64,
	.target = &options_set.threads,
	.min = 1,
	.max = SERVE_THREADS_MAX,
	.help = "loops, each a thread with a listener of its "
		"own"},
    {.name = "backend",
	.letter = 'b',
	.kind = CLI_ENUM,
	.target = &options_set.backend,
	.choices = options_backends,
	.help = "system interface"},
    {.name = "preset",
	.kind = CLI_ENUM,
	.target = &options_set.preset,
	.choices = options_presets,
	.help =
	    "values for about so many connections, of those of --send-quota, "
	    "--prealloc, --stall-timeout, --idle-timeout and "
	    "--packet-timeout that are not given"},
    {.name = "without",
	.kind = CLI_SET,
	.target = &options_set.without,
	.choices = options_features,
	.help = "what io_uring must not use, though the system has it; see "
		"the line 'backend' for what it uses"},
    {.name = "with",
	.kind = CLI_SET,
	.target = &options_set.with,
	.choices = options_features,
	.help = "what io_uring may use beside what it uses by itself, where "
		"the system has it: direct, incremental; and zero-copy, of "
		"sends of 32 KiB and more, to peers on this machine, too"},
    {.name = "protocol",
	.kind = CLI_ENUM,
	.target = &options_set.protocol,
	.choices = options_protocols,
	.help = "length and payload, or bytes alone"},
    {.name = "broadcast",
	.kind = CLI_ENUM,
	.target = &options_set.broadcast,
	.choices = options_broadcasts,
	.help = "send each packet to all connections; who is slow is passed "
		"over, or closed"},
    {.name = "broadcast-messages",
	.kind = CLI_U64,
	.target = &options_set.broadcast_messages,
	.min = 1,
	.max = 1000000,
	.value_name = "N",
	.help = "slow is who is more messages behind than this"},
    {.name = "memory",
	.letter = 'm',
	.kind = CLI_ENUM,
	.target = &options_set.memory,
	.choices = options_memories,
	.help = "weir pools, or a malloc for each buffer and "
		"object"},
    {.name = "connections-max",
	.letter = 'c',
	.kind = CLI_U64,
	.target = &options_set.connections_max,
	.max = UINT32_MAX,
	.value_name = "N",
	.help = "refuse connections above this many; 0: what "
		"descriptors allow"},
    {.name = "address-max",
	.kind = CLI_U64,
	.target = &options_set.address_max,
	.max = UINT32_MAX,
	.value_name = "N",
	.help = "refuse connections above this many of one "
		"address; 0: none"},
    {.name = "buffer-limit",
	.kind = CLI_BYTES,
	.target = &options_set.buffer_limit,
	.min = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	.given = &options_set.buffer_limit_given,
	.no_default = true,
	.help = "most bytes in buffers at any moment; none "
		"unless given"},
    {.name = "account-limit",
	.kind = CLI_BYTES,
	.target = &options_set.account_limit,
	.min = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	.no_default = true,
	.help =
	    "most bytes that all connections together may pin; near it they "
	    "stop receiving, and who holds most is closed if that does not "
	    "help; none unless given"},
    {.name = "listener-limit",
	.kind = CLI_BYTES,
	.target = &options_set.listener_limit,
	.min = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	.no_default = true,
	.help = "the same for the connections of each thread's listener"},
    {.name = "connection-limit",
	.kind = CLI_BYTES,
	.target = &options_set.connection_limit,
	.min = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	.no_default = true,
	.help = "the same for each connection"},
    {.name = "send-quota",
	.kind = CLI_BYTES,
	.target = &options_set.send_quota,
	.given = &options_set.send_quota_given,
	.min = 1,
	.max = UINT32_MAX,
	.help = "stop receiving from a connection whose unsent "
		"answers hold this much"},
    {.name = "prealloc",
	.kind = CLI_U64,
	.target = &options_set.prealloc,
	.given = &options_set.prealloc_given,
	.max = 10000000,
	.value_name = "N",
	.help = "make ready for this many connections at start"},
    {.name = "stall-timeout",
	.kind = CLI_TIME,
	.target = &options_set.stall_ns,
	.given = &options_set.stall_given,
	.help = "close a connection that holds memory without "
		"progress for so long; 0: only while others "
		"wait for memory"},
    {.name = "hold-timeout",
	.kind = CLI_TIME,
	.target = &options_set.hold_ns,
	.help = "while others wait for memory, close a connection that "
		"held some for so long and moved less than 64 KiB "
		"meanwhile; 0: never"},
    {.name = "idle-timeout",
	.kind = CLI_TIME,
	.target = &options_set.idle_ns,
	.given = &options_set.idle_given,
	.help = "close a connection that receives nothing for "
		"so long; 0: never"},
    {.name = "packet-timeout",
	.kind = CLI_TIME,
	.target = &options_set.packet_ns,
	.given = &options_set.packet_given,
	.help = "close a connection whose packet is not complete so long after "
		"its first byte; 0: never"},
    {.name = "grace",
	.kind = CLI_TIME,
	.target = &options_set.grace_ns,
	.help = "at SIGINT or SIGTERM, time for answers on "
		"their way"},
    {.name = "json",
	.letter = 'j',
	.kind = CLI_STRING,
	.target = &options_set.json,
	.value_name = "FILE",
	.help = "at the end, write all figures and the number of leaks as "
		"JSON; - is standard output, which then carries nothing else "
		"but the line 'listening on'"},
};

static const struct cli_command options_command = {
    .name = "serve",
    .summary = "run the packet server on weir pools",
    .options = options_table,
    .option_count = sizeof(options_table) / sizeof(options_table[0]),
    .details = "A packet is a 4-byte big-endian length, at most 65532, and as "
	       "many bytes; it comes back byte for byte, or goes to all.  "
	       "'listening on "
	       "ADDR:PORT' on standard output says that the server is ready.  "
	       "SIGUSR1 prints figures; SIGINT and SIGTERM end the server and "
	       "print figures and a verdict on leaks (exit status 1 if any).",
};

int
serve_options(int argc, char **argv, const struct serve_settings **out)
{
	int status = cli_parse(&options_command, argc, argv);

	*out = &options_set;
	return status == CLI_GO_ON
		   ? options_check(&options_command, &options_set)
		   : status;
}
