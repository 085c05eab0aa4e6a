// Is it well, and if not, what is it? The five questions people come with, answered at once.
import type { ComponentChildren } from "preact";
import type { ConnectionRow, Frames, Overview as Data, Page } from "../api";
import { useApi } from "../client";
import { bits, bytes, capital, count, duration, percent, perSecond, plural, short, words } from "../format";
import { useLive, type Reading } from "../live";
import { connectionHref, href } from "../route";
import { Badge, Card, Figure, Lints, PageHead, Waiting } from "../parts/basics";
import { Chart, Spark } from "../parts/chart";
import { Icon } from "../parts/icons";
import { WaitRunKey, Way, stageWord, worstWait } from "../parts/way";
import { BLOCKED } from "./connections";

export function Overview() {
    const { live, history, t_ns, link } = useLive();
    if (!live) return <><PageHead title="Overview" /><Waiting error={link.state === "lost" ? link.error : null} what="the stack" /></>;
    const data = live.overview;
    const rx = data.hops.filter((hop) => hop.direction === "rx");
    const tx = data.hops.filter((hop) => hop.direction === "tx");
    return (
        <>
            <PageHead title="Overview" lead={data.source === "live" ? `Up for ${duration(data.uptime_ns)}` : "From a recording"} />
            <Lints lints={data.lints} />
            <Questions data={data} />
            <Rates data={data} history={history} />
            {history.length > 1 && <Card class="chart-card"><Throughput history={history} now={t_ns} /></Card>}
            <div class="columns">
                <Card title="Where received packets wait" note={<WaitRunKey />}>
                    {rx.length ? <Way stages={rx} direction="rx" /> : <p class="muted pad">No datagram was sampled yet.</p>}
                    <p class="foot">Wire to reader: <b>{duration(data.journeys.rx_p50_ns)}</b> p50, <b>{duration(data.journeys.rx_p99_ns)}</b> p99 · {plural(data.journeys.rx_samples, "sampled datagram")}</p>
                </Card>
                <Card title="Where sent packets wait" note={<WaitRunKey />}>
                    {tx.length ? <Way stages={tx} direction="tx" /> : <p class="muted pad">No datagram was sampled yet.</p>}
                    <p class="foot">Writer to wire: <b>{duration(data.journeys.tx_p50_ns)}</b> p50, <b>{duration(data.journeys.tx_p99_ns)}</b> p99 · {plural(data.journeys.tx_samples, "sampled datagram")}</p>
                </Card>
            </div>
            <Books data={data} />
            <div class="columns">
                <Card title="Actors alive" note={count(data.actors)}>
                    <dl class="facts">{Object.entries(data.actors_by_kind).sort((a, b) => b[1] - a[1]).map(([kind, n]) => <div key={kind}><dt><a href={href("actors", { kind })}>{capital(words(kind))}</a></dt><dd>{count(n)}</dd></div>)}</dl>
                </Card>
                <Card title="What this watching costs" note={percent(data.tracing.share_of_core + data.tracing.reader_share_of_core) + " of a core"}>
                    <dl class="facts">
                        <div><dt>Datagrams sampled</dt><dd>{data.tracing.sample_one_in ? `1 in ${count(data.tracing.sample_one_in)}` : "none"}{data.tracing.armed && " + armed filter"}</dd></div>
                        <div><dt>In the packets' threads</dt><dd>{percent(data.tracing.share_of_core)} of a core</dd></div>
                        <div><dt>In the dashboard's thread</dt><dd>{percent(data.tracing.reader_share_of_core)} of a core</dd></div>
                        <div><dt>Memory, fixed</dt><dd>{bytes(data.tracing.memory_bytes)} of {bytes(data.tracing.memory_limit_bytes)}</dd></div>
                        {data.tracing.memory.map((part) => <div key={part.name} class="sub" data-memory={part.name}><dt>{MEMORY[part.name] ?? words(part.name)}</dt><dd>{bytes(part.bytes)} of {bytes(part.limit_bytes)}</dd></div>)}
                        <div><dt>Hops overwritten unread</dt><dd>{short(data.tracing.hops_overwritten)} of {short(data.tracing.hops_recorded)}</dd></div>
                        <div><dt>Viewers</dt><dd>{count(data.tracing.viewers)}</dd></div>
                    </dl>
                </Card>
            </div>
        </>
    );
}

