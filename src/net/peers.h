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
