/* SPDX-License-Identifier: MIT */
/*
 * address.h - socket addresses from and to text.
 */
#ifndef WEIR_TOOL_ADDRESS_H
#define WEIR_TOOL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_BYTES 64 /* "[IPv6]:port" and its NUL */

/**
 * address_parse() - a numeric IPv4 or IPv6 address, or "localhost".
 *
 * Names are not looked up: a test must not depend on a name server.  Returns
 * 0, or -EINVAL.
 */
int address_parse(const char *text, uint16_t port,
    struct sockaddr_storage *address, socklen_t *bytes);

/** address_is_loopback() - does traffic to it stay on this machine? */
bool address_is_loopback(const struct sockaddr_storage *address);

/** address_text() - "127.0.0.1:7700" or "[::1]:7700"; returns @buffer. */
const char *address_text(
    const struct sockaddr_storage *address, char buffer[ADDRESS_TEXT_BYTES]);

#endif /* WEIR_TOOL_ADDRESS_H */
