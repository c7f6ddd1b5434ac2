/* SPDX-License-Identifier: MIT */
/*
 * weir.h - all of weir: memory pools for servers.
 *
 *   region.h   many objects, one end (a request)
 *   region_vm.h  the same in one range of addresses, where nothing moves
 *   cache.h    objects of one type, any order, any thread
 *   handle.h   names of such objects that may be gone when they are used
 *   bounded.h  a fixed number of them in the caller's memory, lock-free
 *   buffer.h   I/O: sized, shared, sliced, reference counted
 *   buffer_limit.h  the same, waiting in turn, for a purpose, on an account
 *   buffer_watch.h  who holds which, since when
 *   chain.h    many slices as one message
 *   chunk.h    many small messages in one buffer
 *   broadcast.h  one message to many receivers
 *   channel.h    one message to many connections of an engine
 *   account.h  who pays for memory: connection, group, process
 *   heap.h     memory of any size, heaps that end at once
 *   buddy.h    power-of-two groups of anything
 *   net.h      loops and connections over them, completion style, with their
 *              limits in net_config.h
 *   stats.h    what every pool is doing
 *   guard.h    what happens when a program misuses a pool
 *   runtime.h  options, budget, start and end
 */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <weir/account.h>
#include <weir/bounded.h>
#include <weir/broadcast.h>
#include <weir/buddy.h>
#include <weir/buffer.h>
#include <weir/buffer_limit.h>
#include <weir/buffer_watch.h>
#include <weir/cache.h>
#include <weir/chain.h>
#include <weir/channel.h>
#include <weir/chunk.h>
#include <weir/guard.h>
#include <weir/handle.h>
#include <weir/heap.h>
#include <weir/limit.h>
#include <weir/net.h>
#include <weir/region.h>
#include <weir/region_vm.h>
#include <weir/runtime.h>
#include <weir/source.h>
#include <weir/stats.h>
#include <weir/version.h>

#endif /* WEIR_WEIR_H */
