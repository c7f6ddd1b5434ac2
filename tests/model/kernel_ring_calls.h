/* SPDX-License-Identifier: MIT */
/*
 * kernel_ring_calls.h - the three calls of an io_uring, and the memory it shares,
 * linked to the queues of kernel_ring.h.
 *
 * A call may fail, take part of what is queued, or wait for a completion while
 * peers act and time passes.  What a program may not do is a failure here: naming
 * a place of the table that it closed, closing a file that a request could still
 * name, touching bytes it lent.
 */
#ifndef KERNEL_RING_CALLS_H
#define KERNEL_RING_CALLS_H

#include "kernel_ring_io.h"

#include <stdarg.h>

/* ---- what is done at once ------------------------------------------------------------ */

/* One that is just being served may not be found. */
static void
kring_cancel(const struct io_uring_sqe *sqe)
{
	bool all = (sqe->cancel_flags & IORING_ASYNC_CANCEL_ALL) != 0;
	int found = 0;

	for (uint32_t i = 0; i < kring.requests; i++) {
		struct kernel_request *request = &kring.request[i];
		if (!request->used || request->sqe.user_data != sqe->addr ||
		    kernel_fault(100))
			continue;
		request->used = false;
		kring_post_some_time(
		    request->sqe.user_data, -ECANCELED, request->file);
		found++;
		if (!all)
			break;
	}
	kring_post_some_time(sqe->user_data,
	    found == 0 ? -ENOENT
	    : all      ? found
		       : 0,
	    NULL);
}

static int
kring_close_slot(uint32_t at)
{
	struct kernel_file *file;

	if (at >= kring.slots || kring.slot[at] == NULL)
		return -EBADF;
	file = kring.slot[at];
	kring.slot[at] = NULL;
	CHECK_EQ(file->holds, 1); /* what is armed could still name it */
	kring_drop(file);
	return 0;
}

static int
kring_command(struct kernel_file *file, const struct io_uring_sqe *sqe)
{
	switch (sqe->cmd_op) {
	case WEIRI_RING_SIOCOUTQ:
		return kernel_unacknowledged();
	case WEIRI_RING_SETSOCKOPT:
		return 0; /* SO_LINGER */
	case WEIRI_RING_GETSOCKOPT:
		CHECK_GE(sqe->file_index, sizeof(struct sockaddr_in));
		kernel_name_peer(file, (void *)(uintptr_t)sqe->addr3);
		return (int)sizeof(struct sockaddr_in);
	default:
		FAIL("command %u is not simulated", sqe->cmd_op);
	}
}

static struct kernel_file *
kring_file(const struct io_uring_sqe *sqe)
{
	if (!(sqe->flags & IOSQE_FIXED_FILE))
		return kernel_file(sqe->fd);
	CHECK_LT(sqe->fd, kring.slots);
	if (kring.slot[sqe->fd] == NULL)
		FAIL("step %llu: opcode %u for a direct descriptor that was "
		     "closed",
		    (unsigned long long)sim.steps, sqe->opcode);
	return kring.slot[sqe->fd];
}

static void
kring_arm(const struct io_uring_sqe *sqe)
{
	struct kernel_request *request = kring.request;

	while (request->used)
		CHECK_LT(++request - kring.request, KERNEL_REQUESTS);
	if (kring.requests <= (uint32_t)(request - kring.request))
		kring.requests = (uint32_t)(request - kring.request) + 1;
	*request = (struct kernel_request){
	    .used = true, .sqe = *sqe, .file = kring_file(sqe)};
	CHECK_NOT_NULL(request->file);
	request->file->holds++;
	if (sqe->opcode == IORING_OP_RECV)
		request->left = sqe->file_index;
	if (sqe->opcode != IORING_OP_RECV ||
	    !(sqe->ioprio & IORING_RECVSEND_POLL_FIRST))
		kring_run(request);
}

static void
kring_answer(const struct io_uring_sqe *sqe, int result)
{
	if (result < 0 || !(sqe->flags & IOSQE_CQE_SKIP_SUCCESS))
		kring_post(sqe->user_data, result, 0);
}

static void
kring_issue(const struct io_uring_sqe *sqe)
{
	switch (sqe->opcode) {
	case IORING_OP_POLL_ADD:
	case IORING_OP_ACCEPT:
	case IORING_OP_RECV:
	case IORING_OP_SEND:
	case IORING_OP_SENDMSG:
	case IORING_OP_SEND_ZC:
	case IORING_OP_SENDMSG_ZC:
		kring_arm(sqe);
		break;
	case IORING_OP_ASYNC_CANCEL:
		kring_cancel(sqe);
		break;
	case IORING_OP_SHUTDOWN:
		kring_answer(sqe, kernel_shut(kring_file(sqe)));
		break;
	case IORING_OP_URING_CMD:
		kring_answer(sqe, kring_command(kring_file(sqe), sqe));
		break;
	case IORING_OP_CLOSE:
		kring_answer(sqe, kring_close_slot(sqe->file_index - 1));
		break;
	default:
		FAIL("opcode %u is not simulated", sqe->opcode);
	}
}

