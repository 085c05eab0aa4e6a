// One actor: where it stands in the tree, what it handles, how long that takes, and how its predecessors ended.
import type { ActorDetail, Tombstone, Tree } from "../api";
import { useApi } from "../client";
import { ago, capital, count, duration, percent, perSecond, plural, words } from "../format";
import { actorHref, connectionHref, href } from "../route";
import { Bar, Card, Empty, Figure, PageHead, Stale, Waiting, actorName } from "../parts/basics";
import { Histogram } from "../parts/histogram";
import { Icon } from "../parts/icons";

export function Actor({ id }: { id: string }) {
    const { data, error, t_ns } = useApi<ActorDetail>(`actors/${encodeURIComponent(id)}`);
    if (error?.status === 404) return <Ended id={id} />;
    if (!data) return <><PageHead title={`Actor ${id}`} /><Waiting error={error} what="this actor" /></>;
    const { row } = data;
    return (
        <>
            <nav class="crumbs" aria-label="Supervisors">
                {data.ancestors.map((one) => <span key={one.id}><a href={actorHref(one.id)}>{actorName(one.kind, one.name, one.id)}</a><Icon name="chevron" size={12} /></span>)}
                <span aria-current="true">{actorName(row.kind, row.name, row.id)}</span>
            </nav>
            <PageHead title={capital(actorName(row.kind, row.name, row.id))} lead={`Actor ${row.id} · ${perSecond(row.messages_per_s).replace("/s", " messages/s").replace("  ", " ")}, ${perSecond(row.items_per_s).replace("/s", " packets/s").replace("  ", " ")}`}>
                {row.kind === "connection" && <a class="button" href={connectionHref(row.id)}>Show as a connection</a>}
            </PageHead>
            <Stale error={error} />
            <div class="figures">
                <Figure name="Messages waiting" value={count(row.queued)} note={row.queued ? `${plural(row.items_queued, "packet")} in them` : "its mailbox is empty"} tone={row.oldest_age_ns > 10e6 ? "bad" : ""} />
                <Figure name="Oldest has waited" value={row.queued ? duration(row.oldest_age_ns) : "–"} note={`most at once: ${count(row.depth_peak)}`} tone={row.oldest_age_ns > 10e6 ? "bad" : ""} />
                <Figure name="Busy" value={percent(row.busy_share)} note="of a core"><Bar share={row.busy_share} /></Figure>
                <Figure name="Waits now" value={duration(row.wait_mean_ns)} note="mean of the last second" />
                <Figure name="Runs now" value={duration(row.run_mean_ns)} note="mean of the last second" />
            </div>
            <Books row={row} />
            <div class="columns">
                <Card title="How long messages wait" note={`all ${words(row.kind)} actors`}><Histogram of={data.wait} tone="wait" name="Waiting" /></Card>
                <Card title="How long handling takes" note={`all ${words(row.kind)} actors`}><Histogram of={data.run} tone="run" name="Handling" /></Card>
            </div>
            <Card title="Messages by kind" note={`all ${words(row.kind)} actors`}>
                {data.messages.length ? (
                    <table class="table cards">
                        <thead><tr><th>Message</th><th class="num">Handled</th><th class="num">Waits p50</th><th class="num">p99</th><th class="num">Runs p50</th><th class="num">p99</th></tr></thead>
                        <tbody>{data.messages.map((kind) => (
                            <tr key={kind.name}><th scope="row">{words(kind.name)}</th><td class="num" data-name="Handled">{count(kind.handled)}</td><td class="num" data-name="Waits p50">{duration(kind.wait.p50_ns)}</td><td class="num" data-name="Waits p99">{duration(kind.wait.p99_ns)}</td><td class="num" data-name="Runs p50">{duration(kind.run.p50_ns)}</td><td class="num" data-name="Runs p99">{duration(kind.run.p99_ns)}</td></tr>
                        ))}</tbody>
                    </table>
                ) : <p class="muted pad">Its kind is not told apart by message.</p>}
            </Card>
            <div class="columns">
                <Card title="Restarts" note={data.restarts.length ? count(data.restarts.length) : ""}><History rows={data.restarts} now={t_ns} empty="It has never failed." /></Card>
                <Card title="Children" note={data.children_total ? count(data.children_total) : ""}>
                    {data.children.length ? <ul class="chips">{data.children.map((child) => <li key={child.id}><a href={actorHref(child.id)}>{actorName(child.kind, child.name, child.id)}</a></li>)}</ul> : <p class="muted pad">None.</p>}
                    {data.children_total > data.children.length && <p class="foot"><a href={href("actors")}>and {count(data.children_total - data.children.length)} more</a></p>}
                </Card>
            </div>
        </>
    );
}

/** Conservation, in figures. */
function Books({ row }: { row: ActorDetail["row"] }) {
    const balanced = row.sent === row.handled + row.dropped + row.queued;
    return (
        <p class={`books ${balanced ? "" : "bad"}`}>
            <Icon name={balanced ? "check" : "critical"} />
            <span><b>{count(row.sent)}</b> sent</span><span>=</span><span><b>{count(row.handled)}</b> handled</span><span>+</span>
            <span><b>{count(row.dropped)}</b> dropped</span><span>+</span><span><b>{count(row.queued)}</b> waiting</span>
        </p>
    );
}

export function History({ rows, now, empty }: { rows: Tombstone[]; now: number; empty: string }) {
    if (!rows.length) return <p class="muted pad">{empty}</p>;
    return (
        <ol class="history">
            {rows.map((row) => (
                <li key={row.id} class={row.failed ? "failed" : ""} data-ended={row.id}>
                    <Icon name={row.failed ? "cross" : "check"} size={14} />
                    <div>
                        <strong>{capital(actorName(row.kind, row.name, row.id))}</strong> {row.failed ? "failed" : "ended"} <span class="muted">{ago(row.ended_ns, now)}</span>
                        <p>{row.reason || (row.failed ? "No reason was given." : "As it was told to.")}</p>
                        {row.successor && <p class="muted"><Icon name="restart" size={13} /> Restarted as <a href={actorHref(row.successor)}>actor {row.successor}</a></p>}
                    </div>
                </li>
            ))}
        </ol>
    );
}

function Ended({ id }: { id: string }) {
    const { data, t_ns } = useApi<Tree>("tree", 2000);
    const end = data?.history.filter((row) => row.id === id) ?? [];
    return (
        <>
            <PageHead title={`Actor ${id}`} lead="It lives no more." />
            <Card>{data && !end.length ? <Empty title="Nothing is known of its end">Plain ends of connections are not kept. <a href={href("actors")}>To the live actors</a></Empty> : <History rows={end} now={t_ns} empty="" />}</Card>
        </>
    );
}
