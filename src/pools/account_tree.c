/* SPDX-License-Identifier: MIT */
/*
 * account_tree.c - accounts begin and end; what a tree of them has.
 *
 * The lists of children serve those who look: the largest leaf, the check.  A
 * charge follows the parents only, which do not change.  So one lock for all
 * trees is enough, held for a list operation, or for a walk by who is about to
 * close a connection.
 *
 * Invariants (weir_account_check() on a quiet tree):
 *
 *   A1  used of a level >= the sum of used over its children.
 *   A2  A charge never makes used more than limit, nor more than
 *       limit - reserve unless it is to send.
 *   A3  children is the length of the list at first; each has the level as its
 *       parent, and no path is longer than WEIR_ACCOUNT_DEPTH_MAX.
 *
 * Lock: account_lock guards the lists of all trees; a leaf.
 */
#include "pools/account.h"

#include "base/text.h"
#include "config/config.h"
#include "config/invalid.h"
#include "guard/fault.h"
#include "os/os.h"
#include "pools/buffer_gate.h"

#include <errno.h>

/* "weir acc" */
#define ACCOUNT_LIVE UINT64_C(0x7765697220616363)
/* The same of one that named no pause_bytes: they go with its limit. */
#define ACCOUNT_LIVE_SHARE (ACCOUNT_LIVE - 1)

static struct weiri_mutex account_lock = WEIRI_MUTEX_INITIALIZER;
static weiri_once account_once = WEIRI_ONCE_INITIALIZER;

static void
account_fork_lock(void)
{
	weiri_mutex_lock(&account_lock);
}

static void
account_fork_unlock(void)
{
	weiri_mutex_unlock(&account_lock);
}

static void
account_start(void)
{
	/* Without it only a fork in the middle of an init could hang. */
	(void)weiri_os_at_fork(
	    account_fork_lock, account_fork_unlock, account_fork_unlock);
}

/* ---- configuration ------------------------------------------------------- */

static int
account_refuse(
    const struct weir_account_config *config, struct weiri_invalid invalid)
{
	invalid.call = "weir_account_init";
	invalid.kind = "account";
	invalid.name = config->name == NULL ? "account" : config->name;
	return weiri_invalid(&invalid);
}

static uint64_t
account_limit(uint64_t configured)
{
	if (configured == 0)
		return UINT64_MAX;
	return configured == WEIR_LIMIT_NOTHING ? 0 : configured;
}

static bool
account_is_live(const struct weir_account *account)
{
	return account->state == ACCOUNT_LIVE ||
	       account->state == ACCOUNT_LIVE_SHARE;
}

/* Where who named no pause_bytes pauses. */
static uint64_t
account_share(uint64_t limit)
{
	return limit - limit / 4;
}

static size_t
account_depth(const struct weir_account *account)
{
	size_t depth = 0;

	for (; account != NULL; account = account->parent)
		depth++;
	return depth;
}

static int
account_check_config(const struct weir_account_config *config)
{
	uint64_t limit = account_limit(config->limit_bytes);
	size_t word = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));
	size_t depth = account_depth(config->parent) + 1;

	if (depth > WEIR_ACCOUNT_DEPTH_MAX)
		return account_refuse(
		    config, (struct weiri_invalid){.field = "parent",
				.value = depth,
				.allowed = "at most %u levels",
				.bound = {WEIR_ACCOUNT_DEPTH_MAX}});
	if (config->pause_bytes > limit)
		return account_refuse(
		    config, (struct weiri_invalid){.field = "pause_bytes",
				.value = config->pause_bytes,
				.allowed = "0 .. %u, the limit",
				.bound = {limit}});
	if (config->reserve_bytes > limit ||
	    (limit == UINT64_MAX && config->reserve_bytes != 0))
		return account_refuse(config,
		    (struct weiri_invalid){.field = "reserve_bytes",
			.value = config->reserve_bytes,
			.allowed = "0 .. %u, the limit, and 0 without one",
			.bound = {limit == UINT64_MAX ? 0 : limit}});
	if (config->reserved0 != 0)
		return account_refuse(
		    config, (struct weiri_invalid){.field = "reserved0",
				.value = config->reserved0,
				.allowed = "0"});
	if (word < WEIRI_COUNT_OF(config->reserved))
		return account_refuse(
		    config, (struct weiri_invalid){.field = "reserved[]",
				.index = word,
				.value = config->reserved[word],
				.allowed = "0"});
	return 0;
}

