/* SPDX-License-Identifier: MIT */
/*
 * broadcast_check.c - walks a broadcast and tests R1 to R5 of broadcast.c.
 */
#include "pools/broadcast.h"

#include "base/text.h"
#include "config/config.h"

/* Receivers of one list, or UINT64_MAX if a link or a member is wrong. */
static uint64_t
broadcast_count(const struct weir_broadcast *b, uint32_t first,
    const struct weiri_message *at)
{
	uint32_t previous = WEIRI_RECEIVER_NONE;
	uint64_t count = 0;

	for (uint32_t i = first; i != WEIRI_RECEIVER_NONE;
	     i = b->table[i].next) {
		const struct weiri_receiver *r = &b->table[i];

		/* By the last of them none is met twice. */
		if ((r->flags & WEIRI_RECEIVER_USED) == 0 || r->at != at ||
		    r->previous != previous)
			return UINT64_MAX;
		if (at == NULL ? r->offset != 0
			       : r->offset >= at->slice.bytes ||
				     (at->rest && r->offset == 0))
			return UINT64_MAX;
		previous = i;
		count++;
	}
	return count;
}

static const char *
broadcast_check_list(const struct weir_broadcast *b,
    const struct weiri_list *list, bool rests, uint64_t *receivers)
{
	uint64_t serial = 0, messages = 0, pinned = 0;

	WEIRI_LIST_FOR(node, list)
	{
		const struct weiri_message *m = weiri_message_of(node);
		uint64_t count = broadcast_count(b, m->first, m);

		if (count != m->count || m->rest != rests)
			return "R2: a message has other receivers than it says";
		if (count == 0 &&
		    (rests || (messages == 0 &&
				  (b->rest_count == 0 || node->next != list))))
			return "R2: nobody waits for a message that is kept";
		if (!rests && serial != 0 && m->serial != serial + 1)
			return "R3: a message is missing";
		serial = m->serial;
		messages++;
		pinned += weiri_message_pins(m);
		*receivers += count;
	}
	if (rests)
		return messages == b->rest_count
			   ? NULL
			   : "R5: the number of rests is wrong";
	if (messages != b->message_count || pinned != b->pinned)
		return "R5: the sums over the messages are wrong";
	return NULL;
}

bool
weir_broadcast_check(const struct weir_broadcast *b)
{
	uint64_t receivers = broadcast_count(b, b->up_to_date, NULL);
	const char *why =
	    broadcast_check_list(b, &b->messages, false, &receivers);

	if (why == NULL)
		why = broadcast_check_list(b, &b->rests, true, &receivers);
	if (why == NULL && receivers != b->receivers)
		why = "R1: a receiver is in no list, or in two";
	if (why == NULL && weiri_broadcast_over(b))
		why = "R5: more waits than the bounds allow";
	if (why == NULL)
		return true;

	char line[160];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "broadcast: ");
	weiri_text_str(&text, why);
	weiri_message(WEIR_MESSAGE_ERROR, line);
	return false;
}
