/* SPDX-License-Identifier: MIT */
/*
 * sites.c - places in the sources that name an order, and the one among them
 * that is weaker in this run.
 */
#include "shim.h"

#include "engine.h"

extern struct explore_site *const __start_explore_sites[];
extern struct explore_site *const __stop_explore_sites[];

static struct {
	const char *mutant;
	unsigned serial; /* of it; what a site remembers of others is old */
} sites;

static const char *const site_op_names[] = {
    [EXPLORE_LOAD] = "load",
    [EXPLORE_STORE] = "store",
    [EXPLORE_EXCHANGE] = "exchange",
    [EXPLORE_COMPARE] = "compare",
    [EXPLORE_ADD] = "add",
    [EXPLORE_SUB] = "sub",
    [EXPLORE_AND] = "and",
    [EXPLORE_OR] = "or",
    [EXPLORE_FENCE] = "fence",
};

const char *
site_op_name(enum explore_op op)
{
	return site_op_names[op];
}

static const char *
site_order_name(int order)
{
	switch (order) {
	case __ATOMIC_RELAXED:
		return "relaxed";
	case __ATOMIC_ACQUIRE:
	case __ATOMIC_CONSUME:
		return "acquire";
	case __ATOMIC_RELEASE:
		return "release";
	case __ATOMIC_ACQ_REL:
		return "acq_rel";
	default:
		return "seq_cst";
	}
}

void
explore_site_name(
    const struct explore_site *site, int to, char *name, size_t bytes)
{
	const char *file = strrchr(site->file, '/');

	(void)snprintf(name, bytes, "%s:%s:%s:%s>%s",
	    file != NULL ? file + 1 : site->file, site->function,
	    site_op_name(site->op), site_order_name(site->order),
	    site_order_name(to));
}

void
site_set_mutant(const char *name)
{
	sites.mutant = name;
	sites.serial++;
}

void
explore_sites(
    void (*see)(const struct explore_site *site, void *context), void *context)
{
	for (struct explore_site *const *entry = __start_explore_sites;
	     entry < __stop_explore_sites; entry++)
		see(*entry, context);
}

/* The mutant is one name, or several with commas between. */
static bool
site_is_named(const char *name)
{
	size_t length = strlen(name);

	for (const char *at = sites.mutant; at != NULL;) {
		if (strncmp(at, name, length) == 0 &&
		    (at[length] == '\0' || at[length] == ','))
			return true;
		at = strchr(at, ',');
		at += at != NULL;
	}
	return false;
}

static int
site_decide(struct explore_site *site)
{
	char name[256];

	site->decided = sites.serial;
	site->used = site->order;
	for (int to = __ATOMIC_RELAXED; to < __ATOMIC_SEQ_CST; to++) {
		explore_site_name(site, to, name, sizeof(name));
		if (site_is_named(name)) {
			site->used = to;
			break;
		}
	}
	return site->used;
}

int
site_order(int order, struct explore_site *site)
{
	if (!engine.running)
		return order;
	if (site->decided == sites.serial)
		return site->used;
	return site_decide(site);
}
