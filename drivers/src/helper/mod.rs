//! Admin-owned mode: a privileged helper does what AF_XDP needs rights for, so that the process that moves data
//! has none.
//!
//! | needs rights | done by the helper | what the data process gets |
//! |---|---|---|
//! | XDP program: load, attach, maps, rules | at its wish, within what the administrator allows | nothing: the maps stay with the helper |
//! | trains past the TX ring | only if the administrator says so (`--trains`) | the program, to run it, and its own batch's map |
//! | `socket(AF_XDP)`: CAP_NET_RAW | opened, its UMEM registered, its rings sized, **bound** | the descriptor, over `SCM_RIGHTS` |
//! | UMEM above the memlock limit: CAP_IPC_LOCK | memory of a sealed memfd, pinned by the kernel | the memfd, which it maps |
//! | soliciting neighbours: CAP_NET_ADMIN | on the leased interface only | |
//!
//! The helper binds before it passes an XSK on, since binding asks for no rights: with an unbound XSK, a client could
//! choose any interface and queue. The client maps the rings of the bound XSK (Linux 6.4 and later let it) and needs
//! the helper no more to send and receive. UMEM addresses are offsets, so that it does not matter where each process
//! maps the memory; the helper keeps no mapping and no descriptor of what it passed on.
//!
//! # The protocol, version 2
//!
//! A Unix socket of type `SOCK_SEQPACKET`; one message a packet, numbers little-endian ([`message`]). The helper speaks
//! first; then every request has one reply, in order.
//!
//! | request | reply |
//! |---|---|
//! | (connecting) | `Welcome { version }`, or `Refused` to a peer that may not (`SO_PEERCRED`) |
//! | `Attach { interface, index, options, queues }` | `Attached { attachment, queues }`: the lease begins |
//! | `OpenXsk(wish)` | `Opened { zero_copy, pages }` with two descriptors: XSK, memory |
//! | `Register { queue }` with the XSK, filled and ready | `Done` |
//! | `Transmitter { queue }` | `Transmitter` with two descriptors: program, batch; `Done` if there is none to be had |
//! | `SetRules(rules)` | `Done` |
//! | `ReadCounters` | `Counters { hits, events }` |
//! | `FindNeighbour { ip, anew }` | `Done` |
//! | any | `Refused(why)`; the lease goes on |
//! | (no request) | `Lost(why)`: the program is off the interface, the lease is over |
//!
//! A lease is some queues of one interface for one client; up to eight clients share an interface, on queues of their own
//! ([`shares`]). It ends with the connection, however that ends: the helper takes its XSKs
//! out of the map, its rules out of force, and with the last lease the program off the interface. A peer that breaks the protocol loses its
//! connection, and so its lease. When the helper ends, the kernel takes the program off; the data process finds the
//! connection closed, goes on over OS UDP, says so in its status, and asks for a new lease every now and then.
//!
//! What the helper can't take back is an XSK whose holder lives on: until it closes it, the holder can send any frame
//! out of that queue, and the next lease finds the queue taken. So whoever may lease an interface is trusted with
//! what leaves by it; what comes in is limited to its own ports.
//!
//! Running a program takes no rights, only its descriptor (`BPF_PROG_TEST_RUN`, whatever
//! `kernel.unprivileged_bpf_disabled` says; Linux 5.19). But a run in live frame mode may also end in the host's own
//! network stack: with `--trains`, clients are trusted with what the host receives, too.
//!
//! Not to be had through a helper: ports below 1024 (grant CAP_NET_BIND_SERVICE, or lower
//! `net.ipv4.ip_unprivileged_port_start`), preferred busy polling, neighbours in a VLAN (an ordinary
//! packet makes the kernel look for them, but not anew), and an interface by another name than it had when the helper started. Who holds
//! a port is looked at when the rule is set, not later.

mod channel;
mod client;
mod codec;
mod lease;
mod message;
mod peer;
mod policy;
mod server;
mod session;
mod shares;

pub use client::{HelperClient, HelperLease};
pub use policy::HelperPolicy;
pub use server::{Helper, HelperOptions};

/// What both ends must speak.
const VERSION: u16 = 2;
