// What went nowhere: by layer from the wire up, and by cause.
import type { DropRow } from "../api";
import { ago, bytes, capital, count, percent, perSecond, plural, short, words } from "../format";
import { useLive } from "../live";
import { href } from "../route";
import { Badge, Card, Empty, Figure, PageHead, Waiting } from "../parts/basics";

const LAYER: Record<string, string> = {
    kernel: "Before the packets reach us", device: "At the rings", demux: "Finding their connection", listener: "Of no connection",
    connection: "In a connection", mailbox: "A mailbox was full", transmit: "While sending",
};

export function Drops() {
    const { live, link, t_ns } = useLive();
    if (!live) return <><PageHead title="Drops" /><Waiting error={link.state === "lost" ? link.error : null} what="the drops" /></>;
    const { drops } = live;
    const layers = [...new Set(drops.rows.map((row) => row.layer))].map((layer) => {
        const rows = drops.rows.filter((row) => row.layer === layer && row.count > 0);
        return { layer, rows, sum: rows.reduce((sum, row) => sum + row.count, 0) };
    }).filter((layer) => layer.rows.length);
    let before = 0;
    return (
        <>
            <PageHead title="Drops" lead="Every packet that goes nowhere has one cause, one counter, and is counted once." />
            <div class="figures">
                <Figure name="Dropped now" value={perSecond(drops.per_s)} tone={drops.per_s > 0 ? "bad" : ""} />
                <Figure name="Dropped in all" value={short(drops.total)} note={plural(layers.reduce((n, layer) => n + layer.rows.length, 0), "cause")} />
                <Figure name="Received in all" value={short(drops.rx_packets)} note="packets" />
                <Figure name="Share" value={percent(drops.rx_packets ? drops.total / drops.rx_packets : 0)} note="dropped, of those received" />
            </div>
            {!layers.length && <Card><Empty title="Nothing was dropped">Not one packet, at any layer.</Empty></Card>}
            {layers.length > 0 && (
                <Card title="Waterfall" note="from the wire up; each bar begins where the one before ends" class="drop-fall">
                    {layers.map(({ layer, rows, sum }) => (
                        <section key={layer} data-layer={layer}>
                            <div class="drop-layer">
                                <h3>{capital(layer)}<small class="muted">{LAYER[layer] ?? ""}</small></h3>
                                <span class="num"><b>{count(sum)}</b> <small class="muted">{percent(sum / drops.total)}</small></span>
                            </div>
                            {rows.map((row) => {
                                const begin = before;
                                before += row.count;
                                return <Cause key={row.cause} row={row} begin={begin / drops.total} share={row.count / drops.total} now={t_ns} />;
                            })}
                        </section>
                    ))}
                </Card>
            )}
        </>
    );
}

function Cause({ row, begin, share, now }: { row: DropRow; begin: number; share: number; now: number }) {
    const { sample } = row;
    return (
        <div class="drop-row" data-cause={row.cause}>
            <div class="drop-words">
                <b>{words(row.cause)}</b>{row.per_s > 0 && <Badge tone="critical">{perSecond(row.per_s)} now</Badge>}
                <p class="muted">{row.meaning}</p>
            </div>
            <div class="drop-track" role="img" aria-label={`${percent(share)} of all drops`}>
                <span class={`drop-bar ${row.per_s > 0 ? "now" : ""}`} style={{ left: `${begin * 100}%`, width: `max(3px, ${share * 100}%)` }} />
            </div>
            <span class="num drop-count"><b>{count(row.count)}</b><small class="muted">{percent(share)}</small></span>
            <div class="drop-when muted">
                <span>First {ago(row.first_ns, now)}, last {ago(row.last_ns, now)}.</span>
                {sample && <span>One of them: <code>{sample.remote ?? "?"}</code> to <code>{sample.local ?? "?"}</code>, {bytes(sample.len_bytes)}{sample.cid && <>, CID <code>{sample.cid}</code></>}.</span>}
                <a href={href("packets", { drop_cause: row.cause })}>Follow such packets</a>
            </div>
        </div>
    );
}
