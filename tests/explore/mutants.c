/* SPDX-License-Identifier: MIT */
/*
 * mutants.c - each order that could be weaker, and who notices if it is.
 *
 * A name is file:function:operation:order>weaker order; it stands for all such
 * operations of the function.  The list is complete: `explore --mutants` fails
 * for an order of src/slab or an explored pool that is not here, and for one that
 * its scenario does not find.  Those that none finds have a reason; a long run
 * tries them in all scenarios, one by one and all at once.
 */
#include "explore.h"

/* Why an order is not missed. */
#define ACQ "the count was read with acquire before, and nobody else has one"
#define CALLER "whoever destroys it has heard from its pools before"
#define FENCEBEFORE \
	"a fence of that order lies before it, which orders it as well"
#define FENCEBEHIND \
	"a fence of that order comes next, and what it says is all it carries"
#define FORK \
	"its only reader is the child of a fork, which is no thread of a run"
#define LOCK "both sides hold the lock of the threads' states"
#define NOTIFY                                                                \
	"a change finds the newest value, so one wins; whoever looks before " \
	"takes the lock that the failed call gave back"
#define OWN                                                                  \
	"takes what the thread itself put there, or 0; for others the lock " \
	"orders it"
#define OWN1                                                                   \
	"what was there is the thread's own, or 0 from a thief; what it does " \
	"publish is found with the release that is left"
#define OWN2 \
	"it puts an empty one there, which no thief takes, and finds its own"
#define PLAIN "plain stores come next: who attaches then has a race in any case"
#define POCKET                                                               \
	"takes its own, or 0; others look behind the exchange that puts it " \
	"back"
#define QUIET "for a quiet pool, as weir/bounded.h has it"
#define STARVED                                                                \
	"fails for a change after the load before it, so after `starved` was " \
	"set, and whoever made that change looks there"
#define STAT "a figure, which may be off by what is under way"
#define TAKE "a change of the same word follows, with acquire"
#define USER "the caller's own charge keeps the account from its end"
#define ZERO "leaves 0 behind, which carries nothing"

