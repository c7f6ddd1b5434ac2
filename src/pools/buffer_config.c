/* SPDX-License-Identifier: MIT */
/*
 * buffer_config.c - what a pool's configuration may say, and its defaults.
 *
 * What is refused is refused before anything is made, with the field and what
 * it allows (config/invalid.h).  A field that has no meaning under the policy
 * chosen is a slip, too: better a message than a time-out that never is.
 */
#include "config/invalid.h"
#include "pools/buffer.h"

#include <errno.h>
#include <string.h>

static const struct weir_buffer_tier buffer_default_tiers[] = {
    {.bytes = 64},
    {.bytes = 512},
    {.bytes = 2 << 10},
    {.bytes = 8 << 10},
    {.bytes = 32 << 10},
    {.bytes = 64 << 10},
};

static int
buffer_refuse_config(struct weiri_invalid invalid)
{
	invalid.call = "weir_buffer_pool_create";
	return weiri_invalid(&invalid);
}

/* One tier, and its order to the one before it. */
static int
buffer_check_tier_config(const struct weir_buffer_tier *tier, size_t index)
{
	uint64_t least = index == 0 ? 1 : (uint64_t)tier[-1].bytes + 1;

	if (tier->bytes < least || tier->bytes > WEIR_BUFFER_BYTES_MAX)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "tier[].bytes",
			.index = index,
			.value = tier->bytes,
			.allowed = "%u .. %u, ascending",
			.bound = {least, WEIR_BUFFER_BYTES_MAX}});
	if (tier->reserve > weiri_buffer_limit(tier->limit))
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "tier[].reserve",
			.index = index,
			.value = tier->reserve,
			.allowed = "at most the tier's limit, %u",
			.bound = {weiri_buffer_limit(tier->limit)}});
	if (tier->prealloc > weiri_buffer_limit(tier->limit))
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "tier[].prealloc",
			.index = index,
			.value = tier->prealloc,
			.allowed = "at most the tier's limit, %u",
			.bound = {weiri_buffer_limit(tier->limit)}});
	return 0;
}

/* Each tier, and that what all make in advance stays within limit_bytes. */
static int
buffer_check_tiers(const struct weir_buffer_pool_config *config)
{
	uint64_t room = weiri_buffer_limit(config->limit_bytes);

	for (size_t i = 0; i < config->tier_count; i++) {
		const struct weir_buffer_tier *tier = &config->tier[i];
		int error = buffer_check_tier_config(tier, i);

		if (error != 0)
			return error;
		if (tier->prealloc > room / tier->bytes)
			return buffer_refuse_config(
			    (struct weiri_invalid){.field = "tier[].prealloc",
				.index = i,
				.value = tier->prealloc,
				.allowed = "at most %u, with what limit_bytes, "
					   "%u, leaves",
				.bound = {room / tier->bytes,
				    weiri_buffer_limit(config->limit_bytes)}});
		room -= (uint64_t)tier->prealloc * tier->bytes;
	}
	return 0;
}

/* What is reserved is held, from the start. */
static int
buffer_check_reserves(const struct weir_buffer_pool_config *config)
{
	uint64_t room = weiri_buffer_limit(config->limit_bytes);

	for (size_t i = 0; i < config->tier_count; i++) {
		const struct weir_buffer_tier *tier = &config->tier[i];

		if (tier->reserve > room / tier->bytes)
			return buffer_refuse_config(
			    (struct weiri_invalid){.field = "tier[].reserve",
				.index = i,
				.value = tier->reserve,
				.allowed = "at most %u, with what limit_bytes, "
					   "%u, leaves",
				.bound = {room / tier->bytes,
				    weiri_buffer_limit(config->limit_bytes)}});
		room -= (uint64_t)tier->reserve * tier->bytes;
	}
	return 0;
}

/* Fields that only one policy has a use for. */
static int
buffer_check_policy(const struct weir_buffer_pool_config *config)
{
	if ((unsigned)config->policy > WEIR_LIMIT_NOTIFY)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "policy",
			.value = (unsigned)config->policy,
			.allowed = "0 .. %u, those of enum weir_limit_policy",
			.bound = {WEIR_LIMIT_NOTIFY}});
	if (config->policy != WEIR_LIMIT_WAIT && config->timeout_ns != 0)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "timeout_ns",
			.value = config->timeout_ns,
			.allowed = "0 without policy WEIR_LIMIT_WAIT"});
	if ((config->policy == WEIR_LIMIT_NOTIFY) != (config->notify != NULL))
		return buffer_refuse_config((struct weiri_invalid){
		    .field = "policy",
		    .value = (unsigned)config->policy,
		    .allowed = "%u (WEIR_LIMIT_NOTIFY) with notify, and only "
			       "with it",
		    .bound = {WEIR_LIMIT_NOTIFY}});
	return 0;
}

static int
buffer_check_config(const struct weir_buffer_pool_config *config)
{
	uint64_t room = weiri_buffer_limit(config->limit_bytes);
	size_t i = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));

	if ((config->flags & ~WEIRI_BUFFER_PUBLIC_FLAGS) != 0)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "flags",
			.value = config->flags,
			.bits = true,
			.allowed = "flags of enum weir_buffer_flags"});
	if (i < WEIRI_COUNT_OF(config->reserved))
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "reserved[]",
			.index = i,
			.value = config->reserved[i],
			.allowed = "0"});
	/* Closed on purpose is one thing, useless by mistake another. */
	if (room != 0 && room < config->tier[0].bytes)
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "limit_bytes",
			.value = config->limit_bytes,
			.allowed = "0 for none, at least %u, one buffer of the "
				   "smallest tier, or WEIR_LIMIT_NOTHING",
			.bound = {config->tier[0].bytes}});

	int error = buffer_check_policy(config);

	if (error == 0)
		error = buffer_check_tiers(config);
	return error != 0 ? error : buffer_check_reserves(config);
}

int
weiri_buffer_config_resolve(const struct weir_buffer_pool_config *given,
    struct weir_buffer_pool_config *config)
{
	memset(config, 0, sizeof(*config));
	if (given != NULL)
		*config = *given;
	/* Tiers without their number are a slip, not a wish. */
	if (config->tier_count > WEIR_BUFFER_TIERS_MAX ||
	    (config->tier_count == 0 && config->tier[0].bytes != 0))
		return buffer_refuse_config(
		    (struct weiri_invalid){.field = "tier_count",
			.value = config->tier_count,
			.allowed = "%u .. %u, or 0 with no tier set",
			.bound = {1, WEIR_BUFFER_TIERS_MAX}});
	if (config->tier_count == 0) {
		memcpy(config->tier, buffer_default_tiers,
		    sizeof(buffer_default_tiers));
		config->tier_count = WEIRI_COUNT_OF(buffer_default_tiers);
	}
	return buffer_check_config(config);
}
