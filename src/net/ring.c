/* SPDX-License-Identifier: MIT */
/*
 * ring.c - one io_uring, without a library.
 *
 * The engine needs four calls of it: open, fill an entry, wait, look at a
 * completion.  A program that only wants pools should not have to install and
 * load liburing for that, so they are here.
 *
 * Rings are made with DEFER_TASKRUN and SINGLE_ISSUER where there is that:
 * completions are produced when the loop asks for them, by its own thread, and
 * so in batches.  Elsewhere COOP_TASKRUN at least has no interrupts sent for
 * them.  The issuer is whoever enables the ring, which starts disabled; hence a
 * loop can be made and given its listeners on one thread, and run on another.
 *
 * When a ring ends, some time after its close, the kernel interrupts the threads
 * that made it or used it, and a blocking call of theirs may fail with EINTR.
 * The loop's thread is mostly gone by then, but the maker's may be the program's
 * main one.  So rings are made aside, on a thread that ends with that.
 *
 * Invariants:
 *  R1  sq_tail - *sq_head <= entries; the entries between are filled.
 *  R2  Before enabled nothing was submitted.
 */
#include "net/ring.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Polls and what they lead to end at once; nothing else is armed. */
#define RING_CANCEL_S 1

static int
ring_call(const struct weiri_ring *ring, uint32_t submit, uint32_t complete,
    uint32_t flags, const void *arg, size_t arg_bytes)
{
	long result = syscall(__NR_io_uring_enter, ring->fd, submit, complete,
	    flags, arg, arg_bytes);

	return result < 0 ? -errno : 0;
}

/* ---- life ------------------------------------------------------------ */

