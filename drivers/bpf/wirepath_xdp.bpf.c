/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Decides for each received frame: to the kernel, away, to the AF_XDP socket of its queue, or back out. The
 * rules are those of wirepath_wire::rules, whose matcher is the reference this program is tested against.
 *
 * What is not understood here in full goes to the kernel: other protocols, fragments, IPv4 options, IPv6
 * extension headers, a second VLAN tag, lengths that contradict each other.
 */
/* Queues of one interface; NICs have fewer. */
#define MAX_QUEUES 256
/* Processes that share the interface at a time, each with queues of its own. */
#define MAX_OWNERS 8

#include "tables.h"
#include "transmit.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum event {
	EVENT_UNPARSED_PASSED,
	EVENT_VLAN_PASSED,
	EVENT_FOREIGN_PASSED,
	EVENT_UNCLAIMED_PASSED,
	EVENT_COUNT,
};

struct tables_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule_tables);
};

/*
 * One slot that holds the rule set in force. User space fills a new inner map and swaps it in: each packet sees
 * one rule set as a whole. The kernel's update waits until no program uses the old one. Where a change touches
 * ports only, user space writes those entries in place, one store each.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct tables_map);
} rule_sets SEC(".maps");

/* By owner and queue: what a rule redirects on a queue of somebody else's finds no socket, and passes to the kernel. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_OWNERS * MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* By the counter number in struct rule_action: a rule keeps its number while others come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_RULES);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} events SEC(".maps");

/* A whole, unfragmented IP packet without options. Offsets count from the start of the frame. */
struct flow {
	/* The IP header; its fixed part lies before data_end. */
	void *ip;
	__u32 payload;
	__u32 end;
	/* Network order; zero unless UDP or TCP. */
	__u16 src_port;
	__u16 dst_port;
	__u16 vlan;
	__u8 v6;
	__u8 protocol;
	__u8 control;
};

enum { IP_PROTOCOL_TCP = 6, IP_PROTOCOL_UDP = 17 };

INLINE void count(void *map, __u32 at)
{
	__u64 *counter = bpf_map_lookup_elem(map, &at);

	if (counter)
		*counter += 1;
}

INLINE int is_vlan(__u16 type)
{
	return type == ntohs(0x8100) || type == ntohs(0x88a8);
}

INLINE int is_extension(__u8 next_header)
{
	switch (next_header) {
	case 0: /* hop-by-hop options */
	case 43: /* routing */
	case 44: /* fragment */
	case 51: /* authentication */
	case 60: /* destination options */
	case 135: /* mobility */
	case 139: /* host identity */
	case 140: /* shim6 */
		return 1;
	}
	return 0;
}

