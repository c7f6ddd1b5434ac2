/* SPDX-License-Identifier: MIT */
/*
 * buffer_gate.c - requests that wait for a buffer, in order and by purpose.
 *
 * A request can be refused by its tier, by limit_bytes, by any level of its
 * account, or for want of memory, and what ends the refusal may be a release in
 * another pool that has the same account.  So there is one gate for the process:
 *
 *     request:  try - queue up, fence - serve - sleep - own a buffer, or give up
 *     release:  give back, fence - look at attention - serve
 *
 * Both write first and read then: a release that does not see the waiter has
 * given back what the waiter's own round of serving finds.  (models/wait.pml is
 * this protocol.)  To find it, nothing may be out of reach: the depots of a pool
 * that waits keep free buffers in pockets that any thread can take (wait.c).
 *
 * One thread serves at a time, without the lock while it tries on behalf of a
 * waiter; others who come meanwhile ask it to go round again.  It tries for
 * senders first, then for control messages, then for receives; within those, in
 * order of arrival.  What refused one is closed to those behind it, which is
 * what keeps the order: a large request is not overtaken for ever by small ones
 * that take each byte that is given back.  Those who need nothing that is closed
 * are served past it.
 *
 * A try charges before it knows that all will be granted, and what it takes back
 * may have been in another's way.  Among servers that cannot be, since there is
 * one; a request that fails outside lets the server look again.
 *
 * Invariants:
 *
 *   G1  Under the lock, attention is the number of turns in all lists, and a
 *       pool is in `pools` exactly while it has one.
 *   G2  A turn leaves its list under the lock, with a buffer or at the end of
 *       its time, never both, and never while the server tries for it.
 *   G3  The lock is a leaf: list operations and wake-ups under it.
 */
#include "pools/buffer_gate.h"

#include "base/bits.h"
#include "pools/account.h"
#include "pools/buffer.h"
#include "slab/stock.h"

/* Accounts that one round finds closed; beyond, it ends early. */
#define GATE_LEVELS 16

/* Who waits for memory looks again by itself: nobody tells when other parts of
 * the process give some back. */
#define GATE_MEMORY_NS UINT64_C(20000000)

/* The server ends its try within that, mostly. */
#define GATE_SERVER_NS UINT64_C(20000)

/* On the stack of its thread. */
struct gate_turn {
	struct weiri_list link;
	struct weiri_buffer_tier *tier;
	struct weir_account *account;
	enum weir_buffer_use use;
	struct weir_buffer *buffer;
	struct weiri_refusal refusal; /* the last */
	uint64_t turns;               /* of the tier, at arrival */
	bool counts;                  /* as one that waits */
	uint32_t given; /* 1: buffer is set; what the thread sleeps on */
};

static struct {
	struct weiri_mutex lock;
	struct weiri_list pools;
	struct gate_turn *current; /* the server tries for it */
	bool serving;
	bool again;
} gate_all = {
    .lock = WEIRI_MUTEX_INITIALIZER,
    .pools = WEIRI_LIST_INITIALIZER(gate_all.pools),
};

WEIRI_ALIGNED(WEIRI_CACHE_LINE) uint32_t weiri_gate_attention;

/* This thread is the server. */
static __thread bool gate_mine;

static weiri_once gate_once = WEIRI_ONCE_INITIALIZER;

static struct weir_buffer_pool *
gate_pool(struct weiri_list *node)
{
	return WEIRI_CONTAINER_OF(node, struct weir_buffer_pool, gate.pools);
}

/* ---- fork ---------------------------------------------------------------- */

static void
gate_fork_lock(void)
{
	weiri_mutex_lock(&gate_all.lock);
}

static void
gate_fork_unlock(void)
{
	weiri_mutex_unlock(&gate_all.lock);
}

/* Who waited is in another process now; a server that forked in a hook finds
 * its turn on no list. */
