/* SPDX-License-Identifier: MIT */
/*
 * unchecked_input.c - a packet says how long it is, and is believed.
 *
 * What it looks like: the length in a packet's head is taken for the number of
 * bytes to copy into an array on the stack.  A peer that lies writes over the
 * return address: the classic hole.  A pool cannot see a write to the stack; the
 * compiler's -fstack-protector and AddressSanitizer can.
 *
 * What weir says: a slice knows the buffer it is of.  Cut the body out of the
 * packet by its length, and a lie ends there, before a byte is copied:
 *
 *     $ build/release/examples/bugs/unchecked_input
 *     weir: FAULT bad-argument: buffer "packets/64": slice to byte 204 is
 *     outside buffer 0x...; compare the call with its comment in the header
 *
 * That is a bug of the program, though, not of the peer: what comes from outside
 * is to be compared first, and refused.
 *
 *     $ build/release/examples/bugs/unchecked_input mended
 *     refused: 200 bytes said, 60 came
 *
 * And where the stack itself is too small, by recursion that input drives, full
 * mode names the thread's overflow (stack-overflow) where there would be a bare
 * SIGSEGV.
 */
#include <weir/buffer.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct head {
	uint32_t length; /* of what follows */
};

/* The body of the packet in @bytes bytes of @buffer, or the empty slice. */
static struct weir_slice
packet_body(struct weir_buffer *buffer, size_t bytes, bool compare)
{
	struct head head;

	memcpy(&head, buffer->data, sizeof(head));
	if (compare && head.length > bytes - sizeof(head)) {
		printf("refused: %u bytes said, %zu came\n",
		    (unsigned)head.length, bytes - sizeof(head));
		return (struct weir_slice){NULL, 0, 0};
	}
	return weir_slice_make(buffer, sizeof(head), head.length);
}

int
main(int argc, char **argv)
{
	bool mended = argc > 1 && strcmp(argv[1], "mended") == 0;
	struct weir_buffer_pool *packets;
	struct weir_buffer *buffer;
	struct weir_slice body;

	if (weir_buffer_pool_create("packets", NULL, &packets) != 0)
		return 1;
	buffer = weir_buffer_acquire(packets, 64);
	if (buffer == NULL)
		return 1;
	/* As received: 64 bytes that claim to be 204. */
	memset(buffer->data, 'x', 64);
	memcpy(buffer->data, &(struct head){200}, sizeof(struct head));

	body = packet_body(buffer, 64, mended);
	if (body.bytes > 0) {
		char text[64];

		memcpy(text, weir_slice_data(body), body.bytes);
		printf("received %.*s\n", (int)body.bytes, text);
	}
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(packets);
	return 0;
}