/* Returns 0 and fills `flow`, or -1: for the kernel. */
INLINE int dissect(struct xdp_md *ctx, __u32 frame_len, struct flow *flow)
{
	void *data = (void *)(unsigned long)ctx->data;
	void *data_end = (void *)(unsigned long)ctx->data_end;
	struct ethernet *ethernet = data;
	void *ip = ethernet + 1;
	__u32 l4, len;
	__u16 type;

	if (ip > data_end)
		return -1;
	type = ethernet->type;
	flow->vlan = 0;
	l4 = sizeof(*ethernet);
	if (UNLIKELY(is_vlan(type))) {
		struct vlan_tag *tag = ip;

		if ((void *)(tag + 1) > data_end)
			return -1;
		flow->vlan = ntohs(tag->tci) & 0x0fff;
		type = tag->type;
		ip = tag + 1;
		l4 += sizeof(*tag);
	}
	flow->ip = ip;

	if (type == ntohs(0x0800)) {
		struct ipv4 *v4 = ip;

		if ((void *)(v4 + 1) > data_end)
			return -1;
		/* Version 4, no options. */
		if (v4->version_ihl != 0x45)
			return -1;
		/* "More fragments", or an offset. */
		if (v4->fragment & ntohs(0x3fff))
			return -1;
		len = ntohs(v4->total_len);
		if (len < sizeof(*v4))
			return -1;
		len -= sizeof(*v4);
		l4 += sizeof(*v4);
		flow->v6 = 0;
		flow->protocol = v4->protocol;
		ip = v4 + 1;
	} else if (type == ntohs(0x86dd)) {
		struct ipv6 *v6 = ip;

		if ((void *)(v6 + 1) > data_end)
			return -1;
		if ((v6->version_class_label & 0xf0) != 0x60)
			return -1;
		if (is_extension(v6->next_header))
			return -1;
		len = ntohs(v6->payload_len);
		l4 += sizeof(*v6);
		flow->v6 = 1;
		flow->protocol = v6->next_header;
		ip = v6 + 1;
	} else {
		return -1;
	}
	flow->end = l4 + len;
	if (flow->end > frame_len)
		return -1;

	flow->src_port = 0;
	flow->dst_port = 0;
	flow->control = 0;
	flow->payload = l4;
	if (flow->protocol == IP_PROTOCOL_UDP) {
		struct udp *udp = ip;
		__u32 udp_len;

		if ((void *)(udp + 1) > data_end || len < sizeof(*udp))
			return -1;
		udp_len = ntohs(udp->len);
		if (udp_len < sizeof(*udp) || udp_len > len)
			return -1;
		flow->src_port = udp->src_port;
		flow->dst_port = udp->dst_port;
		flow->payload = l4 + sizeof(*udp);
		flow->end = l4 + udp_len;
	} else if (flow->protocol == IP_PROTOCOL_TCP) {
		struct tcp *tcp = ip;
		__u32 tcp_len;

		if ((void *)(tcp + 1) > data_end || len < sizeof(*tcp))
			return -1;
		tcp_len = (tcp->data_offset >> 4) * 4;
		if (tcp_len < sizeof(*tcp) || tcp_len > len)
			return -1;
		flow->src_port = tcp->src_port;
		flow->dst_port = tcp->dst_port;
		flow->payload = l4 + tcp_len;
		/* FIN, SYN, RST */
		flow->control = tcp->flags & 0x07;
	}
	return 0;
}

/* The rule of the exact key, or NO_RULE. */
NOINLINE __u32 look_up(const struct rule_tables *tables, const struct exact_key *key)
{
	const __u64 *words = (const __u64 *)key;
	const struct exact_entry *entry;
	__u64 hash, differing = 0;

	if (!tables || !key)
		return NO_RULE;
	hash = tables->exact_seed;
#pragma unroll
	for (int i = 0; i < EXACT_WORDS; i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 29;
	}
	entry = &tables->exact[((hash >> 32) + tables->exact_displacement[hash % EXACT_BUCKETS]) % EXACT_SLOTS];
#pragma unroll
	for (int i = 0; i < EXACT_WORDS; i++)
		differing |= entry->key[i] ^ words[i];
	return differing ? NO_RULE : entry->rule;
}

INLINE __u32 least(__u32 a, __u32 b)
{
	return a < b ? a : b;
}

/*
 * 1 where a < b + borrow, else 0: without a jump, since nine in a row would be 512 paths to the verifier. And not
 * as a mask of all ones: at an AND with one of those the verifier tries both values.
 */
INLINE __u64 is_less(__u64 a, __u64 b, __u64 borrow)
{
	__u64 less = (~a & b) | ((~a | b) & (a - b - borrow));

	HIDE(less);
	less >>= 63;
	HIDE(less);
	return less;
}

/* The last interval that starts at or before the address: nine halvings, whatever is in the table. */
INLINE __u32 match_prefix_v4(const struct rule_tables *tables, const struct ipv4 *ip)
{
	__u64 dst = ntohl(ip->dst), at = 0;

#pragma unroll
	for (int bit = PREFIX_SLOTS_LOG2 - 1; bit >= 0; bit--) {
		__u64 start = tables->prefix_v4_start[(at + (1 << bit)) % PREFIX_SLOTS];

		at += (is_less(dst, start, 0) ^ 1) << bit;
	}
	return tables->prefix_v4_rule[at % PREFIX_SLOTS];
}

INLINE __u32 match_prefix_v6(const struct rule_tables *tables, const struct ipv6 *ip)
{
	__u64 high = ntohll(ip->dst[0]), low = ntohll(ip->dst[1]), at = 0;

#pragma unroll
	for (int bit = PREFIX_SLOTS_LOG2 - 1; bit >= 0; bit--) {
		const struct address6 *start = &tables->prefix_v6_start[(at + (1 << bit)) % PREFIX_SLOTS];
		__u64 borrow = is_less(low, start->low, 0);

		at += (is_less(high, start->high, borrow) ^ 1) << bit;
	}
	return tables->prefix_v6_rule[at % PREFIX_SLOTS];
}