static int
ring_map(struct weiri_ring *ring, const struct io_uring_params *params)
{
	const struct io_sqring_offsets *sq = &params->sq_off;
	const struct io_cqring_offsets *cq = &params->cq_off;
	size_t sq_end = sq->array + params->sq_entries * sizeof(uint32_t);
	size_t cq_end =
	    cq->cqes + params->cq_entries * sizeof(struct io_uring_cqe);
	int protection = PROT_READ | PROT_WRITE;
	void *map;

	ring->map_bytes = sq_end > cq_end ? sq_end : cq_end;
	map = mmap(NULL, ring->map_bytes, protection, MAP_SHARED | MAP_POPULATE,
	    ring->fd, IORING_OFF_SQ_RING);
	if (map == MAP_FAILED)
		return -errno;
	ring->map = map;
	ring->sqes_bytes = params->sq_entries * sizeof(struct io_uring_sqe);
	map = mmap(NULL, ring->sqes_bytes, protection,
	    MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	if (map == MAP_FAILED)
		return -errno;
	ring->sqes = map;

	ring->sq_flags = (void *)(ring->map + sq->flags);
	ring->sq_head = (void *)(ring->map + sq->head);
	ring->sq_shared_tail = (void *)(ring->map + sq->tail);
	ring->sq_mask = params->sq_entries - 1;
	ring->cq_head = (void *)(ring->map + cq->head);
	ring->cq_tail = (void *)(ring->map + cq->tail);
	ring->cq_mask = params->cq_entries - 1;
	ring->cqes = (void *)(ring->map + cq->cqes);
	/* Entry i of the queue is always entry i of the array. */
	uint32_t *array = (void *)(ring->map + sq->array);
	for (uint32_t i = 0; i < params->sq_entries; i++)
		array[i] = i;
	return 0;
}

struct aside {
	void (*run)(void *argument);
	void *argument;
};

static void *
ring_aside_run(void *argument)
{
	const struct aside *aside = argument;

	aside->run(aside->argument);
	return NULL;
}

int
weiri_ring_aside(void (*run)(void *argument), void *argument)
{
	struct aside aside = {run, argument};
	sigset_t all, old;
	pthread_t thread;
	int error;

	/* The program's signals are not for it. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	error = pthread_create(&thread, NULL, ring_aside_run, &aside);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error == 0)
		pthread_join(thread, NULL);
	return -error;
}

struct ring_setup {
	struct io_uring_params params;
	uint32_t entries;
	int result; /* descriptor or -errno */
};

static void
ring_setup_run(void *argument)
{
	struct ring_setup *setup = argument;
	long fd = syscall(__NR_io_uring_setup, setup->entries, &setup->params);

	setup->result = fd < 0 ? -errno : (int)fd;
}

int
weiri_ring_open(
    struct weiri_ring *ring, uint32_t sq, uint32_t cq, bool deferred)
{
	const uint32_t work =
	    deferred ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
		     : IORING_SETUP_COOP_TASKRUN;
	struct ring_setup setup = {
	    .params =
		{
		    .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
			     IORING_SETUP_R_DISABLED | work,
		    .cq_entries = cq,
		},
	    .entries = sq,
	};
	const uint32_t features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP |
				  IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP;
	int error = weiri_ring_aside(ring_setup_run, &setup);

	*ring = (struct weiri_ring){.fd = error == 0 ? setup.result : error};
	if (ring->fd < 0) {
		error = ring->fd;
		ring->fd = -1;
		return error;
	}
	error = (setup.params.features & features) == features
		    ? ring_map(ring, &setup.params)
		    : -ENOSYS;
	if (error != 0)
		weiri_ring_close(ring);
	return error;
}

void
weiri_ring_close(struct weiri_ring *ring)
{
	if (ring->sqes != NULL)
		munmap(ring->sqes, ring->sqes_bytes);
	if (ring->map != NULL)
		munmap(ring->map, ring->map_bytes);
	if (ring->fd >= 0)
		close(ring->fd);
	*ring = (struct weiri_ring){.fd = -1};
}

/* ---- submitting -------------------------------------------------------- */

uint32_t
weiri_ring_pending(const struct weiri_ring *ring)
{
	return ring->sq_tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
}

struct io_uring_sqe *
weiri_ring_entry(struct weiri_ring *ring)
{
	struct io_uring_sqe *entry;

	if (weiri_ring_pending(ring) > ring->sq_mask) {
		if (!ring->enabled || ring->dead)
			return NULL;
		if (ring->refuse > 0) {
			ring->refuse--;
			return NULL;
		}
		(void)ring_call(ring, weiri_ring_pending(ring), 0, 0, NULL, 0);
		if (weiri_ring_pending(ring) > ring->sq_mask)
			return NULL;
	}
	entry = &ring->sqes[ring->sq_tail & ring->sq_mask];
	memset(entry, 0, sizeof(*entry));
	/* The kernel looks at entries only when asked to submit. */
	ring->sq_tail++;
	__atomic_store_n(ring->sq_shared_tail, ring->sq_tail, __ATOMIC_RELEASE);
	return entry;
}

uint32_t
weiri_ring_submit(struct weiri_ring *ring)
{
	uint32_t pending = weiri_ring_pending(ring);

	/* Fewer are taken when there is no memory for a request. */
	while (pending > 0) {
		int error = ring_call(ring, pending, 0, 0, NULL, 0);
		uint32_t left = weiri_ring_pending(ring);
		if (error != -EINTR && left == pending)
			break;
		pending = left;
	}
	return pending;
}

void
weiri_ring_withdraw(struct weiri_ring *ring, uint32_t count)
{
	WEIR_ASSERT(count <= weiri_ring_pending(ring));
	ring->sq_tail -= count;
	__atomic_store_n(ring->sq_shared_tail, ring->sq_tail, __ATOMIC_RELEASE);
}

/* ---- direct descriptors ------------------------------------------------ */

int
weiri_ring_table_open(struct weiri_ring *ring, uint32_t entries)
{
	const struct io_uring_rsrc_register table = {
	    .nr = entries,
	    .flags = IORING_RSRC_REGISTER_SPARSE,
	};

	return syscall(__NR_io_uring_register, ring->fd, IORING_REGISTER_FILES2,
		   &table, sizeof(table)) == 0
		   ? 0
		   : -errno;
}

void
weiri_ring_table_close(struct weiri_ring *ring, uint32_t index)
{
	const int none = -1;
	const struct io_uring_files_update update = {
	    .offset = index,
	    .fds = (uint64_t)(uintptr_t)&none,
	};

	(void)syscall(__NR_io_uring_register, ring->fd,
	    IORING_REGISTER_FILES_UPDATE, &update, 1);
}

void
weiri_ring_command(struct io_uring_sqe *entry, uint32_t command, int option,
    const void *value, uint32_t bytes)
{
	const int name[] = {SOL_SOCKET, option};

	entry->opcode = IORING_OP_URING_CMD;
	entry->cmd_op = command;
	/* Later headers have fields of these names: level, optname ... */
	memcpy(&entry->addr, name, sizeof(name));
	entry->file_index = bytes;                 /* optlen */
	entry->addr3 = (uint64_t)(uintptr_t)value; /* optval */
}

/* ---- waiting ------------------------------------------------------------ */

static int
ring_enable(struct weiri_ring *ring)
{
	if (syscall(__NR_io_uring_register, ring->fd,
		IORING_REGISTER_ENABLE_RINGS, NULL, 0) != 0)
		return -errno;
	ring->enabled = true;
	return 0;
}

/* 0 or -errno, for good. */
static int
ring_wait(struct weiri_ring *ring, int64_t timeout_ns)
{
	struct __kernel_timespec time = {
	    .tv_sec = timeout_ns / 1000000000,
	    .tv_nsec = timeout_ns % 1000000000,
	};
	struct io_uring_getevents_arg arg = {
	    .ts = timeout_ns == INT64_MAX ? 0 : (uint64_t)(uintptr_t)&time,
	};
	int error = ring_call(ring, weiri_ring_pending(ring), timeout_ns != 0,
	    IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));

	switch (-error) {
	case ETIME:
	case EINTR:
	case EAGAIN: /* no memory for a request now */
	case EBUSY:  /* completions have to be looked at first */
		return 0;
	default:
		return error;
	}
}

int
weiri_ring_wait(struct weiri_ring *ring, int64_t timeout_ns)
{
	int error;

	/* Completions of what was given up must not be seen any more. */
	if (WEIR_UNLIKELY(ring->dead))
		return -EIO;
	error = ring->enabled ? 0 : ring_enable(ring);
	if (WEIR_LIKELY(error == 0))
		error = ring_wait(ring, timeout_ns);
	ring->dead = error != 0;
	return error;
}

int
weiri_ring_cancel_all(const struct weiri_ring *ring)
{
	struct io_uring_sync_cancel_reg all = {
	    .fd = -1,
	    .flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY,
	    .timeout = {.tv_sec = RING_CANCEL_S},
	};

	return syscall(__NR_io_uring_register, ring->fd,
		   IORING_REGISTER_SYNC_CANCEL, &all, 1) == 0
		   ? 0
		   : -errno;
}

int
weiri_ring_listen(struct weiri_ring *ring, int64_t timeout_ns)
{
	return ring->enabled ? ring_wait(ring, timeout_ns) : -EIO;
}
