// Journeys of single datagrams: arm a filter, choose one, see its way.
import { useState } from "preact/hooks";
import type { Armed, Journey, PathGroup, TraceFilter, Traces } from "../api";
import { ApiError, post, request, useApi, withQuery } from "../client";
import { ago, bytes, count, duration, exact, percent, plural, short, tidy, words } from "../format";
import { useLive } from "../live";
import { connectionHref, href, useRoute } from "../route";
import { ActorLink, Badge, Card, Empty, PageHead, Stale, Waiting } from "../parts/basics";
import { Icon } from "../parts/icons";
import { WaitRunKey, Way, stageSays, stageWord } from "../parts/way";

export function Packets({ id }: { id: string | null }) {
    const { source } = useRoute();
    const [direction, setDirection] = useState("");
    const [path, setPath] = useState<string | null>(null);
    const { data, error, t_ns, refresh } = useApi<Traces>(withQuery("traces", { direction, path, limit: 200 }), id ? 5000 : 1000);
    const group = data?.groups.find((one) => one.path === path) ?? null;
    return (
        <>
            <PageHead title="Packets" lead="Some datagrams are followed from actor to actor. Arm a filter to follow the ones you look for." />
            <Stale error={data ? error : null} />
            {!source && <Arm armed={data?.armed ?? null} onChange={refresh} />}
            {id && <OneJourney id={id} now={t_ns} />}
            {!data ? <Waiting error={error} what="the journeys" /> : (
                <>
                    <Card title="By path" note={`${plural(data.kept, "journey")} kept${data.incomplete ? `, ${count(data.incomplete)} incomplete left out` : ""}`}>
                        {data.groups.length ? (
                            <table class="table groups">
                                <thead><tr><th>Way</th><th class="num">Journeys</th><th class="num">Total p50</th><th class="num">p99</th><th /></tr></thead>
                                <tbody>{data.groups.map((one) => <GroupRow key={one.direction + one.path} group={one} chosen={one.path === path} onChoose={() => setPath(one.path === path ? null : one.path)} />)}</tbody>
                            </table>
                        ) : <Empty title="No journey yet">Datagrams are sampled as they pass: send some traffic, or arm a filter that matches more.</Empty>}
                        {group && <div class="pad"><Way stages={group.stages} direction={group.direction} /><p class="foot"><WaitRunKey /></p></div>}
                    </Card>
                    <Card title="Journeys" note="newest first">
                        <div class="card-tools">
                            <fieldset class="switch"><legend class="sr">Direction</legend>
                                {[["", "All"], ["rx", "Received"], ["tx", "Sent"]].map(([value, text]) => (
                                    <label key={value}><input type="radio" name="journeys" checked={direction === value} onChange={() => setDirection(value)} /><span>{text}</span></label>
                                ))}
                            </fieldset>
                            {path && <button onClick={() => setPath(null)}><Icon name="cross" size={12} /> Only the chosen way</button>}
                        </div>
                        <JourneyTable journeys={data.journeys} now={t_ns} chosen={id} />
                    </Card>
                </>
            )}
        </>
    );
}

function GroupRow({ group, chosen, onChoose }: { group: PathGroup; chosen: boolean; onChoose: () => void }) {
    return (
        <tr class={chosen ? "chosen" : ""}>
            <td><WayWords path={group.path} direction={group.direction} /></td><td class="num" data-name="journeys">{count(group.count)}</td>
            <td class="num" data-name="p50">{duration(group.total_p50_ns)}</td><td class="num" data-name="p99"><b>{duration(group.total_p99_ns)}</b></td>
            <td class="num"><button aria-pressed={chosen} onClick={onChoose}>{chosen ? "Fold" : "Stages"}</button></td>
        </tr>
    );
}

function WayWords({ path, direction }: { path: string; direction: string }) {
    return (
        <span class="way-words"><Badge tone={direction}>{direction === "rx" ? "received" : "sent"}</Badge>
            {path.split(" > ").map((stage, n) => <span key={n}>{n > 0 && <Icon name="chevron" size={10} />}{stageWord(stage)}</span>)}
        </span>
    );
}

function Outcome({ of }: { of: string }) {
    const fine = of === "delivered" || of === "sent";
    return <Badge tone={fine ? "" : "critical"}>{fine ? of : words(of)}</Badge>;
}