const struct explore_mutant explore_mutants[] = {
    {"account.c:account_ask:compare:release>relaxed", "account_told", NULL},
    {"account.c:account_room:load:acquire>relaxed", "account_limit", NULL},
    {"account.c:account_sub:add:release>relaxed", "account_end", NULL},
    {"account.c:account_sub:sub:release>relaxed", "account_end_told", NULL},
    {"account.c:account_take_back:sub:release>relaxed", NULL, USER},
    {"account.c:weiri_account_look:exchange:acq_rel>acquire", NULL, ZERO},
    {"account.c:weiri_account_look:exchange:acq_rel>relaxed", "account_told",
	NULL},
    {"account.c:weiri_account_look:exchange:acq_rel>release", "account_told",
	NULL},
    {"account_tree.c:weir_account_finish:load:acquire>relaxed", "account_end",
	NULL},
    {"account_tree.c:weir_account_set_limit:store:release>relaxed",
	"account_limit", NULL},
    {"bounded.c:bounded_examine:load:acquire>relaxed", NULL, TAKE},
    {"bounded.c:bounded_examine_many:and:acq_rel>acquire",
	"bounded_check_batch", NULL},
    {"bounded.c:bounded_examine_many:and:acq_rel>relaxed",
	"bounded_check_batch", NULL},
    {"bounded.c:bounded_examine_many:and:acq_rel>release", "bounded_batch",
	NULL},
    {"bounded.c:bounded_examine_many:load:acquire>relaxed", NULL, TAKE},
    {"bounded.c:bounded_flush:or:release>relaxed", "bounded_batch", NULL},
    {"bounded.c:bounded_give:or:release>relaxed", "bounded", NULL},
    {"bounded.c:bounded_take:and:acq_rel>acquire", "bounded_check", NULL},
    {"bounded.c:bounded_take:and:acq_rel>relaxed", "bounded_check", NULL},
    {"bounded.c:bounded_take:and:acq_rel>release", "bounded_batch", NULL},
    {"bounded.c:weir_bounded_check:load:acquire>relaxed", "bounded_check",
	NULL},
    {"bounded.c:weir_bounded_walk:load:acquire>relaxed", NULL, QUIET},
    {"bounded_layout.c:weir_bounded_attach:load:acquire>relaxed",
	"bounded_attach", NULL},
    {"bounded_layout.c:weir_bounded_finish:store:release>relaxed",
	"bounded_finish", NULL},
    {"bounded_layout.c:weir_bounded_init:exchange:acquire>relaxed", NULL,
	PLAIN},
    {"bounded_layout.c:weir_bounded_init:store:release>relaxed",
	"bounded_attach", NULL},
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
    {"buffer_gate.c:gate_acquire_now:load:seq_cst>acquire", "gate_pocket",
	NULL},
    {"buffer_gate.c:gate_acquire_now:load:seq_cst>relaxed", "gate_pocket",
	NULL},
    {"buffer_gate.c:gate_give:store:release>relaxed", "gate", NULL},
    {"buffer_gate.c:gate_sleep:load:acquire>relaxed", "gate", NULL},
    {"buffer_gate.h:weiri_gate_fence:fence:seq_cst>relaxed", "gate", NULL},
    {"buffer_kernel.c:weiri_buffer_from_kernel:load:acquire>relaxed",
	"buffer_lent_wipe", NULL},
    {"buffer_kernel.c:weiri_buffer_to_kernel:load:acquire>relaxed",
	"buffer_lent_wipe", NULL},
    {"buffer_notify.c:weiri_gate_note_due:store:release>relaxed", NULL,
	FENCEBEHIND},
    {"cursor.h:weiri_cell_push:store:release>relaxed", NULL, FORK},
    {"depot.c:depot_swap_in:exchange:acq_rel>acquire", NULL, OWN2},
    {"depot.c:depot_swap_in:exchange:acq_rel>relaxed", NULL, OWN2},
    {"depot.c:depot_swap_in:exchange:acq_rel>release", NULL, OWN2},
    {"depot_check.c:depot_sum_threads:load:acquire>relaxed", NULL, STAT},
    {"local.c:weiri_local_recall:add:release>relaxed", NULL, LOCK},
    {"local.c:weiri_local_shed:load:acquire>relaxed", NULL, LOCK},
    {"local.h:weiri_local_begin:store:release>relaxed", NULL, FORK},
    {"local.h:weiri_local_end:store:release>relaxed", NULL, FORK},
    {"quota.c:quota_has_room:exchange:seq_cst>acq_rel", "quota_told", NULL},
    {"quota.c:quota_has_room:exchange:seq_cst>relaxed", "quota_told", NULL},
    {"quota.c:quota_has_room:load:seq_cst>acquire", "quota", NULL},
    {"quota.c:quota_has_room:load:seq_cst>relaxed", "quota", NULL},
    {"quota.c:quota_take:compare:seq_cst>acq_rel", NULL, STARVED},
    {"quota.c:quota_take:compare:seq_cst>relaxed", NULL, STARVED},
    {"quota.c:quota_take:load:seq_cst>acquire", "quota_told", NULL},
    {"quota.c:quota_take:load:seq_cst>relaxed", "quota_told", NULL},
    {"quota.c:weir_quota_destroy:load:acquire>relaxed", NULL, CALLER},
    {"quota.c:weir_quota_set_limit:store:seq_cst>relaxed", "quota_raised",
	NULL},
    {"quota.c:weir_quota_set_limit:store:seq_cst>release", "quota_raised",
	NULL},
    {"quota.c:weir_quota_stats:load:acquire>relaxed", "quota_end", NULL},
    {"quota.c:weiri_quota_charge:store:seq_cst>relaxed", "quota_told", NULL},
    {"quota.c:weiri_quota_charge:store:seq_cst>release", "quota_told", NULL},
    {"quota.c:weiri_quota_leave:sub:release>relaxed", "quota_end", NULL},
    {"quota.c:weiri_quota_starved:load:seq_cst>acquire", NULL, FENCEBEFORE},
    {"quota.c:weiri_quota_starved:load:seq_cst>relaxed", NULL, FENCEBEFORE},
    {"quota.c:weiri_quota_undo:sub:seq_cst>acq_rel", "quota_told", NULL},
    {"quota.c:weiri_quota_undo:sub:seq_cst>relaxed", "quota_told", NULL},
    {"room.c:room_retire_full:exchange:acq_rel>acquire", "spares", NULL},
    {"room.c:room_retire_full:exchange:acq_rel>relaxed", "spares", NULL},
    {"room.c:room_retire_full:exchange:acq_rel>release", NULL, OWN1},
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
