/* SPDX-License-Identifier: MIT */
/*
 * peers.c - how many connections each address has.
 *
 * A limit per address keeps one client from taking all connections, or all
 * buffers by way of many.  An address is an IPv4 address, or the first 64 bits
 * of an IPv6 one: whoever has one of those networks has all its addresses.
 *
 * One table under one lock for all loops of an engine, touched when a
 * connection comes and when it goes.  Peers have ids that stay while the table
 * grows, so a connection keeps four bytes and nothing is looked up at its end.
 * The hash is keyed: nobody can choose addresses that share a bucket.
 *
 * Invariants:
 *  E1  A peer in a bucket has count > 0; one with count 0 is on the free list.
 *  E2  The counts add up to the connections that entered and have not left.
 */
#include "net/peers.h"

#include "base/compiler.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PEERS_ROOM_MIN 64

struct weiri_peer {
	uint64_t key;
	uint32_t count;
	uint32_t next; /* in its bucket, or on the free list */
};

void
weiri_peers_init(struct weiri_peers *peers)
{
	memset(peers, 0, sizeof(*peers));
	weiri_mutex_init(&peers->lock);
	peers->secret = weiri_os_random();
}

void
weiri_peers_destroy(struct weiri_peers *peers)
{
	free(peers->peer);
	free(peers->bucket);
	weiri_mutex_destroy(&peers->lock);
}

/* A network that nobody sends from, as a place for IPv4 addresses. */
static uint64_t
peers_key_v4(const void *v4)
{
	unsigned char raw[sizeof(uint64_t)] = {0xff}; /* multicast */
	uint64_t key;

	memcpy(raw + 4, v4, 4);
	memcpy(&key, raw, sizeof(key));
	return key;
}

static int
peers_key(int fd, uint64_t *key)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_storage room;
	} address = {.any = {.sa_family = AF_UNSPEC}};
	socklen_t bytes = sizeof(address);

	if (getpeername(fd, &address.any, &bytes) != 0)
		return -errno;
	if (address.any.sa_family == AF_INET6) {
		const unsigned char *raw = address.v6.sin6_addr.s6_addr;
		memcpy(key, raw, sizeof(*key));
		if (IN6_IS_ADDR_V4MAPPED(&address.v6.sin6_addr))
			*key = peers_key_v4(raw + 12);
	} else {
		*key = peers_key_v4(&address.v4.sin_addr);
	}
	return 0;
}

static uint32_t *
peers_bucket(const struct weiri_peers *peers, uint64_t key)
{
	return &peers->bucket[weiri_peers_hash(key, peers->secret) &
			      (peers->room - 1)];
}

static int
peers_grow(struct weiri_peers *peers)
{
	uint32_t room = peers->room == 0 ? PEERS_ROOM_MIN : peers->room * 2;
	uint32_t *bucket =
	    room - 1 > WEIRI_PEERS_MAX ? NULL : calloc(room, sizeof(*bucket));
	struct weiri_peer *peer =
	    bucket == NULL ? NULL : realloc(peers->peer, room * sizeof(*peer));

	if (peer == NULL) {
		free(bucket);
		return -ENOMEM;
	}
	free(peers->bucket);
	peers->bucket = bucket;
	peers->peer = peer;
	peers->room = room;
	if (peers->used == 0)
		peers->used = 1; /* no peer has id 0 */
	for (uint32_t id = 1; id < peers->used; id++) {
		if (peer[id].count == 0)
			continue;
		uint32_t *first = peers_bucket(peers, peer[id].key);
		peer[id].next = *first;
		*first = id;
	}
	return 0;
}

static uint32_t
peers_find(const struct weiri_peers *peers, uint64_t key)
{
	uint32_t id = peers->room == 0 ? 0 : *peers_bucket(peers, key);

	while (id != 0 && peers->peer[id].key != key)
		id = peers->peer[id].next;
	return id;
}

static int
peers_add(struct weiri_peers *peers, uint64_t key, uint32_t *out)
{
	uint32_t id = peers->free_id;
	int error = 0;

	if (id != 0)
		peers->free_id = peers->peer[id].next;
	else if (peers->used == peers->room)
		error = peers_grow(peers);
	if (error != 0)
		return error;
	if (id == 0)
		id = peers->used++;
	uint32_t *first = peers_bucket(peers, key);
	peers->peer[id] = (struct weiri_peer){.key = key, .next = *first};
	*first = *out = id;
	return 0;
}

int
weiri_peers_enter(
    struct weiri_peers *peers, int fd, uint32_t most, uint32_t *id)
{
	uint64_t key = 0;
	int error = peers_key(fd, &key);

	*id = 0;
	if (error != 0)
		return error;
	weiri_mutex_lock(&peers->lock);
	*id = peers_find(peers, key);
	if (*id == 0)
		error = peers_add(peers, key, id);
	else if (peers->peer[*id].count >= most)
		error = -EDQUOT;
	if (error == 0)
		peers->peer[*id].count++;
	else
		*id = 0;
	weiri_mutex_unlock(&peers->lock);
	return error;
}

void
weiri_peers_leave(struct weiri_peers *peers, uint32_t id)
{
	if (id == 0)
		return;
	weiri_mutex_lock(&peers->lock);
	struct weiri_peer *peer = &peers->peer[id];
	if (--peer->count == 0) {
		uint32_t *link = peers_bucket(peers, peer->key);
		while (*link != id)
			link = &peers->peer[*link].next;
		*link = peer->next;
		peer->next = peers->free_id;
		peers->free_id = id;
	}
	weiri_mutex_unlock(&peers->lock);
}