const MEMORY: Record<string, string> = {
    rings: "journeys yet to be read", journeys: "journeys that were read", timelines: "timelines of connections", recordings: "recordings",
    figures: "last figures of actors and connections",
};

/** Each hop, as counted at both of its ends. */
function Books({ data }: { data: Data }) {
    if (!data.books.length) return null;
    const missing = data.books.reduce((sum, hop) => sum + hop.unaccounted, 0);
    return (
        <Card title="Does everything arrive?" class="hop-books" note={data.conserved
            ? <span class="good-text"><Icon name="check" /> The books balance: every datagram and message is accounted for.</span>
            : <span class="bad-text"><Icon name="critical" /> The books do not balance: {missing ? plural(missing, "datagram") : "messages"} missing.</span>}>
            <table class="table cards" data-conserved={String(data.conserved)}>
                <thead><tr><th scope="col">Handed on</th><th scope="col" class="num">Missing</th><th scope="col" class="num">Sent</th><th scope="col" class="num">Arrived</th><th scope="col" class="num">Waiting</th><th scope="col" class="num">Dropped by name</th></tr></thead>
                <tbody>{data.books.map((hop) => (
                    <tr key={hop.hop} data-hop={hop.hop}>
                        <th scope="row">{capital(hop.hop)}</th>
                        <td class="num" data-name="Missing">{hop.unaccounted ? <Badge tone="critical">{count(hop.unaccounted)}</Badge> : "0"}</td>
                        <td class="num" data-name="Sent">{count(hop.sent)}</td><td class="num" data-name="Arrived">{count(hop.received)}</td><td class="num wide-only">{count(hop.queued)}</td><td class="num wide-only">{count(hop.dropped)}</td>
                    </tr>
                ))}</tbody>
            </table>
            <p class="foot">From the wire up, then down: datagrams, and within connections the packets in them; what is sent in a train counts as one. Sent is counted by those who send, arrived by those who receive. While packets move, the counts are read moments apart and differ by those on their way; what is missing is missing for certain. The books end with the kernel, which gives back what it is done with and does not say whether it went onto the wire: there the interface's own statistics go on.</p>
        </Card>
    );
}

function Throughput({ history, now }: { history: Reading[]; now: number }) {
    const times = history.map((one) => (one.t_ns - now) / 1e9);
    return <Chart title="Throughput" times={times} columns={[history.map((one) => one.rxBytes * 8), history.map((one) => one.txBytes * 8)]} format={(bit) => bits(bit / 8)}
        series={[{ name: "received", color: "--run", fill: true }, { name: "sent", color: "--tx", dash: [6, 3] }]} />;
}

function Rates({ data, history }: { data: Data; history: Reading[] }) {
    const { rates, totals } = data;
    return (
        <div class="figures">
            <Figure name="Received" value={bits(rates.rx_bytes_per_s)} note={`${perSecond(rates.rx_packets_per_s).replace("/s", " packets/s").replace("  ", " ")} · ${bytes(totals.rx_bytes)} in all`}><Spark values={history.map((one) => one.rxBytes)} /></Figure>
            <Figure name="Sent" value={bits(rates.tx_bytes_per_s)} note={`${perSecond(rates.tx_datagrams_per_s).replace("/s", " datagrams/s").replace("  ", " ")} · ${bytes(totals.tx_bytes)} in all`}><Spark values={history.map((one) => one.txBytes)} tone="tx" /></Figure>
            <Figure name="Dropped" value={perSecond(rates.drops_per_s)} note={`${short(totals.drops)} in all`} tone={rates.drops_per_s > 0 ? "bad" : ""}><Spark values={history.map((one) => one.drops)} tone="bad" /></Figure>
            <Figure name="Messages between actors" value={perSecond(rates.messages_per_s)} note={rates.messages_per_s > 0 ? `${((rates.rx_packets_per_s + rates.tx_datagrams_per_s) / rates.messages_per_s).toFixed(1)} packets to a message` : "idle"}><Spark values={history.map((one) => one.messages)} tone="muted" /></Figure>
            <Figure name="Calls to send" value={perSecond(rates.kicks_per_s)} note={rates.kicks_per_s > 0 ? `${(rates.tx_datagrams_per_s / rates.kicks_per_s).toFixed(1)} datagrams each` : "none now"} />
        </div>
    );
}