INLINE __u32 match_tuple(const struct rule_tables *tables, const struct flow *flow)
{
	struct exact_key key = { .dst_port = flow->dst_port, .src_port = flow->src_port };

	if (flow->v6) {
		const struct ipv6 *ip = flow->ip;

		key.kind = EXACT_TUPLE_V6;
		key.bytes[0] = ip->dst[0];
		key.bytes[1] = ip->dst[1];
		key.bytes[2] = ip->src[0];
		key.bytes[3] = ip->src[1];
	} else {
		const struct ipv4 *ip = flow->ip;

		key.kind = EXACT_TUPLE_V4;
		key.bytes[0] = ip->dst;
		key.bytes[2] = ip->src;
	}
	return look_up(tables, &key);
}

INLINE int is_local(const struct rule_tables *tables, const struct flow *flow)
{
	struct exact_key key = {};

	if (flow->v6) {
		const struct ipv6 *ip = flow->ip;

		key.kind = EXACT_LOCAL_V6;
		key.bytes[0] = ip->dst[0];
		key.bytes[1] = ip->dst[1];
	} else {
		const struct ipv4 *ip = flow->ip;

		key.kind = EXACT_LOCAL_V4;
		key.bytes[0] = ip->dst;
	}
	return look_up(tables, &key) != NO_RULE;
}

/* Where the two CIDs of a long header, or the one of a short header, lie; RFC 8999 section 5. */
struct cids {
	__u32 start[3];
	__u32 end[3];
};

/* Returns 0 for a long header, 1 for a short one, -1 where there is neither. */
INLINE int find_cids(struct xdp_md *ctx, const struct flow *flow, struct cids *cids)
{
	__u32 at = flow->payload;
	__u8 first[6];
	__u8 len;

	if (at >= flow->end || bpf_xdp_load_bytes(ctx, at, first, 1))
		return -1;
	if (!(first[0] & 0x80)) {
		/* The header does not tell where its CID ends. */
		cids->start[CID_SHORT_DESTINATION] = at + 1;
		cids->end[CID_SHORT_DESTINATION] = flow->end;
		return 1;
	}
	if (at + sizeof(first) > flow->end || bpf_xdp_load_bytes(ctx, at, first, sizeof(first)))
		return -1;
	at += sizeof(first);
	cids->start[CID_LONG_DESTINATION] = at;
	at += first[5];
	cids->end[CID_LONG_DESTINATION] = at;
	if (at + 1 > flow->end || bpf_xdp_load_bytes(ctx, at, &len, 1))
		return -1;
	at += 1;
	cids->start[CID_LONG_SOURCE] = at;
	at += len;
	cids->end[CID_LONG_SOURCE] = at;
	return at > flow->end ? -1 : 0;
}

INLINE __u32 match_cid(struct xdp_md *ctx, const struct rule_tables *tables, const struct flow *flow)
{
	__u32 tcp = flow->protocol == IP_PROTOCOL_TCP;
	struct cids cids = {};
	const struct cid_shapes *shapes;
	__u32 rule = NO_RULE;
	int is_short = find_cids(ctx, flow, &cids);

	if (is_short < 0)
		return NO_RULE;
	shapes = &tables->cid[(tcp * 2 + is_short) & 3];
	for (__u32 i = 0; i < CID_SHAPES; i++) {
		const struct cid_shape *shape = &shapes->shape[i];
		__u32 len = shape->len, start, end;
		struct exact_key key = {
			.kind = EXACT_CID + shape->field + tcp * 3,
			.cid_offset = shape->offset,
			.cid_len = len,
			.dst_port = flow->dst_port,
		};

		if (i >= shapes->count)
			break;
		if (shape->field == CID_LONG_SOURCE) {
			start = cids.start[CID_LONG_SOURCE];
			end = cids.end[CID_LONG_SOURCE];
		} else if (shape->field == CID_LONG_DESTINATION) {
			start = cids.start[CID_LONG_DESTINATION];
			end = cids.end[CID_LONG_DESTINATION];
		} else {
			start = cids.start[CID_SHORT_DESTINATION];
			end = cids.end[CID_SHORT_DESTINATION];
		}
		start += shape->offset;
		if (len < 1 || len > CID_MAX || start + len > end)
			continue;
		if (bpf_xdp_load_bytes(ctx, start, key.bytes, len))
			continue;
		rule = least(rule, look_up(tables, &key));
	}
	return rule;
}