function JourneyTable({ journeys, now, chosen }: { journeys: Journey[]; now: number; chosen: string | null }) {
    if (!journeys.length) return <p class="muted pad">None.</p>;
    const most = Math.max(1, ...journeys.map((journey) => journey.total_ns));
    return (
        <div class="scroll-y journeys"><table class="table">
            <thead><tr><th>When</th><th>Way</th><th class="wide-only">Peer</th><th class="num wide-only">Size</th><th>Ended</th><th class="num">Took</th><th class="wide-only" /></tr></thead>
            <tbody>{journeys.map((journey) => (
                <tr key={journey.id} class={journey.id === chosen ? "chosen" : ""} data-journey={journey.id}>
                    <td><a class="cover" href={href(`packets/${encodeURIComponent(journey.id)}`)}>{ago(journey.begin_ns, now)}</a></td>
                    <td>{journey.direction === "rx" ? "received" : "sent"}</td><td class="wide-only"><code>{journey.remote ?? "–"}</code></td><td class="num wide-only">{bytes(journey.len_bytes)}</td>
                    <td><Outcome of={journey.outcome} /></td><td class="num"><b>{duration(journey.total_ns)}</b></td>
                    <td class="wide-only mini"><MiniWay journey={journey} most={most} /></td>
                </tr>
            ))}</tbody>
        </table></div>
    );
}

function MiniWay({ journey, most }: { journey: Journey; most: number }) {
    return (
        <span class="mini-way" style={{ width: `${Math.max(2, (journey.total_ns / most) * 100)}%` }} aria-hidden="true">
            {journey.hops.flatMap((hop, n) => [<i key={`w${n}`} class="seg wait" style={{ flexGrow: String(hop.wait_ns) }} />, <i key={`r${n}`} class="seg run" style={{ flexGrow: String(hop.run_ns) }} />])}
        </span>
    );
}

function OneJourney({ id, now }: { id: string; now: number }) {
    const { data, error } = useApi<Journey>(`traces/${encodeURIComponent(id)}`, 60_000);
    if (!data) return <Card title={`Journey ${id}`}><Waiting error={error} what="this journey" /></Card>;
    return <Waterfall journey={data} now={now} />;
}

/** Each hop begins where the one before ends; the sum is the total, to the nanosecond. */
function Waterfall({ journey, now }: { journey: Journey; now: number }) {
    const sum = journey.hops.reduce((total, hop) => total + hop.wait_ns + hop.run_ns, 0);
    const total = journey.total_ns || 1;
    const waited = journey.hops.reduce((all, hop) => all + hop.wait_ns, 0);
    const longest = journey.hops.reduce((most, hop) => (Math.max(hop.wait_ns, hop.run_ns) > Math.max(most.wait_ns, most.run_ns) ? hop : most), journey.hops[0]);
    const at = (ns: number) => `${(ns / total) * 100}%`;
    const ticks = niceTicks(total);
    let begin = 0;
    return (
        <section class="card waterfall" data-waterfall={journey.id}>
            <div class="card-head">
                <h2>{journey.direction === "rx" ? "Received" : "Sent"} datagram <span class="muted">{journey.id}</span></h2>
                <a class="icon-button" href={href("packets")} aria-label="Close" title="Close"><Icon name="cross" /></a>
            </div>
            <dl class="facts inline">
                <div><dt>Took</dt><dd>{duration(journey.total_ns)}</dd></div>
                <div><dt>Of that waiting</dt><dd>{percent(waited / total)}</dd></div>
                <div><dt>Size</dt><dd>{bytes(journey.len_bytes)}</dd></div>
                {journey.remote && <div><dt>Peer</dt><dd><code>{journey.remote}</code></dd></div>}
                {journey.local && <div><dt>Here</dt><dd><code>{journey.local}</code></dd></div>}
                {journey.cid && <div><dt>CID</dt><dd><code>{journey.cid}</code></dd></div>}
                {journey.connection && <div><dt>Connection</dt><dd><a href={connectionHref(journey.connection)}>{journey.connection}</a></dd></div>}
                <div><dt>Ended</dt><dd><Outcome of={journey.outcome} /></dd></div>
                {now > 0 && <div><dt>When</dt><dd>{ago(journey.begin_ns, now)}</dd></div>}
            </dl>
            {longest && <p class="says">Most of its time it {longest.wait_ns >= longest.run_ns ? "waited at" : "was worked on at"} <b>{stageWord(longest.stage)}</b>: {duration(Math.max(longest.wait_ns, longest.run_ns))}, {percent(Math.max(longest.wait_ns, longest.run_ns) / total)} of the whole.</p>}
            <div class="fall" role="table" aria-label="Hops">
                <div class="fall-row fall-head" role="row"><span role="columnheader">Hop</span><span class="fall-scale" role="columnheader" aria-label="Time">{ticks.map((tick) => <i key={tick} style={{ left: at(tick) }}><span>{tidy(duration(tick))}</span></i>)}</span><span class="num" role="columnheader">waits</span><span class="num" role="columnheader">runs</span></div>
                {journey.hops.map((hop, n) => {
                    const start = begin;
                    begin += hop.wait_ns + hop.run_ns;
                    return (
                        <div key={n} class="fall-row" role="row" data-hop={hop.stage}>
                            <span class="fall-name" role="cell"><b>{stageWord(hop.stage)}</b><small class="muted"><ActorLink id={hop.actor}>{hop.label || stageSays(journey.direction, hop.stage)}</ActorLink>{hop.batch > 1 ? ` · 1 of ${hop.batch}` : ""}</small></span>
                            <span class="fall-track" role="cell" aria-hidden="true">
                                {ticks.map((tick) => <i key={tick} class="rule" style={{ left: at(tick) }} />)}
                                <i class="drop-line" style={{ left: at(start) }} />
                                <i class="seg wait" style={{ left: at(start), width: at(hop.wait_ns) }} />
                                <i class="seg run" style={{ left: at(start + hop.wait_ns), width: `max(2px, ${at(hop.run_ns)})` }} />
                            </span>
                            <span class="num" role="cell" data-wait={hop.wait_ns} title={exact(hop.wait_ns)}>{duration(hop.wait_ns)}</span><span class="num" role="cell" data-run={hop.run_ns} title={exact(hop.run_ns)}>{duration(hop.run_ns)}</span>
                        </div>
                    );
                })}
            </div>
            <p class={`books ${sum === journey.total_ns ? "" : "bad"}`} data-sum={sum} data-total={journey.total_ns}>
                <Icon name={sum === journey.total_ns ? "check" : "critical"} /><span>The hops sum to <b>{exact(sum)}</b></span><span>{sum === journey.total_ns ? "=" : "≠"}</span><span><b>{exact(journey.total_ns)}</b> in all</span><span class="push"><WaitRunKey /></span>
            </p>
        </section>
    );
}

