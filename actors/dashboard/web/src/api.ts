// The answers of the API, as `actors/dashboard/src/api` has them. Times are nanoseconds of the stack's trace clock,
// shares are 0 to 1. What is `null` there may also be absent here: a merge patch removes what becomes null.

export type Maybe<T> = T | null | undefined;
export type Direction = "rx" | "tx";
export type Severity = "info" | "warning" | "critical";

export interface Envelope<T> { v: number; t_ns: number; data: T }
export interface Page<T> { total: number; total_unfiltered: number; offset: number; limit: number; rows: T[] }
export interface Distribution {
    count: number; p50_ns: number; p90_ns: number; p99_ns: number; max_ns: number;
    buckets: [upper_ns: number, count: number][];
}

export interface Overview {
    source: string;
    uptime_ns: number;
    data_path: {
        summary: string; kind: string; driver_mode: Maybe<boolean>; zero_copy: Maybe<boolean>;
        interface: Maybe<string>; reason: string; fallback: Maybe<string>;
    };
    rates: {
        rx_packets_per_s: number; rx_bytes_per_s: number; tx_datagrams_per_s: number; tx_bytes_per_s: number;
        drops_per_s: number; messages_per_s: number; kicks_per_s: number;
    };
    totals: {
        rx_packets: number; rx_bytes: number; tx_datagrams: number; tx_bytes: number; drops: number; messages: number;
    };
    actors: number;
    actors_by_kind: Record<string, number>;
    connections: number;
    hops: HopSummary[];
    journeys: {
        rx_samples: number; rx_p50_ns: number; rx_p99_ns: number;
        tx_samples: number; tx_p50_ns: number; tx_p99_ns: number;
    };
    lints: Lint[];
    conserved: boolean;
    books: HopBooks[];
    tracing: {
        sample_one_in: number; armed: Maybe<TraceFilter>; journeys_begun: number; hops_recorded: number;
        hops_overwritten: number; memory_bytes: number; memory_limit_bytes: number; share_of_core: number;
        memory: { name: string; bytes: number; limit_bytes: number }[];
        viewers: number; reader_share_of_core: number;
    };
}
export interface HopBooks {
    hop: string; sent: number; received: number; queued: number; dropped: number; moving: number; unaccounted: number;
}
export interface StageSummary {
    stage: string; wait_p50_ns: number; wait_p99_ns: number; run_p50_ns: number; run_p99_ns: number;
}
export interface HopSummary extends StageSummary { direction: Direction; samples: number }
export interface Lint {
    kind: string; severity: Severity; title: string; detail: string;
    node: Maybe<string>; actor: Maybe<string>; page: string;
}

export type NodeState = "idle" | "ok" | "cause" | "victim" | "down";
export interface TopologyNode {
    id: string; kind: string; label: string; layer: number; actor: Maybe<string>; count: number; state: NodeState;
    items_per_s: number; busy_share: number; depth: number; oldest_age_ns: number;
}
export interface TopologyEdge {
    from: string; to: string; direction: Direction; items_per_s: number; wait_mean_ns: number; heat: number;
}
export interface Topology { nodes: TopologyNode[]; edges: TopologyEdge[] }

export interface ActorRow {
    id: string; kind: string; name: string; parent: Maybe<string>; sent: number; handled: number; dropped: number;
    queued: number; unaccounted: number; items_queued: number; depth_peak: number; oldest_age_ns: number; busy_share: number;
    messages_per_s: number; items_per_s: number; wait_mean_ns: number; run_mean_ns: number; restarts: number;
}
export interface ActorRef { id: string; kind: string; name: string }
export interface MessageKind { name: string; handled: number; wait: Distribution; run: Distribution }
export interface ActorDetail {
    row: ActorRow; ancestors: ActorRef[]; children: ActorRef[]; children_total: number; messages: MessageKind[];
    wait: Distribution; run: Distribution; restarts: Tombstone[];
}
export interface TreeNode {
    id: string; kind: string; name: string; parent: Maybe<string>; children_total: number; restarts: number;
    busy_share: number; started_ns: number;
}
export interface Tombstone {
    id: string; kind: string; name: string; parent: Maybe<string>; ended_ns: number; failed: boolean; reason: string;
    successor: Maybe<string>;
}
export interface Tree { nodes: TreeNode[]; history: Tombstone[] }