/* ---- the calls ---------------------------------------------------------------------- */

/* What became ready, in an order of no meaning. */
static void
kring_work(void)
{
	uint32_t count = kring.requests; /* more are not of this turn */
	uint32_t first = sim_below(count > 0 ? count : 1);

	for (uint32_t i = 0; i < count; i++) {
		struct kernel_request *request =
		    &kring.request[(first + i) % count];
		if (request->used && (kernel.calm || sim_chance(700)))
			kring_run(request);
	}
	kring_post_late();
	kring_post_notices();
}

static void
kernel_interrupt(void)
{
	if (kring.file == NULL || !kring.enabled || kring.deferred ||
	    !sim_chance(50))
		return;
	kring_work();
}

/* How many it took. */
static uint32_t
kring_submit(uint32_t most)
{
	uint32_t head = *kring.sq_head;
	uint32_t taken = 0;

	while (taken < most && head != kring_load(kring.sq_tail)) {
		if (kernel_fault(5))
			break; /* no memory for a request */
		/* Copied: the entry may be filled anew from here on. */
		struct io_uring_sqe sqe =
		    kring.sqes[kring.sq_array[head & (kring.sq_entries - 1)]];
		head++;
		taken++;
		__atomic_store_n(kring.sq_head, head, __ATOMIC_RELEASE);
		kring_issue(&sqe);
	}
	return taken;
}

static int
kring_wait(uint32_t complete, const struct io_uring_getevents_arg *arg)
{
	int64_t timeout_ns = complete == 0 ? 0 : INT64_MAX;

	if (complete > 0 && arg->ts != 0) {
		const struct __kernel_timespec *time =
		    (void *)(uintptr_t)arg->ts;
		timeout_ns = time->tv_sec * 1000000000 + time->tv_nsec;
	}
	kring_flush();
	kernel_ring_check();
	if (*kring.cq_tail != kring_load(kring.cq_head))
		timeout_ns = 0;
	kernel_wait(timeout_ns);
	kring_work();
	kring_flush();
	return *kring.cq_tail != kring_load(kring.cq_head) || complete == 0
		   ? 0
		   : -ETIME;
}

static long
kring_enter(uint32_t submit, uint32_t complete, uint32_t flags,
    const struct io_uring_getevents_arg *arg)
{
	uint32_t taken;
	int error = 0;

	if (!kring.enabled)
		return -EBADFD;
	if (kernel_fault(10))
		return sim_chance(300)   ? -EBUSY
		       : sim_chance(500) ? -EAGAIN
					 : -EINTR;
	taken = kring_submit(submit);
	if (taken == 0 && submit > 0)
		return -EAGAIN;
	if (flags & IORING_ENTER_GETEVENTS)
		error = kring_wait(complete, arg);
	return taken > 0 ? (long)taken : error;
}

static void
kring_lay_out(struct io_uring_params *params)
{
	size_t cqes = 512;
	size_t array = cqes + kring.cq_entries * sizeof(struct kernel_cqe);
	size_t all = array + kring.sq_entries * sizeof(uint32_t);

	kring.map = calloc(1, all);
	kring.sqes = calloc(kring.sq_entries, sizeof(struct io_uring_sqe));
	CHECK_NOT_NULL(kring.map);
	CHECK_NOT_NULL(kring.sqes);
	kring.sq_head = (void *)kring.map;
	kring.sq_tail = (void *)(kring.map + 64);
	kring.sq_flags = (void *)(kring.map + 128);
	kring.cq_head = (void *)(kring.map + 192);
	kring.cq_tail = (void *)(kring.map + 256);
	kring.cqes = (void *)(kring.map + cqes);
	kring.sq_array = (void *)(kring.map + array);
	params->sq_off = (struct io_sqring_offsets){
	    .head = 0, .tail = 64, .flags = 128, .array = (uint32_t)array};
	params->cq_off = (struct io_cqring_offsets){
	    .head = 192, .tail = 256, .cqes = (uint32_t)cqes};
}

static int
kring_setup(uint32_t entries, struct io_uring_params *params)
{
	uint32_t features = kring.features;
	bool small = kring.small;

	CHECK_NULL(kring.file);
	CHECK(params->flags & IORING_SETUP_R_DISABLED);
	memset(&kring, 0, sizeof(kring));
	kring.features = features;
	kring.small = small;
	kring.deferred = (params->flags & IORING_SETUP_DEFER_TASKRUN) != 0;
	kring.sq_entries = small ? 8 : entries;
	/* No kernel gives fewer than were asked for; but the back end needs
	 * many only for what it cannot do by calls. */
	kring.cq_entries = !small ? params->cq_entries
			   : sim.net->features & WEIR_NET_DIRECT ? 512
								 : 16;
	params->sq_entries = kring.sq_entries;
	params->cq_entries = kring.cq_entries;
	params->features = UINT32_MAX;
	kring_lay_out(params);
	int fd = kernel_open(KERNEL_RING, NULL);
	kring.file = kernel_file(fd);
	return fd;
}