static void
account_link(struct weir_account *account)
{
	struct weir_account *parent = account->parent;

	if (parent == NULL)
		return;
	weiri_mutex_lock(&account_lock);
	account->next = parent->first;
	if (parent->first != NULL)
		parent->first->previous = account;
	parent->first = account;
	WEIRI_STORE(&parent->children, parent->children + 1);
	weiri_mutex_unlock(&account_lock);
}

int
weir_account_init(
    struct weir_account *account, const struct weir_account_config *config)
{
	static const struct weir_account_config none;
	int error;

	if (config == NULL)
		config = &none;
	error = account_check_config(config);
	if (error != 0)
		return error;
	weiri_os_once(&account_once, account_start);

	uint64_t limit = account_limit(config->limit_bytes);

	*account = (struct weir_account){
	    .parent = config->parent,
	    .user = config->user,
	    .name = config->name == NULL ? "account" : config->name,
	    .limit = limit,
	    .reserve = config->reserve_bytes,
	    .pause = config->pause_bytes != 0 ? config->pause_bytes
					      : account_share(limit),
	    .resume = config->resume,
	    .close_after = config->close_after,
	    .state =
		config->pause_bytes != 0 ? ACCOUNT_LIVE : ACCOUNT_LIVE_SHARE,
	};
	account_link(account);
	return 0;
}

void
weir_account_set_limit(struct weir_account *account, uint64_t limit_bytes)
{
	uint64_t limit = account_limit(limit_bytes);

	if (WEIRI_LOAD(&account->reserve) > limit)
		WEIRI_STORE(&account->reserve, limit);
	if (account->state == ACCOUNT_LIVE_SHARE)
		WEIRI_STORE(&account->pause, account_share(limit));
	else if (WEIRI_LOAD(&account->pause) > limit)
		WEIRI_STORE(&account->pause, limit);
	/* Pairs with the acquire in account_room(): who sees this limit sees no
	 * reserve above it. */
	__atomic_store_n(&account->limit, limit, __ATOMIC_RELEASE);
	weiri_gate_look();
	weiri_account_look(account);
}

/* ---- inspection ---------------------------------------------------------- */

bool
weiri_account_within(
    const struct weir_account *account, const struct weir_account *level)
{
	while (account != NULL && account != level)
		account = account->parent;
	return account != NULL;
}

/* Locked: the account after @at in a walk from @root that meets those above
 * before those below; NULL: all were met. */
static struct weir_account *
account_next(const struct weir_account *root, struct weir_account *at)
{
	if (at->first != NULL)
		return at->first;
	while (at != root && at->next == NULL)
		at = at->parent;
	return at == root ? NULL : at->next;
}

static bool
account_any(struct weir_account *leaf)
{
	(void)leaf;
	return true;
}

struct weir_account *
weiri_account_largest(struct weir_account *account,
    bool (*counts)(struct weir_account *leaf), uint64_t *bytes)
{
	struct weir_account *largest = NULL;
	uint64_t most = 0;

	weiri_mutex_lock(&account_lock);
	for (struct weir_account *at = account; at != NULL;
	     at = account_next(account, at)) {
		uint64_t used = weiri_account_used(at);

		if (at->first == NULL && used > most && counts(at)) {
			most = used;
			largest = at;
		}
	}
	weiri_mutex_unlock(&account_lock);
	if (bytes != NULL)
		*bytes = most;
	return largest;
}

struct weir_account *
weir_account_largest(struct weir_account *account, uint64_t *bytes)
{
	return weiri_account_largest(account, account_any, bytes);
}

