/* SPDX-License-Identifier: MIT */
/*
 * returned_local.c - a function hands out the address of its own variable.
 *
 * What it looks like: a name is put together in an array on the stack and a
 * pointer to it outlives the call.  The next call writes over it: names change
 * by themselves, and differently in each build.  Where the compiler sees the
 * return it warns (-Wreturn-local-addr); through a struct or a call-back, as
 * here, it does not.
 *
 * What weir says: nothing while such a pointer is read, for the stack is none of
 * its memory.  But who gets a name must give it back some day, and then:
 *
 *     $ build/release/examples/bugs/returned_local
 *     weir: FAULT foreign-pointer: heap "names": 0x... is not memory of any
 *     pool; pass only what was handed out here and not given back
 *
 * The mended program takes the name from a pool, and the pool says who owns it:
 *
 *     $ build/release/examples/bugs/returned_local mended
 *     names: conn-1 conn-2
 *
 * For reads of a dead stack frame: AddressSanitizer, with
 * ASAN_OPTIONS=detect_stack_use_after_return=1.
 */
#include <weir/heap.h>

#include <stdio.h>
#include <string.h>

struct conn {
	char *name;
};

static struct weir_heap *names;

__attribute__((noinline)) static void
conn_set_name(struct conn *conn, char *name)
{
	conn->name = name;
}

static void
conn_name_wrongly(struct conn *conn, int number)
{
	char name[32]; /* ends with this call */

	(void)snprintf(name, sizeof(name), "conn-%d", number);
	conn_set_name(conn, name);
}

static void
conn_name(struct conn *conn, int number)
{
	char *name = weir_heap_alloc(names, 32);

	if (name != NULL)
		(void)snprintf(name, 32, "conn-%d", number);
	conn_set_name(conn, name);
}

int
main(int argc, char **argv)
{
	bool mended = argc > 1 && strcmp(argv[1], "mended") == 0;
	struct conn conns[2];

	if (weir_heap_create("names", NULL, &names) != 0)
		return 1;
	for (int i = 0; i < 2; i++)
		(mended ? conn_name : conn_name_wrongly)(&conns[i], i + 1);
	if (mended)
		printf("names: %s %s\n", conns[0].name, conns[1].name);
	for (int i = 0; i < 2; i++)
		weir_heap_free(names, conns[i].name);
	weir_heap_destroy(names);
	return 0;
}
