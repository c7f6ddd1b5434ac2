/* SPDX-License-Identifier: MIT */
/*
 * start.c - a program without a C library around a bounded pool and a region.
 *
 * It is linked with -nostdlib: what the pool needs must be here.  Its exit
 * status is 0, or the line of the first check that failed (modulo 256, and
 * never 0).
 */
#include <weir/bounded.h>
#include <weir/region_fixed.h>

#define COUNT 100

struct record {
	unsigned number;
	char text[20];
};

static _Alignas(WEIR_BOUNDED_ALIGN) unsigned char storage[WEIR_BOUNDED_BYTES(
    sizeof(struct record), 0, COUNT, 0)];

static const struct weir_bounded *fault_pool;
static enum weir_fault_class fault_class;
static unsigned fault_count;

int start_main(void);
void weir_bounded_fault(const struct weir_bounded *pool,
    enum weir_fault_class class, const void *address);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

/* The loader's entry: align the stack as a call would, and end by the kernel's
 * exit with what start_main() returned. */
#if defined(__x86_64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	xorl %ebp, %ebp\n"
	"	andq $-16, %rsp\n"
	"	call start_main\n"
	"	movl %eax, %edi\n"
	"	movl $60, %eax\n"
	"	syscall\n");
#elif defined(__i386__)
__asm__(".globl _start\n"
	"_start:\n"
	"	xorl %ebp, %ebp\n"
	"	andl $-16, %esp\n"
	"	call start_main\n"
	"	movl %eax, %ebx\n"
	"	movl $1, %eax\n"
	"	int $0x80\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, xzr\n"
	"	bl start_main\n"
	"	mov x8, #93\n"
	"	svc #0\n");
#endif

void *
memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	volatile unsigned char *out = to;
	const unsigned char *in = from;

	for (size_t i = 0; i < bytes; i++)
		out[i] = in[i];
	return to;
}

void *
memset(void *to, int value, size_t bytes)
{
	volatile unsigned char *out = to;

	for (size_t i = 0; i < bytes; i++)
		out[i] = (unsigned char)value;
	return to;
}

void
weir_bounded_fault(const struct weir_bounded *pool, enum weir_fault_class class,
    const void *address)
{
	(void)address;
	fault_pool = pool;
	fault_class = class;
	fault_count++;
}

#define EXPECT(condition)                                           \
	do {                                                        \
		if (!(condition))                                   \
			return __LINE__ % 256 ? __LINE__ % 256 : 1; \
	} while (0)

/* ---- a region ------------------------------------------------------------ */

static unsigned char room[2000];
static unsigned order;

/* Appends a digit. */
static void
note(void *context)
{
	order = order * 10 + (unsigned)(uintptr_t)context;
}

static int
region_main(void)
{
	struct weir_region *region;
	struct weir_region_fixed_point mark;
	char *object;
	unsigned served = 0;

	EXPECT(weir_region_fixed_init(room, 127) == NULL);
	region = weir_region_fixed_init(room + 1, sizeof(room) - 1);
	EXPECT(region != NULL);
	EXPECT(weir_region_fixed_cleanup(region, note, (void *)1));
	object = weir_region_alloc_aligned(region, 100, 64);
	EXPECT(object != NULL && (uintptr_t)object % 64 == 0);
	mark = weir_region_fixed_mark(region);
	EXPECT(weir_region_fixed_cleanup(region, note, (void *)2));
	EXPECT(weir_region_fixed_cleanup(region, note, (void *)3));
	while ((object = weir_region_alloc(region, 50)) != NULL) {
		EXPECT(object >= (char *)room);
		EXPECT(object + 50 <= (char *)room + sizeof(room));
		object[0] = object[49] = 1;
		served++;
	}
	EXPECT(served > 20 && weir_region_fixed_failures(region) == 1);
	EXPECT(weir_region_alloc(region, SIZE_MAX) == NULL);
	EXPECT(weir_region_alloc_aligned(region, 1, 3) == NULL);
	EXPECT(weir_region_fixed_rewind(region, mark) && order == 32);
	EXPECT(weir_region_alloc(region, 50) != NULL);
	weir_region_fixed_reset(region);
	EXPECT(order == 321);
	EXPECT(!weir_region_fixed_rewind(region, mark));
	weir_region_fixed_finish(region);
	return 0;
}

int
start_main(void)
{
	struct weir_bounded_config config = {
	    .object_bytes = sizeof(struct record), .object_count = COUNT};
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	struct weir_bounded *pool;
	struct record *record[COUNT];
	int failed = region_main();

	if (failed != 0)
		return failed;
	EXPECT(weir_bounded_storage_bytes(&config) == sizeof(storage));
	EXPECT(weir_bounded_init(
		   storage, sizeof(storage), "firmware", &config, &pool) == 0);
	EXPECT(weir_bounded_attach(storage, sizeof(storage), &pool) == 0);
	for (unsigned i = 0; i < COUNT; i++) {
		record[i] = weir_bounded_alloc(pool);
		EXPECT(record[i] != NULL);
		record[i]->number = i;
	}
	EXPECT(weir_bounded_alloc(pool) == NULL);
	for (unsigned i = 0; i < COUNT; i++)
		EXPECT(record[i]->number == i);
	weir_bounded_free(pool, record[7]);
	EXPECT(weir_bounded_alloc(pool) == record[7]);

	/* Each bug goes to the program's function and changes nothing. */
	weir_bounded_free(pool, record[7]->text + 4);
	EXPECT(fault_count == 1 && fault_class == WEIR_FAULT_INTERIOR_POINTER);
	weir_bounded_free(pool, &pool);
	EXPECT(fault_count == 2 && fault_class == WEIR_FAULT_FOREIGN_POINTER);
	weir_bounded_finish(pool);
	EXPECT(fault_count == 3 && fault_class == WEIR_FAULT_LIVE_OBJECTS);
	EXPECT(fault_pool == pool && weir_bounded_in_use(pool) == COUNT);

	weir_bounded_free_batch(pool, (void **)record, COUNT);
	weir_bounded_free(pool, record[0]);
	EXPECT(fault_count == 4 && fault_class == WEIR_FAULT_DOUBLE_FREE);
	EXPECT(weir_bounded_alloc_batch(pool, (void **)record, COUNT) == COUNT);
	EXPECT(weir_bounded_stats(pool, &stats) == 0);
	EXPECT(stats.in_use == COUNT && stats.failures == 1);
	EXPECT(weir_bounded_check(pool));
	weir_bounded_free_batch(pool, (void **)record, COUNT);
	weir_bounded_finish(pool);
	return fault_count == 4 ? 0 : 1;
}
