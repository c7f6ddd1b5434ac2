/* SPDX-License-Identifier: MIT */
/*
 * kernel_ring.h - io_uring of the kernel in kernel_sim.h, below ring.c.
 *
 * The queues lie in memory as the kernel lays them out; what is submitted is done
 * at once, or armed until there is something.  Whatever a kernel may do, this one
 * does at times: takes fewer entries than there are, lets a multishot request end
 * at any completion, finds no buffer, does not find what is to be cancelled, says
 * that it cancelled before or after the end of what it cancelled, keeps
 * completions aside because the queue is full, tells of a zero-copy send long
 * after the next one.  Without IORING_SETUP_DEFER_TASKRUN completions come in the
 * middle of other calls.
 *
 * What it lends and owes is known here, so kernel_ring_check() can compare: of
 * each connection what is armed with what the back end believes, and the buffers
 * that are published with those it counts.  The bytes of a zero-copy send must
 * be the same until its notification.
 */
#ifndef KERNEL_RING_H
#define KERNEL_RING_H

#include "kernel_sim.h"

#include "net/uring.h"

#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define KERNEL_REQUESTS 256
#define KERNEL_LATE 256
#define KERNEL_OVERFLOW 8192
#define KERNEL_GROUPS 4
#define KERNEL_SLOTS 64 /* direct descriptors */
#define KERNEL_NOTICES 128
#define KERNEL_VECTORS 64

/* Newer than the headers that may be there. */
#define KERNEL_PBUF_INC 2u
#define KERNEL_F_BUF_MORE (1u << 4)
#define KERNEL_CMD_SIOCOUTQ 1u

/* As io_uring_cqe, which has no fixed size. */
struct kernel_cqe {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
};

static_assert(sizeof(struct kernel_cqe) == sizeof(struct io_uring_cqe),
    "completions lie as the kernel lays them");

struct kernel_request {
	bool used;
	struct io_uring_sqe sqe;
	struct kernel_file *file;
	uint32_t left; /* a multishot receive ends after so many; 0: never */
};

struct kernel_late {
	struct kernel_cqe cqe;
	struct kernel_file *file; /* held until it is posted, or NULL */
};

/* The memory of a zero-copy send is the kernel's until the notice. */
struct kernel_notice {
	bool used;
	uint64_t user_data;
	uint64_t hash;
	struct kernel_file *file;
	struct iovec iov[KERNEL_VECTORS];
	size_t count;
};

struct kernel_group {
	struct io_uring_buf_ring *shared;
	uint32_t entries;
	uint16_t head;
	bool incremental;
};

static struct {
	uint32_t features; /* a probe finds, of those not forbidden */
	bool small;        /* queues that fill up */

	struct kernel_file *file;
	bool enabled, deferred;
	uint32_t sq_entries, cq_entries;
	unsigned char *map;
	struct io_uring_sqe *sqes;
	uint32_t *sq_head, *sq_tail, *sq_flags, *sq_array;
	uint32_t *cq_head, *cq_tail;
	struct kernel_cqe *cqes;

	struct kernel_request request[KERNEL_REQUESTS];
	struct kernel_late late[KERNEL_LATE];
	uint32_t lates;
	struct kernel_cqe overflow[KERNEL_OVERFLOW];
	uint32_t overflows;
	struct kernel_notice notice[KERNEL_NOTICES];
	struct kernel_group group[KERNEL_GROUPS];
	struct kernel_file *slot[KERNEL_SLOTS];
	uint32_t slots;
	uint64_t completions, notices, overflown;
} kring;

/* ---- completions ------------------------------------------------------------- */

static uint32_t
kring_load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static bool
kring_has_room(void)
{
	return *kring.cq_tail - kring_load(kring.cq_head) < kring.cq_entries;
}

static void
kring_put(const struct kernel_cqe *cqe)
{
	kring.cqes[*kring.cq_tail & (kring.cq_entries - 1)] = *cqe;
	__atomic_store_n(kring.cq_tail, *kring.cq_tail + 1, __ATOMIC_RELEASE);
	kring.completions++;
}