static void
gate_fork_child(void)
{
	WEIRI_LIST_FOR_SAFE(node, &gate_all.pools)
	{
		struct weiri_gate *gate = &gate_pool(node)->gate;

		for (unsigned use = 0; use < WEIR_BUFFER_USES; use++) {
			WEIRI_LIST_FOR_SAFE(turn, &gate->waiters[use])
			weiri_list_remove(turn);
		}
		for (uint32_t i = 0; i < gate_pool(node)->tier_count; i++)
			gate_pool(node)->tier[i].gate.waiting = 0;
		gate->waiting = 0;
		weiri_list_remove(node);
	}
	gate_all.serving = gate_mine;
	WEIRI_STORE(&weiri_gate_attention, 0);
	weiri_mutex_unlock(&gate_all.lock);
}

static void
gate_start(void)
{
	/* Without it only a fork in the middle of a turn could hang. */
	(void)weiri_os_at_fork(
	    gate_fork_lock, gate_fork_unlock, gate_fork_child);
}

/* ---- serving ------------------------------------------------------------- */

/* What the round under way found closed. */
struct gate_round {
	const struct weir_account *level[GATE_LEVELS];
	size_t levels;
	bool over;
};

static bool
gate_closed_account(
    const struct gate_round *round, const struct weir_account *account)
{
	if (account == NULL)
		return false;
	for (size_t i = 0; i < round->levels; i++)
		if (weiri_account_within(account, round->level[i]))
			return true;
	return false;
}

static bool
gate_is_closed(const struct gate_round *round, const struct gate_turn *turn)
{
	const struct weiri_gate *gate = &turn->tier->pool->gate;

	return gate->closed_bytes ||
	       (gate->closed_tiers >> turn->tier->index & 1) != 0 ||
	       gate_closed_account(round, turn->account);
}

/* Locked. */
static void
gate_close(struct gate_round *round, struct gate_turn *turn,
    const struct weiri_refusal *refusal)
{
	struct weiri_buffer_tier *tier = turn->tier;
	struct weiri_gate *gate = &tier->pool->gate;

	turn->refusal = *refusal;
	switch (refusal->by) {
	case WEIRI_REFUSED_BY_TIER:
		gate->closed_tiers |= UINT32_C(1) << tier->index;
		break;
	case WEIRI_REFUSED_BY_BYTES:
		gate->closed_bytes = true;
		break;
	case WEIRI_REFUSED_BY_ACCOUNT:
		if (round->levels == GATE_LEVELS)
			round->over = true;
		else
			round->level[round->levels++] = refusal->level;
		break;
	}
}

/* Locked: off its list, and out of all counts. */
static void
gate_remove(struct gate_turn *turn)
{
	struct weiri_buffer_tier *tier = turn->tier;

	weiri_list_remove(&turn->link);
	WEIRI_STORE(&tier->gate.waiting, tier->gate.waiting - 1);
	WEIRI_STORE(&tier->pool->gate.waiting, tier->pool->gate.waiting - 1);
	__atomic_fetch_sub(&weiri_gate_attention, 1, __ATOMIC_RELAXED);
}

/* Locked.  The turn may be gone as soon as `given` is seen. */
static void
gate_give(struct gate_turn *turn, struct weir_buffer *buffer)
{
	struct weiri_gate_tier *gate = &turn->tier->gate;
	uint64_t passed = gate->turns - turn->turns;

	gate_remove(turn);
	WEIRI_STORE(&gate->turns_max, weiri_max(gate->turns_max, passed));
	gate->turns++;
	turn->buffer = buffer;
	__atomic_store_n(&turn->given, 1, __ATOMIC_RELEASE);
	weiri_os_wake(&turn->given);
}

/* Short of its limit a tier is refused memory. */
static bool
gate_lacks_memory(
    struct weiri_buffer_tier *tier, const struct weiri_refusal *refusal)
{
	return refusal->by == WEIRI_REFUSED_BY_TIER &&
	       weiri_stock_may_grow(&tier->depot);
}

/* Locked, but not while it tries.  The place behind the turn, which may be gone
 * then; NULL: it is no turn of this process. */
