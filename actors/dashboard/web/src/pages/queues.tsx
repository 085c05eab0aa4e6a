// Below the actors: the devices, their rings, what the kernel says, and the XDP rules.
import type { QueueRow, Ring } from "../api";
import { bits, count, percent, perSecond, short, words } from "../format";
import { useLive } from "../live";
import { actorHref } from "../route";
import { Badge, Bar, Card, Empty, PageHead, Waiting } from "../parts/basics";
import { Icon } from "../parts/icons";

export function Queues() {
    const { live, link } = useLive();
    if (!live) return <><PageHead title="Queues" /><Waiting error={link.state === "lost" ? link.error : null} what="the queues" /></>;
    const { queues, rules, passed } = live.queues;
    const others = Object.entries(passed);
    const hits = rules.reduce((sum, rule) => sum + rule.hits, 0);
    return (
        <>
            <PageHead title="Queues" lead="Each device the packets come by: an AF_XDP socket (XSK) for a NIC queue, or a socket of the OS." />
            {!queues.length && <Empty title="No device is open">A listener or connection opens one.</Empty>}
            <div class="devices">{queues.map((queue) => <Device key={queue.name} queue={queue} />)}</div>
            <Card title="XDP rules" note="first match wins">
                {rules.length ? (
                    <table class="table rules">
                        <thead><tr><th class="num">#</th><th>Rule</th><th class="num">Hits</th><th class="num">Now</th><th class="wide-only">Share of all hits</th></tr></thead>
                        <tbody>{rules.map((rule, n) => (
                            <tr key={n}><td class="num muted">{n + 1}</td><td><code>{rule.rule}</code></td><td class="num">{count(rule.hits)}</td><td class="num">{perSecond(rule.hits_per_s)}</td>
                                <td class="share wide-only"><Bar share={hits ? rule.hits / hits : 0} /><span class="num">{percent(hits ? rule.hits / hits : 0)}</span></td></tr>
                        ))}</tbody>
                    </table>
                ) : <p class="muted pad">No XDP program is in use.</p>}
                {rules.length > 0 && <p class="foot">{others.some(([, n]) => n > 0) ? <>Passed to the kernel for another reason: {others.filter(([, n]) => n > 0).map(([cause, n], at) => <span key={cause} data-passed={cause}>{at ? ", " : ""}{PASSED[cause] ?? words(cause)} <b>{count(n)}</b></span>)}. </> : ""}What no rule matches goes to the kernel and is not counted.</p>}
            </Card>
        </>
    );
}

/** Why the program leaves a packet to the kernel although rules might have wanted it. */
const PASSED: Record<string, string> = {
    xdp_unparsed_passed: "no whole IP packet without options", xdp_foreign_vlan_passed: "of another VLAN",
    xdp_foreign_address_passed: "to an address that is not ours", xdp_unclaimed_queue_passed: "on a queue without an XSK",
};

const RINGS: [key: "fill" | "rx" | "tx" | "completion", name: string, says: string, fullIsGood: boolean][] = [
    ["fill", "Fill", "empty frames for the kernel to receive into; empty loses packets", true],
    ["rx", "RX", "received, not yet taken; full loses packets", false],
    ["tx", "TX", "to be sent, not yet taken by the kernel", false],
    ["completion", "Completion", "sent, frames not yet taken back", false],
];

function Device({ queue }: { queue: QueueRow }) {
    const best = /zero-copy/.test(queue.path) && /driver/.test(queue.path) && !/SKB/.test(queue.path);
    return (
        <section class={`card device ${queue.trouble || !queue.link_up ? "bad" : ""}`} data-device={queue.name}>
            <div class="card-head">
                <h2>{queue.actor ? <a href={actorHref(queue.actor)}>{queue.name}</a> : queue.name}</h2>
                <span class="badges">
                    <Badge tone={queue.link_up ? "good" : "critical"}>{queue.link_up ? "link up" : "link down"}</Badge>
                    {queue.rings && <Badge tone={queue.rings.need_wakeup ? "info" : ""} title="Whether the kernel asks for a system call to go on">{queue.rings.need_wakeup ? "needs wake-up" : "needs no wake-up"}</Badge>}
                </span>
            </div>
            <p class="device-path"><strong>{queue.path}</strong> <span class="muted">{queue.reason || (best ? "It is the best there is." : "")}</span></p>
            {queue.trouble && <p class="trouble"><Icon name="critical" /> {queue.trouble}</p>}
            <dl class="facts four">
                <div><dt>Received</dt><dd>{bits(queue.rx_bytes_per_s)}<small>{perSecond(queue.rx_packets_per_s)}</small></dd></div>
                <div><dt>Sent</dt><dd>{bits(queue.tx_bytes_per_s)}<small>{perSecond(queue.tx_datagrams_per_s)}</small></dd></div>
                <div><dt>Calls to send</dt><dd>{perSecond(queue.kicks_per_s)}</dd></div>
                <div><dt>Datagrams to a call</dt><dd>{queue.kicks_per_s > 0 ? queue.datagrams_per_kick.toFixed(1) : "–"}</dd></div>
            </dl>
            {queue.rings && <div class="rings">{RINGS.map(([key, name, says, fullIsGood]) => <Gauge key={key} name={name} says={says} ring={queue.rings![key]} fullIsGood={fullIsGood} />)}</div>}
            <Counters title="The kernel's XDP statistics" of={queue.kernel} open />
            <Counters title="Other counters" of={queue.counters} />
        </section>
    );
}

function Gauge({ name, says, ring, fullIsGood }: { name: string; says: string; ring: Ring; fullIsGood: boolean }) {
    const share = ring.size ? ring.used / ring.size : 0;
    const bad = ring.size > 0 && (fullIsGood ? share < 0.05 : share > 0.9);
    return (
        <div class={`gauge ${bad ? "bad" : ""}`}>
            <span class="gauge-name">{name}{bad && <Badge tone="critical">{fullIsGood ? "empty" : "full"}</Badge>}</span>
            <Bar share={share} tone={bad ? "bad" : fullIsGood ? "good" : "run"} label={`${name} ring: ${ring.used} of ${ring.size}`} />
            <span class="num">{count(ring.used)} <small class="muted">of {count(ring.size)}</small></span>
            <small class="muted">{says}</small>
        </div>
    );
}

export function Counters({ title, of, open }: { title: string; of: Record<string, number>; open?: boolean }) {
    const entries = Object.entries(of);
    if (!entries.length) return null;
    const above = entries.filter(([, value]) => value > 0).length;
    return (
        <details class="counters" open={open}>
            <summary>{title} <span class="muted">{above ? `${above} of ${entries.length} above 0` : "all 0"}</span></summary>
            <dl>{entries.map(([name, value]) => <div key={name} class={value ? "" : "zero"}><dt>{words(name)}</dt><dd title={count(value)}>{short(value)}</dd></div>)}</dl>
        </details>
    );
}