static void
kring_post(uint64_t user_data, int result, uint32_t flags)
{
	struct kernel_cqe cqe = {
	    .user_data = user_data, .res = result, .flags = flags};

	if (kring.overflows == 0 && kring_has_room()) {
		kring_put(&cqe);
		return;
	}
	CHECK_LT(kring.overflows, KERNEL_OVERFLOW);
	kring.overflow[kring.overflows++] = cqe;
	kring.overflown++;
	__atomic_store_n(kring.sq_flags,
	    *kring.sq_flags | IORING_SQ_CQ_OVERFLOW, __ATOMIC_RELEASE);
}

static void
kring_flush(void)
{
	uint32_t done = 0;

	while (done < kring.overflows && kring_has_room())
		kring_put(&kring.overflow[done++]);
	kring.overflows -= done;
	memmove(kring.overflow, kring.overflow + done,
	    kring.overflows * sizeof(kring.overflow[0]));
	if (kring.overflows == 0)
		__atomic_store_n(kring.sq_flags,
		    *kring.sq_flags & ~(uint32_t)IORING_SQ_CQ_OVERFLOW,
		    __ATOMIC_RELEASE);
}

static void
kring_drop(struct kernel_file *file)
{
	if (file == NULL)
		return;
	CHECK_GT(file->holds, 0);
	file->holds--;
	kernel_gone(file);
}

/* Now, or some time later; @file is held until then. */
static void
kring_post_some_time(uint64_t user_data, int result, struct kernel_file *file)
{
	if (sim_chance(500) || kring.lates == KERNEL_LATE) {
		kring_post(user_data, result, 0);
		kring_drop(file);
		return;
	}
	kring.late[kring.lates++] = (struct kernel_late){
	    .cqe = {.user_data = user_data, .res = result}, .file = file};
}

static void
kring_post_late(void)
{
	for (uint32_t i = kring.lates; i-- > 0;) {
		struct kernel_late late = kring.late[i];
		if (sim_chance(500))
			continue;
		kring.late[i] = kring.late[--kring.lates];
		kring_post(late.cqe.user_data, late.cqe.res, 0);
		kring_drop(late.file);
	}
}

/* The last completion of a request. */
static void
kring_finish(struct kernel_request *request, int result, uint32_t flags)
{
	struct kernel_file *file = request->file;

	request->used = false;
	if (result < 0 || !(request->sqe.flags & IOSQE_CQE_SKIP_SUCCESS))
		kring_post(request->sqe.user_data, result, flags);
	kring_drop(file);
}

/* ---- receives ------------------------------------------------------------------ */

static struct io_uring_buf *
kring_buffer(const struct kernel_group *group)
{
	uint16_t tail = __atomic_load_n(&group->shared->tail, __ATOMIC_ACQUIRE);

	CHECK_LE((uint16_t)(tail - group->head), group->entries);
	return tail == group->head
		   ? NULL
		   : &group->shared->bufs[group->head & (group->entries - 1)];
}

/* @bytes of it are used; the flags of a completion that says so. */
static uint32_t
kring_use_buffer(
    struct kernel_group *group, struct io_uring_buf *buffer, uint32_t bytes)
{
	uint32_t flags = IORING_CQE_F_BUFFER | (uint32_t)buffer->bid
						   << IORING_CQE_BUFFER_SHIFT;

	if (group->incremental && bytes < buffer->len) {
		buffer->addr += bytes;
		buffer->len -= bytes;
		return flags | KERNEL_F_BUF_MORE;
	}
	group->head++;
	return flags;
}

/* One receive into a buffer of the request's group; true: the request is over,
 * false: there is nothing more now. */
