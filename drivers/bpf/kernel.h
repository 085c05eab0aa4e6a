/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The little of the kernel's interface that the program uses, so that clang alone builds it: no kernel headers,
 * no libbpf. Everything here is stable user-space ABI (include/uapi/linux/bpf.h).
 */
#ifndef WIREPATH_KERNEL_H
#define WIREPATH_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the checked-in object is little-endian");
#define ntohs(x) __builtin_bswap16(x)
#define ntohl(x) __builtin_bswap32(x)
#define ntohll(x) __builtin_bswap64(x)

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
/* Hides where a value came from, so that the compiler can't turn arithmetic into jumps. */
#define HIDE(x) asm volatile("" : "+r"(x))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Map definitions carry their attributes as types, in BTF. */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) value *name
#define __array(name, value) value *name[]

enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_DEVMAP = 14,
	BPF_MAP_TYPE_XSKMAP = 17,
};

enum { BPF_F_MMAPABLE = 1 << 10 };

enum xdp_action {
	XDP_ABORTED,
	XDP_DROP,
	XDP_PASS,
	XDP_TX,
	XDP_REDIRECT,
};

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;
static long (*const bpf_xdp_adjust_meta)(struct xdp_md *ctx, int delta) = (void *)54;
static long (*const bpf_xdp_adjust_tail)(struct xdp_md *ctx, int delta) = (void *)65;
static __u64 (*const bpf_xdp_get_buff_len)(struct xdp_md *ctx) = (void *)188;
static long (*const bpf_xdp_load_bytes)(struct xdp_md *ctx, __u32 offset, void *buf, __u32 len) = (void *)189;
static long (*const bpf_xdp_store_bytes)(struct xdp_md *ctx, __u32 offset, void *buf, __u32 len) = (void *)190;

/* Header fields stand in network order; names end in nothing, values are swapped where they are used. */
struct ethernet {
	__u8 dst[6];
	__u8 src[6];
	__u16 type;
} __attribute__((packed));

struct vlan_tag {
	__u16 tci;
	__u16 type;
} __attribute__((packed));

struct ipv4 {
	__u8 version_ihl;
	__u8 traffic_class;
	__u16 total_len;
	__u16 identification;
	__u16 fragment;
	__u8 hop_limit;
	__u8 protocol;
	__u16 checksum;
	__u32 src;
	__u32 dst;
} __attribute__((packed));

struct ipv6 {
	__u32 version_class_label;
	__u16 payload_len;
	__u8 next_header;
	__u8 hop_limit;
	__u64 src[2];
	__u64 dst[2];
} __attribute__((packed));

struct udp {
	__u16 src_port;
	__u16 dst_port;
	__u16 len;
	__u16 checksum;
} __attribute__((packed));

struct tcp {
	__u16 src_port;
	__u16 dst_port;
	__u32 sequence;
	__u32 acknowledgement;
	__u8 data_offset;
	__u8 flags;
	__u16 window;
	__u16 checksum;
	__u16 urgent;
} __attribute__((packed));

#endif
