/* SPDX-License-Identifier: MIT */
/*
 * request.c - memory that lives as long as one request.
 *
 *     script/build && build/release/examples/request
 *     build/release/examples/request 'GET /search?q=weir HTTP/1.1'
 *
 * Or by hand, with the library installed:
 *
 *     cc examples/request.c $(pkg-config --cflags --libs weir) -o request
 *
 * A request line is taken apart and answered.  Everything made on the way is in
 * one region: no free(), no leak on any of the ways out, and the log line
 * written at the end still finds all of it.
 */
#include <weir/region.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One per call site: it names these regions in the statistics. */
static struct weir_region_kind request_kind = WEIR_REGION_KIND("request");

struct request {
	struct weir_region *region;
	const char *method, *path, *query; /* query: NULL if there is none */
};

/* Runs when the region ends, while the request is still readable. */
static void
log_request(void *context)
{
	const struct request *request = context;

	printf("log: %s %s\n", request->method, request->path);
}

static struct request *
request_parse(struct weir_region *region, const char *line)
{
	struct request *request =
	    weir_region_alloc_zeroed(region, sizeof(*request));
	size_t method = strcspn(line, " ");
	const char *target = line + method + strspn(line + method, " ");
	size_t length = strcspn(target, " ");
	size_t path = strcspn(target, "? ");

	if (request == NULL || method == 0 || length == 0)
		return NULL;
	request->region = region;
	request->method = weir_region_strndup(region, line, method);
	request->path = weir_region_strndup(region, target, path);
	if (path < length)
		request->query = weir_region_strndup(
		    region, target + path + 1, length - path - 1);
	if (request->method == NULL || request->path == NULL ||
	    (path < length && request->query == NULL))
		return NULL;
	return request;
}

static int
serve(const char *line)
{
	/* Destroyed on every way out of this function. */
	WEIR_REGION_SCOPE struct weir_region *region = NULL;
	struct request *request;
	const char *body;

	if (weir_region_create(&request_kind, NULL, &region) != 0)
		return -1;
	request = request_parse(region, line);
	if (request == NULL) {
		printf("400 Bad Request\n");
		return 0;
	}
	if (weir_region_cleanup_add(region, log_request, request) == NULL)
		return -1;
	body = weir_region_printf(region, "You asked %s for \"%s\".",
	    request->path, request->query != NULL ? request->query : "");
	if (body == NULL)
		return -1;
	printf("200 OK, %zu bytes: %s\n", strlen(body), body);
	return 0;
}

int
main(int argc, char **argv)
{
	static const char *const lines[] = {
	    "GET /search?q=memory+pools HTTP/1.1",
	    "POST /orders HTTP/1.1",
	    "nonsense",
	};
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	for (int i = 1; i < argc; i++)
		if (serve(argv[i]) != 0)
			return EXIT_FAILURE;
	for (size_t i = 0; argc == 1 && i < 3; i++)
		if (serve(lines[i]) != 0)
			return EXIT_FAILURE;

	if (weir_region_kind_stats(&request_kind, &stats) != 0)
		return EXIT_FAILURE;
	printf(
	    "%llu requests served, %llu regions left, at most %llu at once\n",
	    (unsigned long long)stats.hits, (unsigned long long)stats.in_use,
	    (unsigned long long)stats.in_use_peak);
	return stats.in_use == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