int
weir_account_stats(
    const struct weir_account *account, struct weir_account_figures *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	*out = (struct weir_account_figures){
	    .size = sizeof(*out),
	    .children = WEIRI_LOAD(&account->children),
	    .used_bytes = weiri_account_used(account),
	    .peak_bytes = WEIRI_LOAD(&account->peak),
	    .limit_bytes = WEIRI_LOAD(&account->limit),
	    .refusals = WEIRI_LOAD(&account->refusals),
	};
	return 0;
}

/* NULL, or what is wrong with one account. */
static const char *
account_check_one(const struct weir_account *account)
{
	uint64_t sum = 0;
	uint32_t children = 0;

	for (const struct weir_account *child = account->first; child != NULL;
	     child = child->next) {
		sum += weiri_account_used(child);
		children++;
		if (child->parent != account || !account_is_live(child))
			return "A3: an account below has another parent";
	}
	if (weiri_account_used(account) < sum)
		return "A1: the accounts below have more";
	if (children != account->children)
		return "A3: the number of accounts below is wrong";
	if (WEIRI_LOAD(&account->used) >= WEIRI_ACCOUNT_CALLER)
		return "a caller is inside, or has not left";
	return NULL;
}

bool
weir_account_check(struct weir_account *root)
{
	const char *why = NULL;
	struct weir_account *at;

	weiri_mutex_lock(&account_lock);
	for (at = root; at != NULL; at = account_next(root, at))
		if ((why = account_check_one(at)) != NULL)
			break;
	weiri_mutex_unlock(&account_lock);
	if (why == NULL)
		return true;

	char line[160];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "account \"");
	weiri_text_str(&text, at->name);
	weiri_text_str(&text, "\": ");
	weiri_text_str(&text, why);
	weiri_message(WEIR_MESSAGE_ERROR, line);
	return false;
}

/* ---- end ----------------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
account_fault(const struct weir_account *account,
    enum weir_fault_class fault_class, uint64_t number, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "account",
	    .pool_name =
		fault_class == WEIR_FAULT_DOUBLE_DESTROY ? NULL : account->name,
	    .address = account,
	    .number = number,
	    .detail = detail,
	});
}

static void
account_unlink(struct weir_account *account)
{
	struct weir_account *parent = account->parent;

	if (parent == NULL)
		return;
	weiri_mutex_lock(&account_lock);
	if (account->previous != NULL)
		account->previous->next = account->next;
	else
		parent->first = account->next;
	if (account->next != NULL)
		account->next->previous = account->previous;
	WEIRI_STORE(&parent->children, parent->children - 1);
	weiri_mutex_unlock(&account_lock);
}

void
weir_account_finish(struct weir_account *account)
{
	uint64_t word;

	if (account == NULL)
		return;
	if (!account_is_live(account) && WEIR_DETECTOR(account_double_finish))
		account_fault(account, WEIR_FAULT_DOUBLE_DESTROY, 0,
		    "account %p is not alive");
	if (WEIRI_LOAD(&account->children) != 0 &&
	    WEIR_DETECTOR(account_children))
		account_fault(account, WEIR_FAULT_LIVE_OBJECTS,
		    WEIRI_LOAD(&account->children),
		    "%u %{account is|accounts are} still below %p");
	/* Acquire pairs with the last uncharge.  Who is inside is about to
	 * leave: it looks at a mark, or is in the resume function. */
	while (
	    (word = __atomic_load_n(&account->used, __ATOMIC_ACQUIRE)) != 0) {
		if ((word & WEIRI_ACCOUNT_BYTES) != 0 &&
		    WEIR_DETECTOR(account_live_bytes))
			account_fault(account, WEIR_FAULT_LIVE_OBJECTS,
			    word & WEIRI_ACCOUNT_BYTES,
			    "%u %{byte is|bytes are} still charged to %p");
		weiri_os_sleep_ns(1000);
	}
	account_unlink(account);
	account->state = 0;
}