export interface Ring { size: number; used: number }
export interface Rings { fill: Ring; rx: Ring; tx: Ring; completion: Ring; need_wakeup: boolean }
export interface QueueRow {
    name: string; actor: Maybe<string>; interface: Maybe<string>; queue: Maybe<number>; path: string; reason: string;
    link_up: boolean; trouble: Maybe<string>; rings: Maybe<Rings>; rx_packets_per_s: number; rx_bytes_per_s: number;
    tx_datagrams_per_s: number; tx_bytes_per_s: number; kicks_per_s: number; datagrams_per_kick: number;
    kernel: Record<string, number>; counters: Record<string, number>;
}
export interface Queues { queues: QueueRow[]; rules: { rule: string; hits: number; hits_per_s: number }[]; passed: Record<string, number> }
export interface UmemLedger {
    device: string; capacity: number; frame_size_bytes: number;
    places: { place: string; frames: number; oldest_age_ns: Maybe<number> }[];
    sum: number; balanced: boolean;
    holders: { holder: string; actor: Maybe<string>; frames: number; oldest_age_ns: Maybe<number> }[];
    suspects: { frame: number; place: string; holder: string; actor: Maybe<string>; age_ns: number }[];
    rejected: number;
}
export interface Frames { umems: UmemLedger[] }
export interface DropRow {
    layer: string; cause: string; meaning: string; count: number; per_s: number; first_ns: Maybe<number>;
    last_ns: Maybe<number>;
    sample: Maybe<{ t_ns: number; local: Maybe<string>; remote: Maybe<string>; len_bytes: number; cid: Maybe<string> }>;
}
export interface Drops { rows: DropRow[]; total: number; rx_packets: number; per_s: number }

export interface TraceFilter {
    address: Maybe<string>; cid: Maybe<string>; drop_cause: Maybe<string>; one_in: Maybe<number>;
}
export interface Armed { filter: Maybe<TraceFilter>; sample_one_in: number }
export interface PathGroup {
    path: string; direction: Direction; count: number; total_p50_ns: number; total_p99_ns: number;
    stages: StageSummary[];
}
export interface Hop {
    stage: string; actor: Maybe<string>; label: string; begin_ns: number; wait_ns: number; run_ns: number;
    batch: number;
}
export interface Journey {
    id: string; direction: Direction; begin_ns: number; total_ns: number; path: string; len_bytes: number;
    local: Maybe<string>; remote: Maybe<string>; cid: Maybe<string>; connection: Maybe<string>; outcome: string;
    hops: Hop[];
}
export interface Traces { armed: Armed; groups: PathGroup[]; journeys: Journey[]; kept: number; incomplete: number }

export type BlockedBy = "idle" | "application" | "reader" | "peer" | "cwnd" | "ack_delay" | "flow_control" | "pacing" | "path" | "frames";
export interface ConnectionRow {
    id: string; role: string; state: "handshaking" | "open" | "closed"; local: string; remote: string;
    alpn: Maybe<string>; age_ns: number; rtt_ns: number; min_rtt_ns: number; cwnd_bytes: number;
    in_flight_bytes: number; tx_bytes_per_s: number; rx_bytes_per_s: number; packets_lost: number; lost_per_s: number;
    blocked_by: BlockedBy; blocked_share: number; queued: number; oldest_age_ns: number;
}
export interface Timeline {
    t_ns: number[]; cwnd_bytes: number[]; in_flight_bytes: number[]; rtt_ns: number[]; lost_per_s: number[];
    tx_bytes_per_s: number[]; rx_bytes_per_s: number[];
}
export interface PathRow {
    local: string; remote: string; active: boolean; validated: boolean; rtt_ns: number; min_rtt_ns: number;
    cwnd_bytes: number; in_flight_bytes: number; mtu_bytes: number; ecn: "testing" | "capable" | "off";
    packets_sent: number; packets_lost: number;
}
export type StreamWait = "reader" | "application" | "acknowledgement" | "stream_flow_control" | "connection_flow_control" | "connection";
export interface StreamRow {
    id: string; bidirectional: boolean; local: boolean; state: "open" | "sending" | "receiving"; written_bytes: number;
    sent_bytes: number; acked_bytes: number; buffered_bytes: number; limit_bytes: Maybe<number>; received_bytes: number;
    unread_bytes: number; priority: number; waits_for: StreamWait;
}
export interface ConnectionDetail {
    row: ConnectionRow; explanation: string; timeline: Timeline; local_cids: string[];
    causes: { cause: BlockedBy; share: number }[]; ack_delay_ns: number; paths: PathRow[];
    streams: Maybe<{ open: number; rows: StreamRow[] }>;
    counters: Record<string, number>; qlog_url: Maybe<string>;
}

export interface RecordingRow {
    id: string; name: string; state: "recording" | "done"; begin_ns: number; end_ns: number; filter: TraceFilter;
    journeys: number; readings: number; packets: number; memory_bytes: number; has_secrets: boolean;
    formats: string[];
}
export interface Recordings {
    rows: RecordingRow[]; payload_allowed: boolean; secrets_allowed: boolean; memory_bytes: number;
    memory_limit_bytes: number;
}
export interface Live { overview: Overview; topology: Topology; queues: Queues; drops: Drops }
export interface LiveDelta { v: number; t_ns: number; seq: number; lost: number; data: unknown }
