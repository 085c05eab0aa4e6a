// One connection: why it is as fast as it is, and how that went over the last minutes.
import { useMemo, useState } from "preact/hooks";
import type { ConnectionDetail, StreamRow, StreamWait } from "../api";
import { download, useApi } from "../client";
import { bits, bytes, capital, count, duration, percent, perSecond, plural } from "../format";
import { actorHref, href } from "../route";
import { Badge, Bar, Card, Empty, Figure, PageHead, Stale, Waiting } from "../parts/basics";
import { Chart } from "../parts/chart";
import { Icon } from "../parts/icons";
import { BLOCKED } from "./connections";
import { Counters } from "./queues";

export function Connection({ id }: { id: string }) {
    const { data, error } = useApi<ConnectionDetail>(`connections/${encodeURIComponent(id)}`);
    const [failed, setFailed] = useState<string | null>(null);
    if (error?.status === 404) return <><PageHead title={`Connection ${id}`} lead="It is over." /><Card><Empty title="Nothing is kept of it">A recording made while it lived would show it. <a href={href("connections")}>To the live connections</a></Empty></Card></>;
    if (!data) return <><PageHead title={`Connection ${id}`} /><Waiting error={error} what="this connection" /></>;
    const { row } = data;
    const blocked = BLOCKED[row.blocked_by];
    return (
        <>
            <nav class="crumbs" aria-label="Up"><span><a href={href("connections")}>Connections</a><Icon name="chevron" size={12} /></span><span aria-current="true">{row.id}</span></nav>
            <PageHead title={<><span class="muted">#{row.id} to</span> {row.remote}</>} lead={`${capital(row.role)} · ${row.state} · ${row.alpn ?? "no ALPN"} · ${duration(row.age_ns)} old · here ${row.local}`}>
                <a class="button" href={href("packets", { address: row.remote })}>Follow its packets</a>
                <a class="button" href={actorHref(row.id)}>Show the actor</a>
                {data.qlog_url && <button onClick={() => download(data.qlog_url!, `connection-${row.id}.qlog`).then(() => setFailed(null), (why: Error) => setFailed(why.message))}><Icon name="download" /> qlog</button>}
            </PageHead>
            {failed && <p class="trouble" role="alert"><Icon name="critical" /> {failed}</p>}
            <Stale error={error} />
            <section class={`verdict ${blocked?.tone ?? ""}`}>
                <span class="figure-name">Why it is as fast as it is</span>
                <strong>{data.explanation || blocked?.says}</strong>
                <p>{row.blocked_by === "idle" ? "" : <>Held back by <b>{blocked?.name ?? row.blocked_by}</b> in {percent(row.blocked_share)} of the last 10 seconds. </>}{data.explanation ? blocked?.says : ""}</p>
                <Causes of={data.causes} />
            </section>
            <div class="figures">
                <Figure name="Sends" value={bits(row.tx_bytes_per_s)} />
                <Figure name="Receives" value={bits(row.rx_bytes_per_s)} />
                <Figure name="Round trip" value={duration(row.rtt_ns)} note={`least ${duration(row.min_rtt_ns)}`} />
                <Figure name="In flight" value={bytes(row.in_flight_bytes)} note={`of a window of ${bytes(row.cwnd_bytes)}`} />
                <Figure name="Lost" value={count(row.packets_lost)} note={`${perSecond(row.lost_per_s)} now`} tone={row.lost_per_s > 0 ? "bad" : ""} />
                <Figure name="Waits in its mailbox" value={row.queued ? duration(row.oldest_age_ns) : "–"} note={plural(row.queued, "message")} tone={row.oldest_age_ns > 10e6 ? "bad" : ""} />
            </div>
            <Timelines of={data.timeline} />
            <Streams of={data.streams} />
            <Paths of={data.paths} />
            <Card title="IDs and counters">
                <dl class="facts">
                    <div><dt>Its CIDs here</dt><dd>{data.local_cids.length ? data.local_cids.map((cid) => <code key={cid}>{cid} </code>) : <Badge>none</Badge>}</dd></div>
                    <div><dt>The peer holds acknowledgements back</dt><dd>{data.ack_delay_ns ? duration(data.ack_delay_ns) : "not at all"}</dd></div>
                </dl>
                <Counters title="All counters" of={data.counters} />
            </Card>
        </>
    );
}

/** How the last second went, cause by cause. */
function Causes({ of }: { of: ConnectionDetail["causes"] }) {
    const told = of.filter((one) => one.share >= 0.005);
    if (!told.length) return null;
    return (
        <ul class="causes" aria-label="What it waited for within the last second">
            {told.map(({ cause, share }) => <li key={cause} data-cause={cause}><span>{BLOCKED[cause]?.name ?? cause}</span><Bar share={share} tone={["application", "idle", "peer"].includes(cause) ? "muted" : "wait"} /><span class="num">{percent(share)}</span></li>)}
        </ul>
    );
}

const WAIT: Record<StreamWait, [text: string, tone: string]> = {
    reader: ["the program to read", "warning"],
    application: ["the program, or the peer", ""],
    acknowledgement: ["acknowledgements", ""],
    stream_flow_control: ["the peer's limit of the stream", "warning"],
    connection_flow_control: ["the peer's limit of the connection", "warning"],
    connection: ["what holds the connection back", "info"],
};

function Streams({ of }: { of: ConnectionDetail["streams"] }) {
    if (!of) return <Card title="Streams"><p class="muted pad">They were not looked at when this was read: live, they come in a moment; a recording has them while there are few connections.</p></Card>;
    const note = of.rows.length < of.open ? `the ${count(of.rows.length)} of ${count(of.open)} open that carried most` : `${count(of.open)} open`;
    return (
        <Card title="Streams" note={note} class="streams">
            {of.rows.length ? (
                <table class="table cards">
                    <thead><tr>
                        <th scope="col">Stream</th><th scope="col">Waits for</th><th scope="col" class="num">Written</th><th scope="col" class="num">Sent</th><th scope="col" class="num">Acknowledged</th>
                        <th scope="col" class="num" title="Written and not acknowledged: kept here">Kept</th><th scope="col" class="num" title="What the peer allows of what is written">Limit</th><th scope="col" class="num">Received</th><th scope="col" class="num">Unread</th><th scope="col" class="num" title="Higher ones send first">Priority</th>
                    </tr></thead>
                    <tbody>{of.rows.map((stream) => <OneStream key={stream.id} stream={stream} />)}</tbody>
                </table>
            ) : <p class="muted pad">None is open now.</p>}
        </Card>
    );
}

function OneStream({ stream }: { stream: StreamRow }) {
    const [text, tone] = WAIT[stream.waits_for] ?? [stream.waits_for, ""];
    const sends = stream.bidirectional || stream.local;
    const receives = stream.bidirectional || !stream.local;
    const of = (there: boolean, value: number) => (there ? bytes(value) : "–");
    const halves = stream.state === "open" ? "" : stream.state === "sending" ? ", all received" : stream.bidirectional || stream.local ? ", all sent" : "";
    return (
        <tr data-stream={stream.id} data-waits={stream.waits_for}>
            <th scope="row">{stream.id} <small class="muted">{stream.local ? "ours" : "the peer's"}, {stream.bidirectional ? "both ways" : "one way"}{halves}</small></th>
            <td class="whole">{tone ? <Badge tone={tone}>{text}</Badge> : <span class="muted">{text}</span>}</td>
            <td class="num" data-name="Written">{of(sends, stream.written_bytes)}</td><td class="num" data-name="Sent">{of(sends, stream.sent_bytes)}</td><td class="num" data-name="Acknowledged">{of(sends, stream.acked_bytes)}</td><td class="num" data-name="Kept">{of(sends, stream.buffered_bytes)}</td>
            <td class="num" data-name="Limit">{sends && stream.limit_bytes != null ? bytes(stream.limit_bytes) : "–"}</td><td class="num" data-name="Received">{of(receives, stream.received_bytes)}</td><td class="num" data-name="Unread">{of(receives, stream.unread_bytes)}</td><td class="num" data-name="Priority">{stream.priority}</td>
        </tr>
    );
}

const ECN = { testing: "being tested", capable: "works", off: "off" };

function Paths({ of }: { of: ConnectionDetail["paths"] }) {
    return (
        <Card title="Paths" note={of.length > 1 ? "the one in use first" : ""}>
            <table class="table cards">
                <thead><tr><th scope="col">From here to there</th><th scope="col">State</th><th scope="col" class="num">Round trip</th><th scope="col" class="num">Least</th><th scope="col" class="num">Window</th><th scope="col" class="num">In flight</th><th scope="col" class="num">Datagram</th><th scope="col">ECN</th><th scope="col" class="num">Sent</th><th scope="col" class="num">Lost</th></tr></thead>
                <tbody>{of.map((path) => (
                    <tr key={path.local + path.remote} data-path={path.remote}>
                        <th scope="row"><code>{path.local}</code> → <code>{path.remote}</code></th>
                        <td class="whole"><span class="badges">{path.active && <Badge tone="good">in use</Badge>}<Badge tone={path.validated ? "" : "warning"}>{path.validated ? "proven" : "not proven yet"}</Badge></span></td>
                        <td class="num" data-name="Round trip">{duration(path.rtt_ns)}</td><td class="num" data-name="Least">{duration(path.min_rtt_ns)}</td><td class="num" data-name="Window">{bytes(path.cwnd_bytes)}</td><td class="num" data-name="In flight">{bytes(path.in_flight_bytes)}</td><td class="num" data-name="Datagram">{bytes(path.mtu_bytes)}</td>
                        <td data-name="ECN">{ECN[path.ecn]}</td><td class="num" data-name="Sent">{count(path.packets_sent)}</td><td class="num" data-name="Lost">{count(path.packets_lost)}</td>
                    </tr>
                ))}</tbody>
            </table>
        </Card>
    );
}

function Timelines({ of }: { of: ConnectionDetail["timeline"] }) {
    const last = of.t_ns[of.t_ns.length - 1] ?? 0;
    const times = useMemo(() => of.t_ns.map((t) => (t - last) / 1e9), [of]);
    if (times.length < 2) return <p class="muted pad">Its timelines begin in a moment.</p>;
    return (
        <div class="charts">
            <Card><Chart group="connection" title="Throughput" times={times} columns={[of.tx_bytes_per_s.map((one) => one * 8), of.rx_bytes_per_s.map((one) => one * 8)]} format={(bit) => bits(bit / 8)} series={[{ name: "sent", color: "--tx", fill: true }, { name: "received", color: "--run", dash: [6, 3] }]} /></Card>
            <Card><Chart group="connection" title="Window and in flight" times={times} columns={[of.cwnd_bytes, of.in_flight_bytes]} format={bytes} series={[{ name: "window", color: "--muted", dash: [6, 3] }, { name: "in flight", color: "--run", fill: true }]} /></Card>
            <Card><Chart group="connection" title="Round-trip time" times={times} columns={[of.rtt_ns]} format={duration} series={[{ name: "smoothed", color: "--wait", fill: true }]} /></Card>
            <Card><Chart group="connection" title="Packets lost" times={times} columns={[of.lost_per_s]} format={perSecond} series={[{ name: "lost", color: "--bad", fill: true }]} /></Card>
        </div>
    );
}