function niceTicks(total: number): number[] {
    const rough = total / 5;
    const power = 10 ** Math.floor(Math.log10(Math.max(1, rough)));
    const step = ([1, 2, 5, 10].find((one) => one * power >= rough) ?? 10) * power;
    return Array.from({ length: Math.floor(total / step) + 1 }, (_, n) => n * step).filter((tick) => tick < total * 0.96);
}

function describe(filter: TraceFilter): string {
    const parts = [
        filter.address && `to or from ${filter.address}`, filter.cid && `with CID ${filter.cid}…`,
        filter.drop_cause && `dropped as ${words(filter.drop_cause)}`, (filter.one_in ?? 1) > 1 && `one in ${count(filter.one_in!)}`,
    ].filter(Boolean);
    return parts.length ? parts.join(", ") : "every datagram";
}

export function FilterFields({ causes }: { causes: string[] }) {
    const { query } = useRoute();
    return (
        <>
            <label>Address<input name="address" defaultValue={query.get("address") ?? ""} placeholder="10.0.0.2 or 10.0.0.2:4433" spellcheck={false} autocomplete="off" /></label>
            <label>Connection ID<input name="cid" placeholder="hex, a prefix will do" pattern="[0-9a-fA-F]*" title="Hexadecimal digits" spellcheck={false} autocomplete="off" /></label>
            <label>Ends as<select name="drop_cause"><option value="">anything</option>{causes.map((cause) => <option key={cause} value={cause} selected={cause === query.get("drop_cause")}>dropped: {words(cause)}</option>)}</select></label>
            <label class="small">One in<input name="one_in" type="number" min={1} max={1000000} placeholder="2" title="Of what matches, one in so many is followed; of drops every one, unless told otherwise" /></label>
        </>
    );
}

export function readFilter(form: FormData): TraceFilter {
    const text = (name: string) => form.get(name)?.toString().trim() || null;
    return { address: text("address"), cid: text("cid"), drop_cause: text("drop_cause"), one_in: Number(text("one_in")) || null };
}

export function useCauses(): string[] {
    return useLive().live?.drops.rows.map((row) => row.cause) ?? [];
}

function Arm({ armed, onChange }: { armed: Armed | null; onChange: () => void }) {
    const causes = useCauses();
    const { live } = useLive();
    const [error, setError] = useState<string | null>(null);
    const act = async (what: () => Promise<unknown>) => {
        try {
            await what();
            setError(null);
        } catch (failure) {
            setError(failure instanceof ApiError ? failure.message : String(failure));
        }
        onChange();
    };
    const cost = live?.overview.tracing;
    return (
        <Card class="arm">
            <form class="fields" onSubmit={(event) => {
                event.preventDefault();
                const filter = readFilter(new FormData(event.currentTarget));
                act(() => post<Armed>("traces", filter));
            }}>
                <FilterFields causes={causes} />
                <button class="primary">Arm</button>
                {armed?.filter && <button type="button" onClick={() => act(() => request("traces", { method: "DELETE" }))}>Disarm</button>}
            </form>
            {error && <p class="trouble" role="alert"><Icon name="critical" /> {error}</p>}
            <p class="foot" role="status">
                {armed?.filter ? <><Badge tone="good">armed</Badge> Following {describe(armed.filter)}; besides </> : "Following "}
                {armed?.sample_one_in ? `1 in ${count(armed.sample_one_in)} of all datagrams.` : "no other datagram."}
                {cost && ` ${short(cost.hops_recorded)} hops recorded so far, at ${percent(cost.share_of_core)} of a core.`}
            </p>
        </Card>
    );
}

export { describe };
