/* SPDX-License-Identifier: MIT */
/*
 * kernel_ring_io.h - what the requests of kernel_ring.h do: they receive, send,
 * accept and poll, now or as soon as there is something.
 *
 * A receive takes the oldest buffer of its group, or the next part of it where
 * the group is incremental.  A send without a copy is read at once, and once more
 * when it is notified: by then its bytes must be the same.
 */
#ifndef KERNEL_RING_IO_H
#define KERNEL_RING_IO_H

#include "kernel_ring.h"

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

	kring.received[group - kring.group]++;
	if (group->incremental && bytes < buffer->len) {
		kring.parts++;
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
		size_t left = notice->iov[i].iov_len;
		uint64_t word = 0;

		for (; left > 0; left -= left < 8 ? left : 8, bytes += 8) {
			memcpy(&word, bytes, left < 8 ? left : 8);
			hash = (hash ^ word) * UINT64_C(0x100000001b3);
			hash ^= hash >> 29;
		}
	}
	return hash;
}

/* Of the first @bytes; nothing else is read any more. */
static void
kring_notice(
    const struct kernel_request *request, const struct iovec *iov, size_t bytes)
{
	struct kernel_notice *notice = kring.notice;

	while (notice->used)
		CHECK_LT(++notice - kring.notice, KERNEL_NOTICES);
	*notice = (struct kernel_notice){
	    .used = true,
	    .user_data = request->sqe.user_data,
	    .file = request->file,
	};
	while (bytes > 0) {
		struct iovec *part = &notice->iov[notice->count++];

		CHECK_LE(notice->count, KERNEL_VECTORS);
		*part = *iov++;
		if (part->iov_len > bytes)
			part->iov_len = bytes;
		bytes -= part->iov_len;
	}
	notice->hash = kring_hash(notice);
	request->file->lent++;
	kring.noticed++;
}

/* Some were copied after all. */
static void
kring_post_notices(void)
{
	for (uint32_t i = 0; kring.noticed > 0 && i < KERNEL_NOTICES; i++) {
		struct kernel_notice *notice = &kring.notice[i];
		if (!notice->used || sim_chance(kernel.calm ? 300 : 800))
			continue;
		CHECK_EQ(kring_hash(notice), notice->hash);
		notice->used = false;
		kring.noticed--;
		kring.notices++;
		kring_post(notice->user_data,
		    sim_chance(100) ? (int)WEIRI_RING_COPIED : 0,
		    IORING_CQE_F_NOTIF);
		notice->file->lent--;
		kernel_gone(notice->file);
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
		/* There is a notice whatever came of it, unless it did not come
		 * to anything. */
		bool more = sent >= 0 || sim_chance(500);
		if (more)
			kring_notice(request, iov, sent > 0 ? (size_t)sent : 0);
		CHECK(!(sqe->flags & IOSQE_CQE_SKIP_SUCCESS));
		kring_finish(request, (int)sent, more ? IORING_CQE_F_MORE : 0);
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
		kring.direct++;
	} else {
		kring.refused++;
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
		if (sqe->file_index == IORING_FILE_INDEX_ALLOC) {
			sim.perhaps += result == -ENFILE;
			if (result >= 0)
				result = kring_slot(result);
		}
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

#endif /* KERNEL_RING_IO_H */