INLINE __u32 first_match(struct xdp_md *ctx, const struct rule_tables *tables, const struct flow *flow)
{
	__u32 features = tables->features;
	__u32 rule;

	if (flow->protocol == IP_PROTOCOL_UDP)
		rule = tables->udp_port[ntohs(flow->dst_port)];
	else if (flow->protocol != IP_PROTOCOL_TCP)
		rule = tables->protocol[flow->protocol];
	else if (flow->control)
		rule = tables->tcp_control_port[ntohs(flow->dst_port)];
	else
		rule = tables->tcp_port[ntohs(flow->dst_port)];

	if (features & FEATURE_PREFIX_V4 && !flow->v6)
		rule = least(rule, match_prefix_v4(tables, flow->ip));
	if (features & FEATURE_PREFIX_V6 && flow->v6)
		rule = least(rule, match_prefix_v6(tables, flow->ip));
	if (features & FEATURE_TUPLE && flow->protocol == IP_PROTOCOL_UDP)
		rule = least(rule, match_tuple(tables, flow));
	if (features & FEATURE_CID && (flow->protocol == IP_PROTOCOL_UDP || flow->protocol == IP_PROTOCOL_TCP))
		rule = least(rule, match_cid(ctx, tables, flow));
	return rule;
}

/* Sends the frame back to where it came from. */
INLINE int l2_forward(struct xdp_md *ctx)
{
	void *data = (void *)(unsigned long)ctx->data;
	void *data_end = (void *)(unsigned long)ctx->data_end;
	struct ethernet *ethernet = data;
	__u8 dst[6];

	if ((void *)(ethernet + 1) > data_end)
		return XDP_PASS;
	__builtin_memcpy(dst, ethernet->dst, 6);
	__builtin_memcpy(ethernet->dst, ethernet->src, 6);
	__builtin_memcpy(ethernet->src, dst, 6);
	return XDP_TX;
}

INLINE int decide(struct xdp_md *ctx, __u32 frame_len)
{
	__u32 zero = 0, rule, action, owner;
	const struct rule_tables *tables;
	struct flow flow;
	void *current = bpf_map_lookup_elem(&rule_sets, &zero);

	if (!current)
		return XDP_PASS;
	tables = bpf_map_lookup_elem(current, &zero);
	if (!tables)
		return XDP_PASS;

	if (dissect(ctx, frame_len, &flow)) {
		count(&events, EVENT_UNPARSED_PASSED);
		return XDP_PASS;
	}
	if (UNLIKELY(flow.vlan != tables->vlan && tables->vlan != VLAN_ANY)) {
		count(&events, EVENT_VLAN_PASSED);
		return XDP_PASS;
	}
	rule = first_match(ctx, tables, &flow);
	if (rule >= MAX_RULES)
		return XDP_PASS;
	action = tables->action[rule].action;
	owner = action >> 16;
	action &= 0xffff;
	if (action == ACTION_REDIRECT && tables->features & FEATURE_LOCAL && !is_local(tables, &flow)) {
		count(&events, EVENT_FOREIGN_PASSED);
		return XDP_PASS;
	}
	count(&hits, tables->action[rule].counter);

	if (action == ACTION_REDIRECT) {
		__u32 queue = ctx->rx_queue_index;
		int verdict = XDP_PASS;

		if (queue < MAX_QUEUES)
			verdict = bpf_redirect_map(&sockets, owner * MAX_QUEUES + queue, XDP_PASS);
		if (UNLIKELY(verdict != XDP_REDIRECT))
			count(&events, EVENT_UNCLAIMED_PASSED);
		return verdict;
	}
	if (action == ACTION_DROP)
		return XDP_DROP;
	if (action == ACTION_L2FWD)
		return l2_forward(ctx);
	return XDP_PASS;
}

SEC("xdp")
int wirepath_xdp(struct xdp_md *ctx)
{
	__u32 queue;

	if (UNLIKELY(is_order(ctx, &queue)))
		return transmit(ctx, queue);
	return decide(ctx, ctx->data_end - ctx->data);
}

/* For interfaces whose frames may span several buffers. */
SEC("xdp.frags")
int wirepath_frags(struct xdp_md *ctx)
{
	return decide(ctx, bpf_xdp_get_buff_len(ctx));
}