static bool
kring_receive_step(struct kernel_request *request, uint32_t *turn)
{
	const struct io_uring_sqe *sqe = &request->sqe;
	struct kernel_group *group = &kring.group[sqe->buf_group];
	struct io_uring_buf *buffer = kring_buffer(group);
	bool multishot = (sqe->ioprio & IORING_RECV_MULTISHOT) != 0;
	uint32_t room, flags;
	ssize_t got;

	if (buffer == NULL || kernel_fault(5)) {
		kring_finish(request, -ENOBUFS, 0);
		return true;
	}
	room = buffer->len < *turn ? buffer->len : *turn;
	if (request->left > 0 && request->left < room)
		room = request->left;
	got = kernel_receive(
	    request->file, (unsigned char *)(uintptr_t)buffer->addr, room);
	if (got == -EAGAIN)
		return false;
	if (got <= 0) {
		/* Some kernels hand back a buffer without bytes, too. */
		flags = got == 0 && !group->incremental && kernel_fault(100)
			    ? kring_use_buffer(group, buffer, buffer->len)
			    : 0;
		kring_finish(request, (int)got, flags);
		return true;
	}
	flags = kring_use_buffer(group, buffer, (uint32_t)got);
	*turn -= (uint32_t)got;
	if (!multishot || request->left == (uint32_t)got || kernel_fault(30)) {
		kring_finish(request, (int)got, flags);
		return true;
	}
	if (request->left > 0)
		request->left -= (uint32_t)got;
	kring_post(sqe->user_data, (int)got, flags | IORING_CQE_F_MORE);
	return *turn == 0;
}

static void
kring_receive_selected(struct kernel_request *request)
{
	const struct io_uring_sqe *sqe = &request->sqe;
	uint32_t turn = sqe->len == 0 ? UINT32_MAX : sqe->len;

	CHECK_LT(sqe->buf_group, KERNEL_GROUPS);
	CHECK_NOT_NULL(kring.group[sqe->buf_group].shared);
	while (!kring_receive_step(request, &turn))
		if (kernel_events(request->file) == 0 ||
		    request->file->peer->written == 0 || sim_chance(300))
			return;
}

/* Into memory of its own; what is not there yet is waited for, or not. */
static void
kring_receive_plain(struct kernel_request *request)
{
	const struct io_uring_sqe *sqe = &request->sqe;
	ssize_t got = kernel_receive(
	    request->file, (unsigned char *)(uintptr_t)sqe->addr, sqe->len);

	if (got != -EAGAIN || sqe->msg_flags & MSG_DONTWAIT)
		kring_finish(request, (int)got, 0);
}

/* ---- sends ------------------------------------------------------------------------ */

static uint64_t
kring_hash(const struct kernel_notice *notice)
{
	uint64_t hash = 1;

	for (size_t i = 0; i < notice->count; i++) {
		const unsigned char *bytes = notice->iov[i].iov_base;
		for (size_t k = 0; k < notice->iov[i].iov_len; k++)
			hash = (hash ^ bytes[k]) * UINT64_C(0x100000001b3);
	}
	return hash;
}

static void
kring_notice(
    const struct kernel_request *request, const struct iovec *iov, size_t count)
{
	struct kernel_notice *notice = kring.notice;

	while (notice->used)
		CHECK_LT(++notice - kring.notice, KERNEL_NOTICES);
	CHECK_LE(count, KERNEL_VECTORS);
	*notice = (struct kernel_notice){
	    .used = true,
	    .user_data = request->sqe.user_data,
	    .file = request->file,
	    .count = count,
	};
	memcpy(notice->iov, iov, count * sizeof(*iov));
	notice->hash = kring_hash(notice);
	request->file->holds++;
}

static void
kring_post_notices(void)
{
	for (uint32_t i = 0; i < KERNEL_NOTICES; i++) {
		struct kernel_notice *notice = &kring.notice[i];
		if (!notice->used || (!kernel.calm && sim_chance(800)))
			continue;
		CHECK_EQ(kring_hash(notice), notice->hash);
		notice->used = false;
		kring.notices++;
		kring_post(notice->user_data, 0, IORING_CQE_F_NOTIF);
		kring_drop(notice->file);
	}
}

