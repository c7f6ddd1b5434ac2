/* SPDX-License-Identifier: MIT */
/*
 * preset.c - configurations for servers of some sizes.
 *
 * What a server may be made to hold is its connections times what each may; so
 * the second shrinks as the first grows.  What it holds as a rule is a buffer
 * for each packet in a pass, whatever the number of connections; so buffers are
 * made ready for some passes, not for all connections.
 */
#include <weir/net.h>

#include <errno.h>
#include <stddef.h>

static const struct weir_net_config preset_configs[] = {
    [WEIR_NET_PRESET_100] =
	{
	    .connections_prealloc = 256,
	    .buffers_prealloc = 256,
	    .send_quota_bytes = 256u << 10,
	    .packet_ms = 60000,
	},
    [WEIR_NET_PRESET_1000] =
	{
	    .connections_prealloc = 2048,
	    .buffers_prealloc = 512,
	    .send_quota_bytes = 64u << 10,
	    .packet_ms = 30000,
	},
    /* A carry of the largest packet and a quota of unsent bytes for each. */
    [WEIR_NET_PRESET_10000] =
	{
	    .connections_prealloc = 16384,
	    .buffers_prealloc = 1024,
	    .send_quota_bytes = 16u << 10,
	    .stall_ms = 10000,
	    .idle_ms = 600000,
	    .packet_ms = 15000,
	},
};

int
weir_net_preset(enum weir_net_preset preset, struct weir_net_config *out)
{
	size_t index = (size_t)preset;

	*out = (struct weir_net_config){.backend = WEIR_BACKEND_AUTO};
	if (index == 0 ||
	    index >= sizeof(preset_configs) / sizeof(preset_configs[0]))
		return -EINVAL;
	*out = preset_configs[index];
	return 0;
}
