// Every connection: filtered, sorted and paged by the server.
import type { BlockedBy, ConnectionRow } from "../api";
import { bits, bytes, count, duration, percent } from "../format";
import { connectionHref } from "../route";
import { Badge, PageHead } from "../parts/basics";
import { List, type Column } from "../parts/list";

export const BLOCKED: Record<BlockedBy, { name: string; says: string; tone: string }> = {
    idle: { name: "Nothing to do", says: "It has nothing to send.", tone: "" },
    application: { name: "Application", says: "It sends all that the program writes: write more at once, or more often.", tone: "" },
    reader: { name: "Reader here", says: "What has come waits for the program here to read it: read faster, or in larger pieces.", tone: "warning" },
    peer: { name: "Peer", says: "This end only receives: what holds the peer back is to be seen there.", tone: "" },
    cwnd: { name: "Congestion window", says: "The network decides: more would be lost on the way, or the window has not grown yet. Look at loss and round-trip time.", tone: "warning" },
    ack_delay: { name: "Late acknowledgements", says: "The peer collects acknowledgements for longer than a round trip: its delay, or its threshold, is too large.", tone: "warning" },
    flow_control: { name: "Peer's flow control", says: "The peer reads no faster, or its windows are small: look at the program there.", tone: "warning" },
    pacing: { name: "Pacing", says: "It spreads its packets over time on purpose; it is near the rate the network bears.", tone: "info" },
    path: { name: "Unproven path", says: "Little may be sent until the peer has shown that its address is its own.", tone: "info" },
    frames: { name: "Device", says: "It sends as fast as the device takes: the core, or the kernel, is the bound. If it sends little, look at who holds the frames.", tone: "info" },
};

const COLUMNS: Column<ConnectionRow>[] = [
    { name: "#", sort: "id", width: "minmax(40px, .5fr)", class: "muted", title: "The id of its actor", cell: (row) => row.id },
    { name: "Peer", sort: "remote", width: "minmax(150px, 2fr)", class: "name", cell: (row) => <code>{row.remote}</code> },
    { name: "State", sort: "state", width: "minmax(104px, 1.1fr)", cell: (row) => <><i class={`state-dot ${row.state}`} />{row.state} <small class="muted">{row.role}</small></> },
    { name: "Held back by", sort: "blocked_by", width: "minmax(178px, 1.7fr)", cell: (row) => <Blocked row={row} /> },
    { name: "RTT", sort: "rtt_ns", width: "minmax(70px, 1fr)", class: "num", title: "Smoothed round-trip time", cell: (row) => duration(row.rtt_ns) },
    { name: "Sends", sort: "tx_bytes_per_s", width: "minmax(84px, 1fr)", class: "num", cell: (row) => bits(row.tx_bytes_per_s) },
    { name: "Receives", sort: "rx_bytes_per_s", width: "minmax(84px, 1fr)", class: "num", cell: (row) => bits(row.rx_bytes_per_s) },
    { name: "In flight", sort: "in_flight_bytes", width: "minmax(72px, 1fr)", class: "num", title: "Sent, neither acknowledged nor lost", cell: (row) => bytes(row.in_flight_bytes) },
    { name: "Window", sort: "cwnd_bytes", width: "minmax(72px, 1fr)", class: "num", title: "Congestion window", cell: (row) => bytes(row.cwnd_bytes) },
    { name: "Lost", sort: "packets_lost", width: "minmax(56px, .8fr)", class: "num", title: "Packets lost, ever", cell: (row) => count(row.packets_lost) },
    { name: "Waits", sort: "oldest_age_ns", width: "minmax(70px, 1fr)", class: "num", title: "How long the oldest message in its actor's mailbox has waited", cell: (row) => (row.queued ? duration(row.oldest_age_ns) : "–") },
];

function Blocked({ row }: { row: ConnectionRow }) {
    const { name, tone } = BLOCKED[row.blocked_by] ?? { name: row.blocked_by, tone: "" };
    return <>{tone ? <Badge tone={tone}>{name}</Badge> : <span class="muted">{name}</span>}{row.blocked_by !== "idle" && <small class="muted"> {percent(row.blocked_share)}</small>}</>;
}

export function Connections() {
    return (
        <div class="full">
            <PageHead title="Connections" lead="What holds a connection back tells why it is slow; the share is of the last 10 seconds." />
            <List<ConnectionRow> path="connections" noun="connections" sort="tx_bytes_per_s" columns={COLUMNS} filterHint="Address, CID, ALPN, state, what holds it back"
                rowHref={(row) => connectionHref(row.id)} rowKey={(row) => row.id} rowClass={(row) => (row.oldest_age_ns > 10e6 ? "late" : "")}
                narrow={(row) => <>
                    <span class="row-line"><span><code>{row.remote}</code> <small class="muted">#{row.id}</small></span><span>{bits(Math.max(row.tx_bytes_per_s, row.rx_bytes_per_s))}</span></span>
                    <span class="row-line"><span><Blocked row={row} /></span><span class="muted">RTT {duration(row.rtt_ns)}</span></span>
                </>} />
        </div>
    );
}
