// Every actor: filtered, sorted and paged by the server.
import { useState } from "preact/hooks";
import type { ActorRow } from "../api";
import { capital, count, duration, percent, perSecond, plural, words } from "../format";
import { useLive } from "../live";
import { actorHref, useRoute } from "../route";
import { Badge, Bar, PageHead, actorName } from "../parts/basics";
import { List, type Column } from "../parts/list";

const COLUMNS: Column<ActorRow>[] = [
    { name: "Actor", sort: "name", width: "minmax(180px, 2.2fr)", class: "name", cell: (row) => <>{actorName(row.kind, row.name, row.id)}{row.restarts > 0 && <Badge tone="warning">{plural(row.restarts, "restart")}</Badge>}</> },
    { name: "Waiting", sort: "queued", width: "minmax(76px, 1fr)", class: "num", title: "Messages in its mailbox now", cell: (row) => count(row.queued) },
    { name: "Oldest", sort: "oldest_age_ns", width: "minmax(80px, 1fr)", class: "num", title: "How long the oldest message has waited", cell: (row) => (row.queued ? duration(row.oldest_age_ns) : "–") },
    { name: "Peak", sort: "depth_peak", width: "minmax(70px, 1fr)", class: "num", title: "Most messages that ever waited at once", cell: (row) => count(row.depth_peak) },
    { name: "Busy", sort: "busy_share", width: "minmax(120px, 1.3fr)", class: "num busy", title: "Share of a core", cell: (row) => <><Bar share={row.busy_share} />{percent(row.busy_share)}</> },
    { name: "Messages", sort: "messages_per_s", width: "minmax(90px, 1fr)", class: "num", cell: (row) => perSecond(row.messages_per_s) },
    { name: "Packets", sort: "items_per_s", width: "minmax(90px, 1fr)", class: "num", cell: (row) => perSecond(row.items_per_s) },
    { name: "Waits", sort: "wait_mean_ns", width: "minmax(80px, 1fr)", class: "num", title: "How long its messages wait: mean over the last second", cell: (row) => duration(row.wait_mean_ns) },
    { name: "Runs", sort: "run_mean_ns", width: "minmax(80px, 1fr)", class: "num", title: "How long handling one takes: mean over the last second", cell: (row) => duration(row.run_mean_ns) },
    { name: "Dropped", sort: "dropped", width: "minmax(76px, 1fr)", class: "num", cell: (row) => count(row.dropped) },
];

export function Actors() {
    const { query } = useRoute();
    const { live } = useLive();
    const [kind, setKind] = useState(query.get("kind") ?? "");
    const kinds = Object.keys(live?.overview.actors_by_kind ?? {}).sort();
    return (
        <div class="full">
            <PageHead title="Actors" lead="Each has a mailbox. Where many messages wait and the oldest is old, work piles up." />
            <List<ActorRow> path="actors" noun="actors" sort="busy_share" columns={COLUMNS} query={{ kind }}
                filterHint="Kind, name or id" rowHref={(row) => actorHref(row.id)} rowKey={(row) => row.id}
                rowClass={(row) => (row.oldest_age_ns > 10e6 ? "late" : "")}
                narrow={(row) => <>
                    <span class="row-line"><b>{actorName(row.kind, row.name, row.id)}</b><span>{percent(row.busy_share)} busy</span></span>
                    <span class="row-line muted"><span>{row.queued ? `${count(row.queued)} wait, oldest ${duration(row.oldest_age_ns)}` : "none waits"}</span><span>{perSecond(row.messages_per_s)}</span></span>
                </>}
                tools={
                    <label class="select"><span class="sr">Kind</span>
                        <select value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
                            <option value="">All kinds</option>
                            {(kind && !kinds.includes(kind) ? [kind, ...kinds] : kinds).map((one) => <option key={one} value={one}>{capital(words(one))}</option>)}
                        </select>
                    </label>
                } />
        </div>
    );
}