static struct weiri_list *
gate_try(struct gate_round *round, struct gate_turn *turn)
{
	struct weiri_buffer_tier *tier = turn->tier;
	struct weiri_refusal refusal;
	struct weir_buffer *buffer;
	struct weiri_list *next;
	bool memory = false;

	gate_all.current = turn;
	weiri_mutex_unlock(&gate_all.lock);
	buffer = weiri_buffer_try(tier, turn->account, turn->use, &refusal);
	if (buffer == NULL)
		memory = gate_lacks_memory(tier, &refusal);
	weiri_mutex_lock(&gate_all.lock);
	gate_all.current = NULL;
	next = turn->link.next;
	if (WEIR_UNLIKELY(next == &turn->link)) {
		/* A hook forked, and this is the child. */
		weiri_mutex_unlock(&gate_all.lock);
		weir_buffer_release(buffer);
		weiri_mutex_lock(&gate_all.lock);
		return NULL;
	}
	if (buffer != NULL) {
		gate_give(turn, buffer);
		return next;
	}
	gate_close(round, turn, &refusal);
	if (memory)
		WEIRI_STORE(&tier->pool->gate.short_of_memory, true);
	return next;
}

/* Locked: one kind of one pool's waiters; false as gate_try(). */
static bool
gate_serve_pool(struct gate_round *round, struct weir_buffer_pool *pool,
    enum weir_buffer_use use)
{
	struct weiri_list *head = &pool->gate.waiters[use];
	struct weiri_list *node = head->next;

	while (node != head && !round->over && !pool->gate.closed_bytes) {
		struct gate_turn *turn =
		    WEIRI_CONTAINER_OF(node, struct gate_turn, link);

		node = gate_is_closed(round, turn) ? node->next
						   : gate_try(round, turn);
		if (node == NULL)
			return false;
	}
	return true;
}

/* Locked: a round over all waiters. */
static void
gate_round(void)
{
	struct gate_round round = {.levels = 0};

	WEIRI_LIST_FOR(node, &gate_all.pools)
	{
		struct weiri_gate *gate = &gate_pool(node)->gate;

		gate->closed_tiers = 0;
		gate->closed_bytes = false;
		WEIRI_STORE(&gate->short_of_memory, false);
	}
	for (unsigned use = WEIR_BUFFER_USES; use-- > 0;) {
		struct weiri_list *node = gate_all.pools.next;

		while (node != &gate_all.pools) {
			struct weir_buffer_pool *pool = gate_pool(node);

			if (!gate_serve_pool(
				&round, pool, (enum weir_buffer_use)use))
				return;
			node = node->next;
			if (pool->gate.waiting == 0)
				weiri_list_remove(&pool->gate.pools);
		}
	}
}

static void
gate_serve(void)
{
	weiri_mutex_lock(&gate_all.lock);
	gate_all.again = true;
	if (!gate_all.serving) {
		gate_all.serving = gate_mine = true;
		while (gate_all.again && !weiri_list_empty(&gate_all.pools)) {
			gate_all.again = false;
			gate_round();
		}
		gate_all.serving = gate_mine = false;
	}
	weiri_mutex_unlock(&gate_all.lock);
}

void
weiri_gate_look(void)
{
	/* Pairs with the fence in gate_wait(). */
	weiri_gate_fence();
	if (WEIR_UNLIKELY(WEIRI_LOAD(&weiri_gate_attention) != 0))
		gate_serve();
}

void
weiri_gate_abandon(void)
{
	if (!gate_mine)
		return;
	weiri_mutex_lock(&gate_all.lock);
	gate_all.current = NULL;
	gate_all.serving = gate_mine = false;
	weiri_mutex_unlock(&gate_all.lock);
}

/* ---- waiting ------------------------------------------------------------- */

