/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Sending by test runs in live frame mode (Documentation/bpf/bpf_prog_run.rst): user space lays a batch of packets
 * into a map and has the program run once for each. Each run finds an empty frame, copies the next packet into it and
 * redirects it to the interface, whose driver takes it as an XDP frame: no socket buffer is made.
 * drivers/src/xdp/transmit.rs lays out the same bytes.
 */
#ifndef WIREPATH_TRANSMIT_H
#define WIREPATH_TRANSMIT_H

#include "kernel.h"

#define TRANSMIT_SLOTS 256
/* The kernel makes room for 3,408 bytes, order included, in the page of an empty frame. */
#define TRANSMIT_SLOT_SIZE 3392
#define TRANSMIT_MAGIC 0x74697877 /* "wxit" */

/* In front of the frame, as its metadata: tells a run that sends from a packet that was received. */
struct transmit_order {
	__u32 magic;
	__u32 queue;
};

struct transmit_batch {
	/* The first packet not sent yet, moved on by each run. */
	__u32 next;
	__u32 count;
	/* Bytes of each, Ethernet header included. */
	__u32 len[TRANSMIT_SLOTS];
	__u8 packet[TRANSMIT_SLOTS][TRANSMIT_SLOT_SIZE];
};

struct transmit_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	/* By their sizes: BTF holds no struct that only pointers mention. */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct transmit_batch));
};

/* By queue. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__array(values, struct transmit_map);
} transmit_batches SEC(".maps");

/* One entry: the interface. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} transmit_device SEC(".maps");

/* Whether this run is to send, and from which queue's batch. */
INLINE int is_order(struct xdp_md *ctx, __u32 *queue)
{
	struct transmit_order *order = (void *)(unsigned long)ctx->data_meta;

	/* What drivers without metadata say reaches beyond the start of the packet, too. */
	if ((void *)(order + 1) > (void *)(unsigned long)ctx->data)
		return 0;
	if (order->magic != TRANSMIT_MAGIC)
		return 0;
	*queue = order->queue;
	return 1;
}

/* Sends the next packet of the batch; drops the empty frame if there is none. */
INLINE int transmit(struct xdp_md *ctx, __u32 queue)
{
	struct transmit_batch *batch;
	__u32 zero = 0, at, len;
	__u64 have;
	void *current = bpf_map_lookup_elem(&transmit_batches, &queue);

	if (!current)
		return XDP_DROP;
	batch = bpf_map_lookup_elem(current, &zero);
	if (!batch)
		return XDP_DROP;
	at = batch->next;
	if (at >= batch->count || at >= TRANSMIT_SLOTS)
		return XDP_DROP;
	batch->next = at + 1;
	len = batch->len[at];
	if (len < sizeof(struct ethernet) || len > TRANSMIT_SLOT_SIZE)
		return XDP_DROP;
	/* Whoever receives the frame on this host would take the order for its own. */
	if (bpf_xdp_adjust_meta(ctx, sizeof(struct transmit_order)))
		return XDP_DROP;
	have = (__u64)ctx->data_end - (__u64)ctx->data;
	/* Else the subtractions become one of 32 bits, which the verifier allows no pointer. */
	HIDE(have);
	if (bpf_xdp_adjust_tail(ctx, (int)len - (int)have))
		return XDP_DROP;
	if (bpf_xdp_store_bytes(ctx, 0, batch->packet[at], len))
		return XDP_DROP;
	return bpf_redirect_map(&transmit_device, 0, XDP_DROP);
}

#endif
