/* SPDX-License-Identifier: MIT */
/*
 * quickstart.c - three pools in one request.
 *
 *   script/build && build/release/examples/quickstart
 *   cc quickstart.c $(pkg-config --cflags --libs weir) && ./a.out
 */
/* [readme] */
#include <stdio.h>
#include <weir/weir.h>

struct conn {
	int fd;
	struct weir_buffer *inbox;
};

int
main(void)
{
	struct weir_cache_config conns_like = {
	    .object_bytes = sizeof(struct conn)};
	struct weir_buffer_pool_config buffers_like = {
	    .limit_bytes = 64u << 20};
	struct weir_cache *conns;
	struct weir_buffer_pool *buffers;
	struct weir_region *request;

	if (weir_cache_create("conn", &conns_like, &conns) != 0 ||
	    weir_buffer_pool_create("net", &buffers_like, &buffers) != 0 ||
	    weir_region_create(NULL, NULL, &request) != 0)
		return 1;

	/* Both return NULL at their limit; errno is left alone. */
	struct conn *conn = weir_cache_alloc(conns);

	if (conn == NULL)
		return 1;
	conn->inbox = weir_buffer_acquire(buffers, 1500);
	if (conn->inbox != NULL)
		puts(weir_region_printf(
		    request, "%u bytes for you", conn->inbox->bytes));

	weir_region_destroy(request);     /* all of the request at once */
	weir_buffer_release(conn->inbox); /* the last reference frees it */
	weir_cache_free(conns, conn);     /* a second free is reported */
	weir_buffer_pool_destroy(buffers);
	weir_cache_destroy(conns);
	return (int)weir_shutdown(); /* objects still out: none */
}
/* [/readme] */
