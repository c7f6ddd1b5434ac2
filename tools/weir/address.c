/* SPDX-License-Identifier: MIT */
/*
 * address.c - socket addresses from and to text.
 */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

int
address_parse(const char *text, uint16_t port, struct sockaddr_storage *address,
    socklen_t *bytes)
{
	struct sockaddr_in *in4 = (void *)address;
	struct sockaddr_in6 *in6 = (void *)address;

	memset(address, 0, sizeof(*address));
	if (strcmp(text, "localhost") == 0)
		text = "127.0.0.1";
	if (inet_pton(AF_INET, text, &in4->sin_addr) == 1) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons(port);
		*bytes = sizeof(*in4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		*bytes = sizeof(*in6);
		return 0;
	}
	return -EINVAL;
}

bool
address_is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *in4 = (const void *)address;
	const struct sockaddr_in6 *in6 = (const void *)address;

	if (address->ss_family == AF_INET)
		return ntohl(in4->sin_addr.s_addr) >> 24 == 127;
	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		return in6->sin6_addr.s6_addr[12] == 127;
	return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

const char *
address_text(
    const struct sockaddr_storage *address, char buffer[ADDRESS_TEXT_BYTES])
{
	const struct sockaddr_in *in4 = (const void *)address;
	const struct sockaddr_in6 *in6 = (const void *)address;
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->ss_family == AF_INET) {
		inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
		snprintf(buffer, ADDRESS_TEXT_BYTES, "%s:%u", host,
		    (unsigned)ntohs(in4->sin_port));
	} else {
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(buffer, ADDRESS_TEXT_BYTES, "[%s]:%u", host,
		    (unsigned)ntohs(in6->sin6_port));
	}
	return buffer;
}
