// The UMEM ledger: each frame has one holder, and the sum is the capacity.
import type { Frames as Data, UmemLedger } from "../api";
import { useApi } from "../client";
import { bytes, capital, count, duration, percent, plural } from "../format";
import { Badge, Bar, Card, Empty, ActorLink, PageHead, Stale, Waiting } from "../parts/basics";
import { Icon } from "../parts/icons";

const PLACE: Record<string, [name: string, says: string]> = {
    free: ["Free", "in the pool"],
    fill: ["Fill ring", "with the kernel, to receive into"],
    rx_app: ["Received", "with an actor, not let go yet"],
    tx_app: ["To be sent", "leased, being written"],
    tx_ring: ["TX ring", "with the kernel, being sent"],
    quarantined: ["Quarantined", "its XSK died; waits for the kernel to let go"],
};

export function Frames() {
    const { data, error } = useApi<Data>("frames");
    if (!data) return <><PageHead title="Frames" /><Waiting error={error} what="the frames" /></>;
    return (
        <>
            <PageHead title="Frames" lead="Packets live in a fixed number of UMEM frames, shared with the kernel. Who holds many for long starves all others." />
            <Stale error={error} />
            {!data.umems.length && <Empty title="There is no UMEM">Traffic is not on AF_XDP: the OS holds the memory of its packets.</Empty>}
            {data.umems.map((umem) => <Ledger key={umem.device} umem={umem} />)}
        </>
    );
}

function Ledger({ umem }: { umem: UmemLedger }) {
    const holders = [...umem.holders].sort((a, b) => b.frames - a.frames);
    const most = Math.max(1, ...holders.map((holder) => holder.frames));
    const held = holders.reduce((sum, holder) => sum + holder.frames, 0);
    return (
        <Card title={umem.device} note={`${count(umem.capacity)} frames of ${bytes(umem.frame_size_bytes)}: ${bytes(umem.capacity * umem.frame_size_bytes)}`} class="ledger">
            <div class="ledger-bar" role="img" aria-label={umem.places.map((place) => `${PLACE[place.place]?.[0] ?? place.place} ${place.frames}`).join(", ")}>
                {umem.places.filter((place) => place.frames > 0).map((place) => <span key={place.place} class={`place ${place.place}`} style={{ flexGrow: String(place.frames) }} title={`${PLACE[place.place]?.[0] ?? place.place}: ${count(place.frames)}`} />)}
            </div>
            <div class="places">
                {umem.places.map((place) => (
                    <div key={place.place} class={place.frames ? "" : "zero"} data-place={place.place}>
                        <i class={`place ${place.place}`} />
                        <span><b>{PLACE[place.place]?.[0] ?? capital(place.place)}</b><small class="muted">{PLACE[place.place]?.[1] ?? ""}</small></span>
                        <span class="num"><b>{count(place.frames)}</b><small class="muted">{percent(umem.capacity ? place.frames / umem.capacity : 0)}{place.oldest_age_ns ? ` · oldest ${duration(place.oldest_age_ns)}` : ""}</small></span>
                    </div>
                ))}
            </div>
            <p class={`books ${umem.balanced ? "" : "bad"}`}>
                <Icon name={umem.balanced ? "check" : "critical"} />
                <span><b>{count(umem.sum)}</b> counted</span><span>{umem.balanced ? "=" : "≠"}</span><span><b>{count(umem.capacity)}</b> there are</span>
                {umem.rejected > 0 && <Badge tone="critical">{plural(umem.rejected, "wrong return")} refused</Badge>}
            </p>
            <div class="columns">
                <section>
                    <h3>Who holds them</h3>
                    {holders.length ? (
                        <table class="table holders">
                            <thead><tr><th>Holder</th><th class="num">Frames</th><th /><th class="num">Oldest</th></tr></thead>
                            <tbody>{holders.map((holder) => (
                                <tr key={holder.holder} data-holder={holder.holder}><td><ActorLink id={holder.actor}>{capital(holder.holder)}</ActorLink></td><td class="num"><b>{count(holder.frames)}</b></td>
                                    <td class="share"><Bar share={holder.frames / most} tone={holder.actor ? "wait" : "muted"} /></td><td class="num">{duration(holder.oldest_age_ns)}</td></tr>
                            ))}</tbody>
                        </table>
                    ) : <p class="muted">Nobody in the program holds one.</p>}
                    {holders.length > 0 && <p class="foot">{count(held)} frames in all.</p>}
                </section>
                <section>
                    <h3>May be lost {umem.suspects.length > 0 && <Badge tone="warning">{count(umem.suspects.length)}</Badge>}</h3>
                    {umem.suspects.length ? (
                        <div class="scroll-y"><table class="table">
                            <thead><tr><th>Frame</th><th>Holder</th><th class="num">Held for</th></tr></thead>
                            <tbody>{umem.suspects.map((suspect) => <tr key={suspect.frame}><td>{suspect.frame}</td><td><ActorLink id={suspect.actor}>{capital(suspect.holder)}</ActorLink></td><td class="num">{duration(suspect.age_ns)}</td></tr>)}</tbody>
                        </table></div>
                    ) : <p class="muted">None: nobody has held a frame for long.</p>}
                </section>
            </div>
        </Card>
    );
}
