/* SPDX-License-Identifier: MIT */
/*
 * net/spare.h - the descriptor kept to turn connections away with.
 */
#ifndef WEIRI_NET_SPARE_H
#define WEIRI_NET_SPARE_H

#include "os/os.h"

#include <stdbool.h>

struct weiri_spare {
	struct weiri_mutex lock; /* fd; held over close, accept and open */
	int fd;                  /* -1: none to be had */
	bool given_up;           /* atomic */
};

/* Takes its descriptor if there is one; it is tried for again when needed. */
void weiri_spare_init(struct weiri_spare *spare);
void weiri_spare_destroy(struct weiri_spare *spare);

/* There are no descriptors: accepts one connection of the listening socket in
 * the spare's place and resets it.  0; -EMFILE if the spare is gone too;
 * otherwise -errno of accept. */
int weiri_spare_refuse(struct weiri_spare *spare, int listener);

/* @fd was just accepted.  True: it had the spare's number, and was reset so
 * that the next peer can be answered. */
bool weiri_spare_reclaim(struct weiri_spare *spare, int fd);

#endif /* WEIRI_NET_SPARE_H */