/* Its end: nothing is armed any more but what belongs to the loop itself. */
static void
kring_end(void)
{
	if (kring.file == NULL || kring.file->kind == KERNEL_RING)
		return;
	for (uint32_t i = 0; i < KERNEL_REQUESTS; i++)
		if (kring.request[i].used) {
			CHECK_EQ(kring.request[i].file->kind, KERNEL_EVENT);
			kring.request[i].file->holds--;
		}
	for (uint32_t i = 0; i < KERNEL_NOTICES; i++)
		CHECK(!kring.notice[i].used);
	for (uint32_t i = 0; i < kring.lates; i++)
		CHECK_NULL(kring.late[i].file);
	for (uint32_t i = 0; i < kring.slots; i++)
		CHECK_NULL(kring.slot[i]);
	free(kring.map);
	free(kring.sqes);
	memset(&kring, 0, sizeof(kring));
}

static int
kring_register_group(const struct io_uring_buf_reg *reg)
{
	struct kernel_group *group;
	uint16_t flags;

	memcpy(&flags, (const char *)reg + 14, sizeof(flags));
	if (flags & ~KERNEL_PBUF_INC)
		return -EINVAL;
	CHECK_LT(reg->bgid, KERNEL_GROUPS);
	group = &kring.group[reg->bgid];
	CHECK_NULL(group->shared);
	*group = (struct kernel_group){
	    .shared = (void *)(uintptr_t)reg->ring_addr,
	    .entries = reg->ring_entries,
	    .incremental = (flags & KERNEL_PBUF_INC) != 0,
	};
	return 0;
}

static int
kring_register(uint32_t what, void *argument, uint32_t count)
{
	switch (what) {
	case IORING_REGISTER_ENABLE_RINGS:
		kring.enabled = true;
		return 0;
	case IORING_REGISTER_PBUF_RING:
		return kring_register_group(argument);
	case IORING_REGISTER_FILES2: {
		const struct io_uring_rsrc_register *reg = argument;
		CHECK_EQ(reg->flags, IORING_RSRC_REGISTER_SPARSE);
		kring.slots = reg->nr < KERNEL_SLOTS ? reg->nr : KERNEL_SLOTS;
		return 0;
	}
	case IORING_REGISTER_FILES_UPDATE: {
		const struct io_uring_rsrc_update *update = argument;
		const int *fds = (void *)(uintptr_t)update->data;
		CHECK_EQ(count, 1);
		CHECK_EQ(*fds, -1);
		int error = kring_close_slot(update->offset);
		return error < 0 ? error : 1;
	}
	default:
		return -EINVAL;
	}
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/* As syscall() does, it takes six words, of which the caller may not have given
 * all. */
__attribute__((no_sanitize("address"))) long
__wrap_syscall(long number, ...)
{
	long a[6];
	va_list list;
	long result;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (!kernel.on ||
	    (number != __NR_io_uring_setup && number != __NR_io_uring_enter &&
		number != __NR_io_uring_register))
		return __real_syscall(
		    number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (number == __NR_io_uring_setup) {
		result = kring_setup((uint32_t)a[0], (void *)a[1]);
	} else {
		CHECK_EQ(kernel_file((int)a[0])->kind, KERNEL_RING);
		kernel.calls++;
		if (kernel.look != NULL)
			kernel.look();
		result = number == __NR_io_uring_enter
			     ? kring_enter((uint32_t)a[1], (uint32_t)a[2],
				   (uint32_t)a[3], (void *)a[4])
			     : kring_register((uint32_t)a[1], (void *)a[2],
				   (uint32_t)a[3]);
	}
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

KERNEL_WRAP(void *, mmap, void *at, size_t bytes, int protection, int flags,
    int fd, off_t offset)
{
	if (kernel_file(fd) == NULL)
		return __real_mmap(at, bytes, protection, flags, fd, offset);
	return offset == (off_t)IORING_OFF_SQES ? (void *)kring.sqes
						: (void *)kring.map;
}

KERNEL_WRAP(int, munmap, void *at, size_t bytes)
{
	if (kernel.on && at != NULL &&
	    (at == (void *)kring.map || at == (void *)kring.sqes))
		return 0; /* until the ring is closed */
	return __real_munmap(at, bytes);
}

KERNEL_WRAP(int, weiri_ring_probe, uint32_t without, uint32_t *features)
{
	if (!kernel.on)
		return __real_weiri_ring_probe(without, features);
	*features = kring.features & ~without;
	if (!(*features & WEIR_NET_DEFERRED))
		*features &= ~(uint32_t)WEIR_NET_RING_SEND;
	if (!(*features & WEIR_NET_RING_SEND))
		*features &= ~(uint32_t)(WEIR_NET_DIRECT | WEIR_NET_ZERO_COPY);
	if (!(*features & WEIR_NET_BUFFER_RING))
		*features &=
		    ~(uint32_t)(WEIR_NET_TURN_CAP | WEIR_NET_INCREMENTAL);
	if (!(*features & WEIR_NET_TURN_CAP))
		*features &= ~(uint32_t)WEIR_NET_MULTISHOT_RECEIVE;
	return 0;
}

#endif /* KERNEL_RING_CALLS_H */
