/* SPDX-License-Identifier: MIT */
/*
 * mutants.c - each order that could be weaker, and who notices if it is.
 *
 * A name is file:function:operation:order>weaker order; it stands for all such
 * operations of the function.  The list is complete: `explore --mutants` fails
 * for an order that a scenario comes by and that is not here, and for one that
 * its scenario does not find.  Those that none finds have a reason; a long run
 * tries them in all scenarios.
 */
#include "explore.h"

/* Why an order is not missed. */
#define ACQ "the count was read with acquire before"
#define FENCEBEHIND "a fence comes next"
#define FORK "pairs with fork(), whose child reads it"
#define LOADS "orders two loads, which the explorer leaves in order"
#define MARK \
	"the mark is alone with what it says; a fence lies before the looks"
#define NOTHING                                                             \
	"the spare that is put away is empty, which nobody takes, and the " \
	"one that comes back is the thread's own"
#define NOTHING1 "the spare before it is the thread's own, or 0"
#define NOTIFY "one of those who found the use low wins; a fence lies before"
#define OWN "takes what is the thread's own; the lock orders it for others"
#define POCKET "takes the thread's own pocket, or 0"
#define QUOTA "who waits looks at the quota again behind a fence"
#define ROOM "orders two loads, which the explorer leaves in order"
#define STAT "a figure, which may be off by what is under way"
#define USER "who is charging keeps the account from its end"
#define ZERO "leaves 0 behind, which carries nothing"

