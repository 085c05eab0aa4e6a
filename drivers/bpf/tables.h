/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What user space compiles a rule list into (drivers/src/xdp/tables.rs lays out the same bytes). Each table
 * answers in a number of steps that does not depend on how many rules there are, and each answer is the lowest
 * index of a rule that matches: the least of all answers is the rule that is first in the list.
 */
#ifndef WIREPATH_TABLES_H
#define WIREPATH_TABLES_H

#include "kernel.h"

#define MAX_RULES 1024
#define NO_RULE 0xffff
#define PREFIX_SLOTS_LOG2 9
#define PREFIX_SLOTS (1 << PREFIX_SLOTS_LOG2)
#define EXACT_SLOTS 2048
#define EXACT_BUCKETS 1024
#define EXACT_WORDS 5
#define CID_SHAPES 4
#define CID_MAX 20

enum feature {
	FEATURE_PREFIX_V4 = 1 << 0,
	FEATURE_PREFIX_V6 = 1 << 1,
	FEATURE_TUPLE = 1 << 2,
	FEATURE_CID = 1 << 3,
	/* Redirect takes only what is addressed to one of the listed addresses. */
	FEATURE_LOCAL = 1 << 4,
};

enum {
	VLAN_UNTAGGED = 0,
	VLAN_ANY = 0xffff,
};

enum action {
	ACTION_PASS,
	ACTION_DROP,
	ACTION_REDIRECT,
	ACTION_L2FWD,
};

/* What an exact key means; its first byte. */
enum exact_kind {
	EXACT_EMPTY,
	EXACT_TUPLE_V4,
	EXACT_TUPLE_V6,
	EXACT_LOCAL_V4,
	EXACT_LOCAL_V6,
	/* Plus the CID field, plus 3 for TCP. */
	EXACT_CID,
};

enum cid_field {
	CID_LONG_SOURCE,
	CID_LONG_DESTINATION,
	CID_SHORT_DESTINATION,
};

struct rule_action {
	/* In the upper half: who owns the rule, and so to whose sockets it redirects. */
	__u32 action;
	__u32 counter;
};

struct exact_key {
	__u8 kind;
	__u8 cid_offset;
	__u8 cid_len;
	__u8 zero;
	/* Network order. */
	__u16 dst_port;
	__u16 src_port;
	/* Destination and source address, or CID bytes; zero behind. */
	__u64 bytes[4];
};

struct exact_entry {
	__u64 key[EXACT_WORDS];
	__u64 rule;
};

struct address6 {
	__u64 high;
	__u64 low;
};

/* Which CID bytes some rule looks at. */
struct cid_shape {
	__u8 field;
	__u8 offset;
	__u8 len;
	__u8 zero;
};

struct cid_shapes {
	__u32 count;
	struct cid_shape shape[CID_SHAPES];
};

struct rule_tables {
	__u32 features;
	__u32 vlan;
	struct rule_action action[MAX_RULES];
	/* By protocol number, other than UDP and TCP. */
	__u16 protocol[256];
	/* By destination port, in host order. */
	__u16 udp_port[65536];
	__u16 tcp_port[65536];
	/* Segments with SYN, FIN or RST. */
	__u16 tcp_control_port[65536];
	/* Address intervals: entry i holds from its start up to the next one's. */
	__u32 prefix_v4_start[PREFIX_SLOTS];
	__u16 prefix_v4_rule[PREFIX_SLOTS];
	struct address6 prefix_v6_start[PREFIX_SLOTS];
	__u16 prefix_v6_rule[PREFIX_SLOTS];
	/* A perfect hash table: a key can stand in one slot only. */
	__u64 exact_seed;
	__u16 exact_displacement[EXACT_BUCKETS];
	struct exact_entry exact[EXACT_SLOTS];
	/* UDP long header, UDP short header, TCP long header, TCP short header. */
	struct cid_shapes cid[4];
};

#endif
