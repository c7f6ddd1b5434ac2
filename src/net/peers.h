/* SPDX-License-Identifier: MIT */
/*
 * net/peers.h - how many connections each address has.
 */
#ifndef WEIRI_NET_PEERS_H
#define WEIRI_NET_PEERS_H

#include "os/os.h"

#include <stdint.h>

/* Most addresses at a time; an id has 24 bits. */
#define WEIRI_PEERS_MAX UINT32_C(0xffffff)

/* Who has a network has a range of keys, and may use them all.  Each bit of a
 * key moves each bit of the hash, or part of the range would share a bucket
 * whatever the secret is. */
WEIRI_INLINE uint32_t
weiri_peers_hash(uint64_t key, uint64_t secret)
{
	uint64_t hash = key ^ secret;

	hash = (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93);
	hash = (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return (uint32_t)(hash ^ hash >> 32);
}

struct weiri_peer;

struct weiri_peers {
	struct weiri_mutex lock; /* all of it */
	struct weiri_peer *peer; /* by id; 0 is none */
	uint32_t *bucket;        /* by hash: the first id */
	uint32_t room;           /* ids, and buckets: a power of two */
	uint32_t used;           /* ids handed out so far */
	uint32_t free_id;        /* given back: a list */
	uint64_t secret;         /* of the hash */
};

void weiri_peers_init(struct weiri_peers *peers);
void weiri_peers_destroy(struct weiri_peers *peers);

/* One more connection from where socket @fd leads to.  Its peer's id in *id, 0
 * on failure: -EDQUOT: it has @most; -ENOMEM; -errno of getpeername(). */
int weiri_peers_enter(
    struct weiri_peers *peers, int fd, uint32_t most, uint32_t *id);

/* One less; 0 is ignored. */
void weiri_peers_leave(struct weiri_peers *peers, uint32_t id);

#endif /* WEIRI_NET_PEERS_H */