const struct explore_mutant explore_mutants[] = {
    {"account.c:account_ask:exchange:acq_rel>acquire", NULL, MARK},
    {"account.c:account_ask:exchange:acq_rel>relaxed", NULL, MARK},
    {"account.c:account_ask:exchange:acq_rel>release", NULL, MARK},
    {"account.c:account_ask:store:release>relaxed", NULL, MARK},
    {"account.c:account_room:load:acquire>relaxed", NULL, ROOM},
    {"account.c:account_sub:add:release>relaxed", "account_end", NULL},
    {"account.c:account_sub:sub:release>relaxed", "account_end_told", NULL},
    {"account.c:account_take_back:sub:release>relaxed", NULL, USER},
    {"account.c:weiri_account_look:exchange:acq_rel>acquire", NULL, MARK},
    {"account.c:weiri_account_look:exchange:acq_rel>relaxed", NULL, MARK},
    {"account.c:weiri_account_look:exchange:acq_rel>release", NULL, MARK},
    {"account_tree.c:weir_account_finish:load:acquire>relaxed", "account_end",
	NULL},
    {"bounded.c:bounded_examine:load:acquire>relaxed", NULL, LOADS},
    {"bounded.c:bounded_examine_many:and:acquire>relaxed", "bounded_batch",
	NULL},
    {"bounded.c:bounded_examine_many:load:acquire>relaxed", NULL, LOADS},
    {"bounded.c:bounded_flush:or:release>relaxed", "bounded_batch", NULL},
    {"bounded.c:bounded_give:or:release>relaxed", "bounded", NULL},
    {"bounded.c:bounded_take:and:acquire>relaxed", "bounded", NULL},
    {"buffer.c:buffer_release_slow:exchange:acquire>relaxed", NULL, ACQ},
    {"buffer.c:buffer_release_slow:load:acquire>relaxed", "buffer_last_release",
	NULL},
    {"buffer.c:buffer_release_slow:sub:acq_rel>acquire", "buffer_last_release",
	NULL},
    {"buffer.c:buffer_release_slow:sub:acq_rel>relaxed", "buffer_last_release",
	NULL},
    {"buffer.c:buffer_release_slow:sub:acq_rel>release", "buffer_last_release",
	NULL},
    {"buffer.c:weir_buffer_references:load:acquire>relaxed",
	"buffer_references", NULL},
    {"buffer.c:weir_buffer_release:load:acquire>relaxed", "buffer_last_release",
	NULL},
    {"buffer.c:weir_buffer_retain_many:load:acquire>relaxed", "buffer_retain",
	NULL},
    {"buffer_gate.c:gate_give:store:release>relaxed", "gate", NULL},
    {"buffer_gate.c:gate_sleep:load:acquire>relaxed", "gate", NULL},
    {"buffer_gate.h:weiri_gate_fence:fence:seq_cst>relaxed", "gate", NULL},
    {"cursor.h:weiri_cell_push:store:release>relaxed", NULL, FORK},
    {"depot.c:depot_retire_full:exchange:acq_rel>acquire", "spares", NULL},
    {"depot.c:depot_retire_full:exchange:acq_rel>relaxed", "spares", NULL},
    {"depot.c:depot_retire_full:exchange:acq_rel>release", NULL, NOTHING1},
    {"depot.c:depot_swap_in:exchange:acq_rel>acquire", NULL, NOTHING},
    {"depot.c:depot_swap_in:exchange:acq_rel>relaxed", NULL, NOTHING},
    {"depot.c:depot_swap_in:exchange:acq_rel>release", NULL, NOTHING},
    {"depot_check.c:depot_sum_threads:load:acquire>relaxed", NULL, STAT},
    {"local.h:weiri_local_begin:store:release>relaxed", NULL, FORK},
    {"local.h:weiri_local_end:store:release>relaxed", NULL, FORK},
    {"quota.c:quota_has_room:exchange:seq_cst>acq_rel", NULL, QUOTA},
    {"quota.c:quota_has_room:exchange:seq_cst>relaxed", NULL, QUOTA},
    {"quota.c:quota_has_room:load:seq_cst>acquire", "quota", NULL},
    {"quota.c:quota_has_room:load:seq_cst>relaxed", "quota", NULL},
    {"quota.c:quota_take:compare:seq_cst>acq_rel", NULL, QUOTA},
    {"quota.c:quota_take:compare:seq_cst>relaxed", NULL, QUOTA},
    {"quota.c:quota_take:load:seq_cst>acquire", NULL, QUOTA},
    {"quota.c:quota_take:load:seq_cst>relaxed", NULL, QUOTA},
    {"quota.c:weiri_quota_charge:store:seq_cst>relaxed", NULL, QUOTA},
    {"quota.c:weiri_quota_charge:store:seq_cst>release", NULL, QUOTA},
    {"quota.c:weiri_quota_undo:sub:seq_cst>acq_rel", "quota", NULL},
    {"quota.c:weiri_quota_undo:sub:seq_cst>relaxed", "quota", NULL},
    {"shard.c:shard_empty:exchange:acquire>relaxed", "shards", NULL},
    {"shard.c:shard_fill:compare:release>relaxed", "shards", NULL},
    {"shard.c:shard_gather:compare:acquire>relaxed", "shards_gather", NULL},
    {"shard.c:weiri_shards_make:compare:release>relaxed", "shards_made", NULL},
    {"shard.h:weiri_shards_of:load:acquire>relaxed", "shards_made", NULL},
    {"stock.c:stock_steal:compare:acq_rel>acquire", NULL, ZERO},
    {"stock.c:stock_steal:compare:acq_rel>relaxed", "spares", NULL},
    {"stock.c:stock_steal:compare:acq_rel>release", "spares", NULL},
    {"stock.c:weiri_depot_adopt:exchange:acq_rel>acquire", NULL, OWN},
    {"stock.c:weiri_depot_adopt:exchange:acq_rel>relaxed", NULL, OWN},
    {"stock.c:weiri_depot_adopt:exchange:acq_rel>release", NULL, OWN},
    {"stock.c:weiri_stock_gather_spares:compare:acq_rel>acquire", NULL, ZERO},
    {"stock.c:weiri_stock_gather_spares:compare:acq_rel>relaxed", "spares_trim",
	NULL},
    {"stock.c:weiri_stock_gather_spares:compare:acq_rel>release", "spares_trim",
	NULL},
    {"wait.c:wait_attention:load:seq_cst>acquire", "waiters", NULL},
    {"wait.c:wait_attention:load:seq_cst>relaxed", "waiters", NULL},
    {"wait.c:wait_fence:fence:seq_cst>relaxed", "waiters", NULL},
    {"wait.c:wait_give:store:release>relaxed", "waiters", NULL},
    {"wait.c:wait_notify:compare:seq_cst>acq_rel", NULL, NOTIFY},
    {"wait.c:wait_notify:compare:seq_cst>relaxed", NULL, NOTIFY},
    {"wait.c:wait_pocket_back:exchange:seq_cst>acq_rel", "waiters", NULL},
    {"wait.c:wait_pocket_back:exchange:seq_cst>relaxed", "waiters", NULL},
    {"wait.c:wait_pocket_out:exchange:seq_cst>acq_rel", NULL, POCKET},
    {"wait.c:wait_pocket_out:exchange:seq_cst>relaxed", NULL, POCKET},
    {"wait.c:wait_turn:load:acquire>relaxed", "waiters", NULL},
    {"wait.c:weiri_wait_failed:store:seq_cst>relaxed", NULL, FENCEBEHIND},
    {"wait.c:weiri_wait_failed:store:seq_cst>release", NULL, FENCEBEHIND},
};

const size_t explore_mutant_count =
    sizeof(explore_mutants) / sizeof(explore_mutants[0]);