static void
gate_queue(struct gate_turn *turn)
{
	struct weiri_buffer_tier *tier = turn->tier;
	struct weiri_gate *gate = &tier->pool->gate;

	weiri_mutex_lock(&gate_all.lock);
	turn->turns = tier->gate.turns;
	weiri_list_append(&gate->waiters[turn->use], &turn->link);
	WEIRI_STORE(&tier->gate.waits, tier->gate.waits + turn->counts);
	WEIRI_STORE(&tier->gate.waiting, tier->gate.waiting + 1);
	WEIRI_STORE(&gate->waiting, gate->waiting + 1);
	if (weiri_list_empty(&gate->pools))
		weiri_list_append(&gate_all.pools, &gate->pools);
	__atomic_fetch_add(&weiri_gate_attention, 1, __ATOMIC_RELAXED);
	weiri_mutex_unlock(&gate_all.lock);
}

/* Off the list; false if a buffer came first, or may come right now. */
static bool
gate_leave(struct gate_turn *turn)
{
	struct weiri_gate *gate = &turn->tier->pool->gate;
	bool leaves, trying;

	weiri_mutex_lock(&gate_all.lock);
	trying = gate_all.current == turn;
	leaves = turn->given == 0 && !trying;
	if (leaves) {
		gate_remove(turn);
		if (gate->waiting == 0)
			weiri_list_remove(&gate->pools);
		WEIRI_STORE(&turn->tier->gate.timeouts,
		    turn->tier->gate.timeouts + turn->counts);
	}
	weiri_mutex_unlock(&gate_all.lock);
	if (trying)
		weiri_os_sleep_ns(GATE_SERVER_NS);
	return leaves;
}

/* Sleeps until served; false at the end of the time. */
static bool
gate_sleep(struct gate_turn *turn, uint64_t end_ns)
{
	const struct weiri_gate *gate = &turn->tier->pool->gate;

	while (__atomic_load_n(&turn->given, __ATOMIC_ACQUIRE) == 0) {
		uint64_t until_ns = end_ns;

		if (WEIRI_LOAD(&gate->short_of_memory))
			until_ns = weiri_min(
			    end_ns, weiri_os_now_ns() + GATE_MEMORY_NS);
		if (weiri_os_wait(&turn->given, 0, until_ns))
			continue;
		if (until_ns != end_ns)
			gate_serve();
		else if (gate_leave(turn))
			return false;
	}
	return true;
}

static struct weir_buffer *
gate_wait(struct weiri_buffer_tier *tier, const struct weir_buffer_want *want,
    uint64_t timeout_ns, struct weiri_refusal *refusal)
{
	struct gate_turn turn = {
	    .tier = tier,
	    .account = want->account,
	    .use = want->use,
	    .refusal = *refusal,
	    .counts = timeout_ns > 0,
	};
	uint64_t now_ns = weiri_os_now_ns();
	uint64_t end_ns =
	    timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;

	weiri_list_init(&turn.link);
	gate_queue(&turn);
	/* Pairs with the fence in weiri_gate_look(). */
	weiri_gate_fence();
	gate_serve();
	if (gate_sleep(&turn, end_ns))
		return turn.buffer;
	*refusal = turn.refusal;
	/* What was closed for its sake may be open to those behind it. */
	weiri_gate_look();
	return NULL;
}

/* Short of WEIR_LIMIT_WAIT, or where nobody waits. */
static struct weir_buffer *
gate_acquire_now(struct weiri_buffer_tier *tier,
    const struct weir_buffer_want *want, struct weiri_refusal *refusal)
{
	struct weir_buffer *buffer =
	    weiri_buffer_try(tier, want->account, want->use, refusal);

	if (buffer == NULL)
		weiri_gate_look();
	/* Taken out of more than it needed, which nobody found meanwhile; now it
	 * is back in the pocket (the exchange in wait.c, of the same order). */
	else if (tier->pool->gate.policy == WEIR_LIMIT_WAIT &&
		 WEIR_UNLIKELY(__atomic_load_n(&weiri_gate_attention,
				   __ATOMIC_SEQ_CST) != 0))
		gate_serve();
	return buffer;
}