function Questions({ data }: { data: Data }) {
    const frames = useApi<Frames>("frames", 2000).data;
    const slow = useApi<Page<ConnectionRow>>("connections?sort=blocked_share&desc=true&limit=100", 2000).data;
    const { live } = useLive();
    const path = data.data_path;
    const worst = worstWait(data.hops);
    const jam = data.lints.find((lint) => lint.kind === "mailbox_jam" || lint.kind === "slow_actor");
    const stuck = slow?.rows.filter((row) => row.blocked_by !== "idle" && row.blocked_by !== "application") ?? [];
    const holders = frames?.umems.flatMap((umem) => umem.holders) ?? [];
    const top = holders.filter((holder) => holder.actor).sort((a, b) => b.frames - a.frames)[0] ?? holders[0];
    const suspects = frames?.umems.reduce((sum, umem) => sum + umem.suspects.length, 0) ?? 0;
    const drops = live?.drops;
    const cause = drops?.rows.reduce((most, row) => (row.count > most.count ? row : most), drops.rows[0]);
    return (
        <div class="questions">
            <Question ask="Which path is my traffic on?" to={href("queues")} wide answer={path.summary.replace(` (${path.reason})`, "") || "None yet"}>
                <span class="badges">
                    {path.driver_mode != null && <Badge tone={path.driver_mode ? "good" : "warning"}>{path.driver_mode ? "driver mode" : "SKB mode"}</Badge>}
                    {path.zero_copy != null && <Badge tone={path.zero_copy ? "good" : "info"}>{path.zero_copy ? "zero-copy" : "copy"}</Badge>}
                    {path.kind === "os_udp" && <Badge tone="warning">not on XDP</Badge>}
                </span>
                {capital(path.fallback || path.reason || "it is the best there is.")}
            </Question>
            <Question ask="Where do packets wait?" to={jam?.actor ? href(`actors/${encodeURIComponent(jam.actor)}`) : href("topology")}
                answer={worst ? `${worst.direction === "rx" ? "Receiving" : "Sending"}, ${stageWord(worst.stage)}: ${duration(worst.wait_p99_ns)}` : "Nowhere: nothing was sampled"}>
                {jam ? capital(jam.detail.split(": ")[0]) : worst ? `at the 99th percentile; ${duration(worst.wait_p50_ns)} at the median` : "Send some traffic."}
            </Question>
            <Question ask="Why is my connection slow?" to={stuck[0] ? connectionHref(stuck[0].id) : href("connections")}
                answer={!slow ? "…" : !slow.total_unfiltered ? "There is none" : stuck.length ? `${stuck.length}${stuck.length === 100 ? " or more" : ""} of ${count(slow.total_unfiltered)} held back` : `None of ${count(slow.total_unfiltered)} is held back`}>
                {stuck[0] ? `Most: #${stuck[0].id} to ${stuck[0].remote}, by ${BLOCKED[stuck[0].blocked_by].name.toLowerCase().replace("umem", "UMEM")} ${percent(stuck[0].blocked_share)} of the time` : "Each sends as fast as its program writes."}
            </Question>
            <Question ask="Who holds the frames?" to={href("frames")} answer={!frames ? "…" : !frames.umems.length ? "No UMEM: not on AF_XDP" : top ? `${capital(top.holder)}: ${count(top.frames)}` : "All are free"}>
                {!frames?.umems.length ? "The OS holds the memory." : suspects ? `${plural(suspects, "frame")} may be lost` : `of ${count(frames.umems.reduce((sum, umem) => sum + umem.capacity, 0))}; none seems lost`}
            </Question>
            <Question ask="What was dropped?" to={href("drops")} answer={!drops?.total ? "Nothing" : `${short(drops.total)} in all, ${perSecond(drops.per_s)} now`}>
                {cause ? `Most: ${words(cause.cause)}` : `of ${short(data.totals.rx_packets)} received`}
            </Question>
        </div>
    );
}

function Question({ ask, answer, to, children, wide }: { ask: string; answer: ComponentChildren; to: string; children: ComponentChildren; wide?: boolean }) {
    return (
        <a class={`question ${wide ? "wide" : ""}`} href={to}>
            <span class="ask-line">{ask}<Icon name="arrow" size={14} /></span>
            <strong>{answer}</strong>
            <span class="muted">{children}</span>
        </a>
    );
}
