// One connection: why it is as fast as it is, and how that went over the last minutes.
import { useMemo, useState } from "preact/hooks";
import type { ConnectionDetail } from "../api";
import { download, useApi } from "../client";
import { bits, bytes, capital, count, duration, percent, perSecond } from "../format";
import { actorHref, href } from "../route";
import { Badge, Card, Empty, Figure, PageHead, Stale, Waiting } from "../parts/basics";
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
            <PageHead title={<><span class="muted">to</span> {row.remote}</>} lead={`${capital(row.role)} · ${row.state} · ${row.alpn ?? "no ALPN"} · ${duration(row.age_ns)} old · here ${row.local}`}>
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
            </section>
            <div class="figures">
                <Figure name="Sends" value={bits(row.tx_bytes_per_s)} />
                <Figure name="Receives" value={bits(row.rx_bytes_per_s)} />
                <Figure name="Round trip" value={duration(row.rtt_ns)} note={`least ${duration(row.min_rtt_ns)}`} />
                <Figure name="In flight" value={bytes(row.in_flight_bytes)} note={`of a window of ${bytes(row.cwnd_bytes)}`} />
                <Figure name="Lost" value={count(row.packets_lost)} note={`${perSecond(row.lost_per_s)} now`} tone={row.lost_per_s > 0 ? "bad" : ""} />
                <Figure name="Waits in its mailbox" value={row.queued ? duration(row.oldest_age_ns) : "–"} note={`${count(row.queued)} messages`} tone={row.oldest_age_ns > 10e6 ? "bad" : ""} />
            </div>
            <Timelines of={data.timeline} />
            <div class="columns">
                <Card title="Streams" note={data.streams.length ? "those that carried most" : ""}>
                    {data.streams.length ? (
                        <div class="scroll-y"><table class="table"><thead><tr><th>Stream</th><th>Kind</th><th class="num">Sent</th><th class="num">Received</th><th>State</th></tr></thead>
                            <tbody>{data.streams.map((stream) => <tr key={stream.id}><td class="num-left">{stream.id}</td><td>{stream.kind === "bidi" ? "both ways" : "one way"}</td><td class="num">{bytes(stream.sent_bytes)}</td><td class="num">{bytes(stream.received_bytes)}</td><td>{stream.state}</td></tr>)}</tbody></table></div>
                    ) : <p class="muted pad">Not told.</p>}
                </Card>
                <Card title="Paths and IDs">
                    <dl class="facts">
                        {data.paths.map((path, n) => <div key={path}><dt>{n ? "Another path" : "Path in use"}</dt><dd><code>{path}</code></dd></div>)}
                        <div><dt>Datagram size</dt><dd>{bytes(data.mtu_bytes)}</dd></div>
                        <div><dt>Its CIDs here</dt><dd>{data.local_cids.length ? data.local_cids.map((cid) => <code key={cid}>{cid} </code>) : <Badge>none</Badge>}</dd></div>
                    </dl>
                    <Counters title="All counters" of={data.counters} />
                </Card>
            </div>
        </>
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