/* For an account, they may be in other pools. */
static bool
gate_has_waiters(
    const struct weiri_gate *gate, const struct weir_account *account)
{
	if (account != NULL)
		return WEIRI_LOAD(&weiri_gate_attention) != 0;
	return WEIRI_LOAD(&gate->waiting) != 0;
}

static WEIRI_COLD void
gate_count_refusal(
    struct weiri_buffer_tier *tier, const struct weiri_refusal *refusal)
{
	bool waits = tier->pool->gate.policy == WEIR_LIMIT_WAIT;

	if (waits)
		__atomic_fetch_add(&tier->gate.failures, 1, __ATOMIC_RELAXED);
	if (refusal->by == WEIRI_REFUSED_BY_BYTES)
		__atomic_fetch_add(
		    &tier->refused_by_bytes, 1, __ATOMIC_RELAXED);
	else if (refusal->by == WEIRI_REFUSED_BY_ACCOUNT && !waits)
		__atomic_fetch_add(
		    &tier->refused_by_account, 1, __ATOMIC_RELAXED);
}

struct weir_buffer *
weiri_gate_acquire(
    struct weiri_buffer_tier *tier, const struct weir_buffer_want *want)
{
	const struct weiri_gate *gate = &tier->pool->gate;
	struct weiri_refusal refusal = {.by = WEIRI_REFUSED_BY_TIER};
	bool waits = gate->policy == WEIR_LIMIT_WAIT;
	uint64_t timeout_ns =
	    want->timeout_ns != 0 ? want->timeout_ns : gate->timeout_ns;
	struct weir_buffer *buffer = NULL;

	if (waits)
		__atomic_fetch_add(&tier->gate.requests, 1, __ATOMIC_RELAXED);
	/* For want of memory nobody waits; else it is the depot that fails. */
	if (waits && WEIR_UNLIKELY(weiri_guard_bare(&tier->guard)) &&
	    weiri_debug_refuses(&tier->guard, tier->bytes)) {
		gate_count_refusal(tier, &refusal);
		return NULL;
	}
	/* Who comes while others wait goes to the end of the queue. */
	if (!waits || !gate_has_waiters(gate, want->account))
		buffer = gate_acquire_now(tier, want, &refusal);
	if (buffer == NULL && waits && weiri_wait_depth == 0)
		buffer = gate_wait(tier, want,
		    (want->flags & WEIR_BUFFER_NO_WAIT) != 0 ? 0 : timeout_ns,
		    &refusal);
	if (buffer != NULL)
		return buffer;
	gate_count_refusal(tier, &refusal);
	if (gate->policy == WEIR_LIMIT_NOTIFY &&
	    refusal.by == WEIRI_REFUSED_BY_BYTES)
		weiri_gate_note_due(tier);
	return NULL;
}

void
weiri_gate_settle(struct weir_buffer_pool *pool)
{
	/* A server that handed out the pool's last buffer has left it behind
	 * once it let go of the lock. */
	weiri_mutex_lock(&gate_all.lock);
	WEIR_ASSERT(pool->gate.waiting == 0);
	weiri_mutex_unlock(&gate_all.lock);
}

/* ---- setup --------------------------------------------------------------- */

bool
weiri_gate_init(
    struct weir_buffer_pool *pool, const struct weir_buffer_pool_config *config)
{
	struct weiri_gate *gate = &pool->gate;
	bool reserve = false;

	*gate = (struct weiri_gate){
	    .policy = config->policy,
	    .timeout_ns = config->timeout_ns == 0 ? WEIR_WAIT_FOREVER
						  : config->timeout_ns,
	    .notify = config->notify,
	    .notify_context = config->notify_context,
	};
	weiri_list_init(&gate->pools);
	for (unsigned use = 0; use < WEIR_BUFFER_USES; use++)
		weiri_list_init(&gate->waiters[use]);
	for (size_t i = 0; i < config->tier_count; i++)
		reserve |= config->tier[i].reserve != 0;
	weiri_os_once(&gate_once, gate_start);
	return reserve || config->policy != WEIR_LIMIT_FAIL;
}