static void
kring_send(struct kernel_request *request)
{
	const struct io_uring_sqe *sqe = &request->sqe;
	bool many = sqe->opcode == IORING_OP_SENDMSG ||
		    sqe->opcode == IORING_OP_SENDMSG_ZC;
	bool zero_copy = sqe->opcode == IORING_OP_SEND_ZC ||
			 sqe->opcode == IORING_OP_SENDMSG_ZC;
	const struct msghdr *message = (void *)(uintptr_t)sqe->addr;
	struct iovec one = {(void *)(uintptr_t)sqe->addr, sqe->len};
	const struct iovec *iov = many ? message->msg_iov : &one;
	size_t count = many ? message->msg_iovlen : 1;
	size_t bytes = 0;
	ssize_t sent = kernel_send(request->file, iov, count);

	for (size_t i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	CHECK(sqe->msg_flags & MSG_DONTWAIT);
	if (zero_copy) {
		/* There is a notice whatever came of it. */
		kring_notice(request, iov, count);
		request->sqe.flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
		kring_finish(request, (int)sent, IORING_CQE_F_MORE);
		return;
	}
	/* With MSG_WAITALL fewer bytes are a failure. */
	if ((size_t)sent < bytes)
		request->sqe.flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
	kring_finish(request, (int)sent, 0);
}

/* ---- what is armed ------------------------------------------------------------------ */

/* Direct descriptors: the lowest free slot has a file. */
static int
kring_slot(int fd)
{
	struct kernel_file *file = kernel_file(fd);
	uint32_t at = 0;

	while (at < kring.slots && kring.slot[at] != NULL)
		at++;
	if (at < kring.slots) {
		kring.slot[at] = file;
		file->holds++;
	}
	kernel_forget(fd);
	return at < kring.slots ? (int)at : -ENFILE;
}

static void
kring_accept(struct kernel_request *request)
{
	const struct io_uring_sqe *sqe = &request->sqe;
	bool multishot = (sqe->ioprio & IORING_ACCEPT_MULTISHOT) != 0;
	int result;

	do {
		result = kernel_accept(request->file);
		if (result == -EAGAIN)
			return;
		if (result >= 0 && sqe->file_index == IORING_FILE_INDEX_ALLOC)
			result = kring_slot(result);
		if (result < 0 || !multishot || kernel_fault(100)) {
			kring_finish(request, result, 0);
			return;
		}
		kring_post(sqe->user_data, result, IORING_CQE_F_MORE);
	} while (!sim_chance(300));
}

static void
kring_poll(struct kernel_request *request)
{
	uint32_t wanted =
	    request->sqe.poll32_events | (uint32_t)(POLLERR | POLLHUP);
	uint32_t events = kernel_events(request->file) & wanted;

	if (events == 0 && kernel_fault(2))
		events = request->sqe.poll32_events;
	if (events != 0)
		kring_finish(request, (int)events, 0);
}

/* Goes on as far as it can. */
static void
kring_run(struct kernel_request *request)
{
	switch (request->sqe.opcode) {
	case IORING_OP_POLL_ADD:
		kring_poll(request);
		break;
	case IORING_OP_ACCEPT:
		kring_accept(request);
		break;
	case IORING_OP_RECV:
		if (request->sqe.flags & IOSQE_BUFFER_SELECT)
			kring_receive_selected(request);
		else
			kring_receive_plain(request);
		break;
	default:
		kring_send(request);
		break;
	}
}

/* ---- what is done at once ------------------------------------------------------------ */

/* One that is just being served may not be found. */
static void
kring_cancel(const struct io_uring_sqe *sqe)
{
	bool all = (sqe->cancel_flags & IORING_ASYNC_CANCEL_ALL) != 0;
	int found = 0;

	for (uint32_t i = 0; i < KERNEL_REQUESTS; i++) {
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
	(void)file;
	if (sqe->cmd_op == KERNEL_CMD_SIOCOUTQ)
		return !kernel.calm && sim_chance(500);
	return 0;
}

static int
kring_shutdown(struct kernel_file *file)
{
	if (file->peer->reset)
		return -ENOTCONN;
	file->shut = true;
	file->peer->ended = true;
	return 0;
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
		kring_answer(sqe, kring_shutdown(kring_file(sqe)));
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
	uint32_t first = sim_below(KERNEL_REQUESTS);

	for (uint32_t i = 0; i < KERNEL_REQUESTS; i++) {
		struct kernel_request *request =
		    &kring.request[(first + i) % KERNEL_REQUESTS];
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

static void kernel_ring_check(void);

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
	kring.cq_entries = small ? 16 : params->cq_entries;
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

long
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
		*features &= ~(uint32_t)(WEIR_NET_RING_SEND | WEIR_NET_DIRECT |
					 WEIR_NET_ZERO_COPY);
	if (!(*features & WEIR_NET_BUFFER_RING))
		*features &= ~(uint32_t)WEIR_NET_TURN_CAP;
	if (!(*features & WEIR_NET_TURN_CAP))
		*features &= ~(uint32_t)WEIR_NET_MULTISHOT_RECEIVE;
	return 0;
}

/* ---- what both sides know ------------------------------------------------------------ */

/* Of (handle, tag): entries to be submitted, armed requests, last completions on
 * their way. */
static uint32_t
kring_owed(uint64_t user_data)
{
	uint32_t owed = 0;

	for (uint32_t at = *kring.sq_head; at != *kring.sq_tail; at++)
		owed += kring.sqes[at & (kring.sq_entries - 1)].user_data ==
			user_data;
	for (uint32_t i = 0; i < KERNEL_REQUESTS; i++)
		owed += kring.request[i].used &&
			kring.request[i].sqe.user_data == user_data;
	for (uint32_t i = 0; i < kring.lates; i++)
		owed += kring.late[i].cqe.user_data == user_data;
	for (uint32_t i = 0; i < kring.overflows; i++)
		owed += kring.overflow[i].user_data == user_data &&
			!(kring.overflow[i].flags & IORING_CQE_F_MORE);
	for (uint32_t at = *kring.cq_head; at != *kring.cq_tail; at++) {
		const struct kernel_cqe *cqe =
		    &kring.cqes[at & (kring.cq_entries - 1)];
		owed += cqe->user_data == user_data &&
			!(cqe->flags & IORING_CQE_F_MORE);
	}
	return owed;
}

static void
kring_check_conn(const struct weir_conn *conn)
{
	uint32_t armed = kring_owed(weiri_uring_data(conn, URING_TAG_MAIN)) +
			 kring_owed(weiri_uring_data(conn, URING_TAG_WATCH));
	uint32_t cancels = kring_owed(weiri_uring_data(conn, URING_TAG_CANCEL));
	uint32_t polls = kring_owed(weiri_uring_data(conn, URING_TAG_POLL));

	CHECK_EQ(armed, (conn->interest & URING_ARMED) != 0);
	CHECK_EQ(cancels, (conn->interest & URING_CANCELLED) != 0);
	CHECK_EQ(polls, (conn->interest & URING_POLLING) != 0);
}

static bool
kring_brings_buffer(const struct kernel_cqe *cqe)
{
	return (cqe->flags & IORING_CQE_F_BUFFER) != 0 &&
	       !(cqe->flags & KERNEL_F_BUF_MORE);
}

/* All that is published is with the kernel, or in completions not yet seen. */
static void
kring_check_supplies(const struct uring *uring)
{
	uint32_t published = 0;
	uint32_t with_kernel = 0;

	for (int i = 0; i < URING_GROUPS; i++)
		published += uring->supply[i].published;
	for (int i = 0; i < KERNEL_GROUPS; i++)
		if (kring.group[i].shared != NULL)
			with_kernel += (uint16_t)(kring.group[i].shared->tail -
						  kring.group[i].head);
	for (uint32_t at = *kring.cq_head; at != *kring.cq_tail; at++)
		with_kernel += kring_brings_buffer(
		    &kring.cqes[at & (kring.cq_entries - 1)]);
	for (uint32_t i = 0; i < kring.overflows; i++)
		with_kernel += kring_brings_buffer(&kring.overflow[i]);
	CHECK_EQ(published, with_kernel);
}

static void
kernel_ring_check(void)
{
	const struct weir_loop *loop = sim.loop;

	/* One in eight, for each is a walk over all. */
	if (!sim_chance(125))
		return;
	kring_check_supplies(weiri_uring_of(loop));
	WEIRI_LIST_FOR(node, &loop->conns)
	{
		kring_check_conn(
		    WEIRI_CONTAINER_OF(node, struct weir_conn, member));
	}
}

#endif /* KERNEL_RING_H */
