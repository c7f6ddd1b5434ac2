/* SPDX-License-Identifier: MIT */
/*
 * net_stream.h - what peers send, and what they are owed for it.
 *
 * A peer's stream is a function of its number: packets, each with a command and a
 * length that come of a hash.  So nothing needs to be kept to check that each byte
 * that comes back is the one it is owed, and a place in a stream is two numbers.
 *
 *     | command | length, 2 bytes | body: counts up from the hash |
 *
 * Bytes are made and compared a body at a time: a model that hashes for each of
 * them spends nearly all of its time here.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_HEADER 3u /* of a packet: what to do with it, length */

enum sim_command {
	SIM_ECHO, /* and most of the others */
	SIM_DROP,
	SIM_CLOSE,
	SIM_ABORT,
};

/* A place in a peer's stream. */
struct sim_cursor {
	uint32_t packet;
	uint32_t at;
};

static uint64_t
sim_hash(uint32_t id, uint32_t packet)
{
	uint64_t hash = ((uint64_t)id << 32 | packet) + 1;

	hash *= UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 29;
}

static enum sim_command
sim_command_of(uint32_t id, uint32_t packet)
{
	uint64_t kind = sim_hash(id, packet) % 1000;

	return kind < 4    ? SIM_CLOSE
	       : kind < 8  ? SIM_ABORT
	       : kind < 80 ? SIM_DROP
			   : SIM_ECHO;
}

static uint32_t
sim_length_of(uint32_t id, uint32_t packet)
{
	uint64_t hash = sim_hash(id, packet) >> 12;
	uint32_t most = hash % 64 == 0 ? 60000 : hash % 8 == 0 ? 5000 : 300;

	return (uint32_t)(hash >> 8) % most;
}

/* To the end of the packet that the cursor is in. */
static uint32_t
sim_packet_left(uint32_t id, const struct sim_cursor *cursor)
{
	return SIM_HEADER + sim_length_of(id, cursor->packet) - cursor->at;
}

static unsigned char
sim_header_byte(uint32_t id, const struct sim_cursor *cursor)
{
	uint32_t length = sim_length_of(id, cursor->packet);

	if (cursor->at == 0)
		return (unsigned char)sim_command_of(id, cursor->packet);
	return (unsigned char)(length >> (8 * (cursor->at - 1)));
}

/* By @bytes of @left, which the packet still has. */
static void
sim_move(struct sim_cursor *cursor, uint32_t bytes, uint32_t left)
{
	cursor->at += bytes;
	if (bytes == left) {
		cursor->at = 0;
		cursor->packet++;
	}
}

/* The next bytes of one kind: a byte of a header, or of a body as many as there
 * are, @most at most; how many. */
static uint32_t
sim_stretch(uint32_t id, const struct sim_cursor *cursor, uint32_t most,
    unsigned char *first)
{
	uint32_t left = sim_packet_left(id, cursor);

	if (cursor->at < SIM_HEADER) {
		*first = sim_header_byte(id, cursor);
		return 1;
	}
	*first = (unsigned char)(sim_hash(id, cursor->packet) + cursor->at);
	return left < most ? left : most;
}

/* The next @bytes of the stream. */
static void
sim_next(
    uint32_t id, struct sim_cursor *cursor, unsigned char *to, uint32_t bytes)
{
	while (bytes > 0) {
		unsigned char first;
		uint32_t run = sim_stretch(id, cursor, bytes, &first);

		for (uint32_t i = 0; i < run; i++)
			to[i] = (unsigned char)(first + i);
		sim_move(cursor, run, sim_packet_left(id, cursor));
		to += run;
		bytes -= run;
	}
}

/* To the end of the packet that lies @bytes ahead; how many that is in all. */
static uint32_t
sim_whole(uint32_t id, struct sim_cursor cursor, uint32_t bytes)
{
	uint32_t whole = 0;

	while (whole < bytes || cursor.at != 0) {
		uint32_t left = sim_packet_left(id, &cursor);

		whole += left;
		sim_move(&cursor, left, left);
	}
	return whole;
}

/* Packets that are not answered. */
static void
sim_skip_silent(uint32_t id, struct sim_cursor *cursor)
{
	while (
	    cursor->at == 0 && sim_command_of(id, cursor->packet) != SIM_ECHO)
		cursor->packet++;
}

/* Of what comes back, which is packets that are answered: how many of @bytes are
 * right, from the first on; and what is owed in place of the next, if any. */
static size_t
sim_compare(uint32_t id, struct sim_cursor *cursor, const unsigned char *data,
    size_t bytes, unsigned char *owed)
{
	size_t done = 0;

	while (done < bytes) {
		size_t most =
		    bytes - done < UINT32_MAX ? bytes - done : UINT32_MAX;
		unsigned char differs = 0;
		uint32_t run;

		sim_skip_silent(id, cursor);
		run = sim_stretch(id, cursor, (uint32_t)most, owed);
		for (uint32_t i = 0; i < run; i++)
			differs |= data[done + i] ^ (unsigned char)(*owed + i);
		if (differs != 0) {
			for (; data[done] == *owed; done++)
				++*owed;
			return done;
		}
		sim_move(cursor, run, sim_packet_left(id, cursor));
		done += run;
	}
	return done;
}

#endif /* NET_STREAM_H */
