// The way of packets as a graph: where they flow, where they wait, and what causes it.
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Topology as Graph, TopologyEdge, TopologyNode } from "../api";
import { capital, count, duration, percent, perSecond, words } from "../format";
import { useLive } from "../live";
import { actorHref, connectionHref, href } from "../route";
import { Card, Lints, PageHead, Waiting } from "../parts/basics";
import { layered, type Layout, type Point } from "../parts/layered";
import { useNarrow } from "../parts/list";

interface Size { width: number; height: number }
const NODE: Size = { width: 120, height: 78 };
/** Where many stand in one column. */
const LOW_NODE: Size = { width: 120, height: 52 };
const NARROW_NODE: Size = { width: 100, height: 64 };
const MANY = 5;
/** Drawn in a column at most; the others are one. */
const MOST = 9;
const NARROW_MOST = 3;
const MIN_GAP = 78;
const STATE_WORD: Record<string, string> = { cause: "causes the jam", victim: "held up by it", down: "down", idle: "idle", ok: "" };
const LAYER_WORD = ["Network card", "Queue", "Device", "Demux", "Listener", "Connection", "Program"];
/** Listeners and connections are both what a demux ends in: they share a column. */
const COLUMN = [0, 1, 2, 3, 5, 5, 6];

export function Topology() {
    const { live, link } = useLive();
    const [direction, setDirection] = useState<"both" | "rx" | "tx">("both");
    if (!live) return <><PageHead title="Topology" /><Waiting error={link.state === "lost" ? link.error : null} what="the topology" /></>;
    const graph = live.topology;
    const jams = live.overview.lints.filter((lint) => lint.node);
    return (
        <>
            <PageHead title="Topology" lead="Packets move from the network card to the program and back. A warm line is a wait at its end; only the cause of a jam is filled.">
                <fieldset class="switch"><legend class="sr">Direction</legend>
                    {([["both", "Both ways"], ["rx", "Received"], ["tx", "Sent"]] as const).map(([value, text]) => (
                        <label key={value}><input type="radio" name="direction" checked={direction === value} onChange={() => setDirection(value)} /><span>{text}</span></label>
                    ))}
                </fieldset>
            </PageHead>
            {jams.length > 0 && <Lints lints={jams} />}
            <Card class="graph-card">
                <Drawing whole={graph} shown={direction} />
                <Key />
            </Card>
            <Waits graph={graph} />
        </>
    );
}

function nodeHref(node: TopologyNode): string {
    if (node.kind === "connection" && node.actor) return connectionHref(node.actor);
    if (node.kind === "connections") return href("connections");
    return node.actor ? actorHref(node.actor) : href("queues");
}

function edgeId(edge: TopologyEdge): string {
    return `${edge.direction}:${edge.from}>${edge.to}`;
}

function Drawing({ whole, shown }: { whole: Graph; shown: "both" | "rx" | "tx" }) {
    const narrow = useNarrow();
    const box = useRef<HTMLDivElement>(null);
    const [room, setRoom] = useState(0);
    useLayoutEffect(() => {
        const observer = new ResizeObserver(() => setRoom(box.current?.clientWidth ?? 0));
        observer.observe(box.current!);
        setRoom(box.current!.clientWidth);
        return () => observer.disconnect();
    }, []);
    const graph = gather(whole, narrow ? NARROW_MOST : MOST);
    const crowd = new Map<number, number>();
    for (const node of graph.nodes) crowd.set(column(node), (crowd.get(column(node)) ?? 0) + 1);
    const sizes = new Map(graph.nodes.map((node) => [node.id, narrow ? NARROW_NODE : crowd.get(column(node))! > MANY ? LOW_NODE : NODE]));
    const edges = graph.edges.filter((edge) => (shown === "both" || edge.direction === shown) && sizes.has(edge.from) && sizes.has(edge.to));
    // The drawing holds still while figures change: it is laid out anew only when nodes or edges come or go.
    const shape = JSON.stringify([graph.nodes.map((node) => [node.id, node.layer]), edges.map(edgeId), narrow, room]);
    const layout = useMemo<Layout>(() => {
        const free = crowd.size > 1 ? (room - 24 - crowd.size * NODE.width) / (crowd.size - 1) : 0;
        return layered(
            graph.nodes.map((node) => ({ id: node.id, layer: column(node), ...sizes.get(node.id)! })),
            edges.map((edge) => ({ id: edgeId(edge), from: edge.from, to: edge.to })),
            { layer: narrow ? 58 : Math.max(MIN_GAP, Math.min(150, Math.floor(free))), node: narrow ? 10 : 18, lane: narrow ? 8 : 28, margin: 12, vertical: narrow },
        );
    }, [shape]);
    const columns = [...crowd.keys()].sort((a, b) => a - b);
    const heads = narrow ? [] : columns.map((layer) => ({ layer, x: layout.nodes.get(graph.nodes.find((node) => column(node) === layer)!.id)?.x ?? 0 }));
    const top = narrow ? 0 : 26;
    // Where an end has several edges of a kind, their figures stand at the other end.
    const leaving = new Map<string, number>();
    for (const edge of edges) leaving.set(edge.direction + edge.from, (leaving.get(edge.direction + edge.from) ?? 0) + 1);
    const draws = edges.map((edge) => draw(edge, layout, sizes, narrow, leaving.get(edge.direction + edge.from)! > 1)).filter((one) => one !== null);
    return (
        <div class="graph-box" ref={box} tabIndex={0} role="group" aria-label="Graph of the packets' way">
            <svg class="graph" width={layout.width} height={layout.height + top} viewBox={`0 ${-top} ${layout.width} ${layout.height + top}`}>
                {heads.map(({ layer, x }) => <text key={layer} class="graph-head" x={x} y={-8} text-anchor="middle">{LAYER_WORD[layer] ?? ""}</text>)}
                <g>{[...draws].sort((a, b) => a.edge.heat - b.edge.heat).map((one) => <Edge key={edgeId(one.edge)} {...one} />)}</g>
                <g>{graph.nodes.map((node) => <Node key={node.id} node={node} at={layout.nodes.get(node.id)} size={sizes.get(node.id)!} />)}</g>
                <g aria-hidden="true">{draws.filter((one) => !narrow || one.edge.direction === "rx" || shown === "tx").map((one) => <EdgeText key={edgeId(one.edge)} {...one} />)}</g>
            </svg>
        </div>
    );
}

function column(node: TopologyNode): number {
    return COLUMN[node.layer] ?? node.layer;
}

/** Leaves out what has no part in the flow, and draws the least telling of a crowded column as one. */
function gather(graph: Graph, most: number): Graph {
    const linked = new Set(graph.edges.flatMap((edge) => [edge.from, edge.to]));
    // What has no mailbox of packets (a NIC, the program) passes what its edges carry.
    const passes = (id: string) => {
        const sum = (end: "from" | "to") => graph.edges.filter((edge) => edge.direction === "rx" && edge[end] === id).reduce((all, edge) => all + edge.items_per_s, 0);
        return Math.max(sum("from"), sum("to"));
    };
    const nodes = graph.nodes.filter((node) => linked.has(node.id) || node.state === "cause" || node.state === "down").map((node) => {
        const flow = node.items_per_s || passes(node.id);
        return { ...node, items_per_s: flow, state: node.state === "idle" && flow > 0 ? "ok" as const : node.state };
    });
    const rank: Record<string, number> = { cause: 0, down: 1, victim: 2, ok: 3, idle: 4 };
    const into = new Map<string, string>();
    const drawn: TopologyNode[] = [];
    for (const layer of new Set(nodes.map(column))) {
        const all = nodes.filter((node) => column(node) === layer);
        if (all.length <= most) {
            drawn.push(...all);
            continue;
        }
        const kept = new Set([...all].sort((a, b) => rank[a.state] - rank[b.state] || b.items_per_s - a.items_per_s).slice(0, most - 1));
        const rest = all.filter((node) => !kept.has(node));
        const sum = (of: (node: TopologyNode) => number) => rest.reduce((total, node) => total + of(node), 0);
        const total = sum((node) => node.count);
        const one: TopologyNode = {
            id: `rest:${layer}`, kind: rest.some((node) => node.kind.startsWith("connection")) ? "connections" : rest[0].kind,
            label: `${count(total)} more`, layer, actor: null, count: total, state: rest.some((node) => node.state === "ok") ? "ok" : rest[0].state,
            items_per_s: sum((node) => node.items_per_s), busy_share: Math.min(1, sum((node) => node.busy_share)),
            depth: sum((node) => node.depth), oldest_age_ns: Math.max(...rest.map((node) => node.oldest_age_ns)),
        };
        rest.forEach((node) => into.set(node.id, one.id));
        drawn.push(...all.filter((node) => kept.has(node)), one);
    }
    const edges = new Map<string, TopologyEdge>();
    for (const edge of graph.edges) {
        const moved = { ...edge, from: into.get(edge.from) ?? edge.from, to: into.get(edge.to) ?? edge.to };
        const same = edges.get(edgeId(moved));
        edges.set(edgeId(moved), same ? {
            ...moved, items_per_s: same.items_per_s + moved.items_per_s, wait_mean_ns: Math.max(same.wait_mean_ns, moved.wait_mean_ns),
            heat: Math.max(same.heat, moved.heat),
        } : moved);
    }
    return { nodes: drawn, edges: [...edges.values()] };
}

interface Draw { edge: TopologyEdge; path: string; text: Point; anchor: "start" | "middle" | "end" }

/** From port to port: received packets use one half of a node's side, sent ones the other. */
function draw(edge: TopologyEdge, layout: Layout, sizes: Map<string, Size>, vertical: boolean, textAtEnd: boolean): Draw | null {
    const [from, to, bends] = [layout.nodes.get(edge.from), layout.nodes.get(edge.to), layout.bends.get(edgeId(edge))];
    if (!from || !to || !bends) return null;
    const forth = Math.sign(vertical ? to.y - from.y : to.x - from.x);
    const end = (id: string, node: Point, side: number): Point => {
        const { width, height } = sizes.get(id)!;
        const port = edge.direction === "rx" ? -0.25 : 0.25;
        return vertical ? { x: node.x + port * width, y: node.y + (side * height) / 2 } : { x: node.x + (side * width) / 2, y: node.y + port * height };
    };
    const points = [end(edge.from, from, forth), ...bends, end(edge.to, to, -forth)];
    const near = textAtEnd ? points[points.length - 1] : points[0];
    const away = textAtEnd ? -forth : forth;
    const text = vertical ? { x: near.x, y: near.y + away * 14 + (away > 0 ? 4 : 0) } : { x: near.x + away * 8, y: near.y - 5 };
    return { edge, path: curve(points, vertical), text, anchor: vertical ? "middle" : away > 0 ? "start" : "end" };
}

function curve(points: Point[], vertical: boolean): string {
    let path = `M${points[0].x} ${points[0].y}`;
    for (let n = 1; n < points.length; n++) {
        const [a, b] = [points[n - 1], points[n]];
        const [mx, my] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
        path += vertical ? `C${a.x} ${my} ${b.x} ${my} ${b.x} ${b.y}` : `C${mx} ${a.y} ${mx} ${b.y} ${b.x} ${b.y}`;
    }
    return path;
}

function heatStep(heat: number): number {
    return Math.max(0, Math.min(4, Math.floor(heat * 5)));
}

function Edge({ edge, path }: Draw) {
    const flows = edge.items_per_s > 0;
    const width = flows ? 1 + Math.log10(1 + edge.items_per_s) * (edge.direction === "rx" ? 0.7 : 0.4) : 1.2;
    const pace = edge.items_per_s > 1e5 ? "fast" : edge.items_per_s > 1e3 ? "steady" : "slow";
    return (
        <g class={`edge ${edge.direction} heat-${heatStep(edge.heat)} ${flows ? "flows" : "still"}`} data-edge={edgeId(edge)} data-heat={edge.heat}>
            <path class="edge-line" d={path} style={{ strokeWidth: `${width}px` }}>
                <title>{`${edge.direction === "rx" ? "Received" : "Sent"}: ${perSecond(edge.items_per_s)}, waits ${duration(edge.wait_mean_ns)} on average`}</title>
            </path>
            {flows && <path class={`edge-flow ${pace}`} d={path} />}
        </g>
    );
}

function EdgeText({ edge, text, anchor }: Draw) {
    if (edge.items_per_s <= 0) return null;
    return (
        <text class={`edge-text heat-${heatStep(edge.heat)}`} x={text.x} y={text.y} text-anchor={anchor}>
            {brief(perSecond(edge.items_per_s))}{edge.wait_mean_ns > 0 && <tspan class="edge-wait" dx="4">{brief(duration(edge.wait_mean_ns))}</tspan>}
        </text>
    );
}

/** Two digits do beside a line. */
function brief(text: string): string {
    return text.replace(/\d+\.\d+/, (number) => Number(number).toFixed(Number(number) >= 10 ? 0 : 1));
}

function clip(text: string, most: number): string {
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function Node({ node, at, size }: { node: TopologyNode; at: Point | undefined; size: Size }) {
    if (!at) return null;
    const [x, y] = [at.x - size.width / 2, at.y - size.height / 2];
    const letters = Math.floor((size.width - 18) / 6.7);
    const low = size.height < 60;
    const kind = node.kind === "application" ? "your program" : words(node.kind);
    // "device eth0/0" under "device" says it twice.
    const own = node.label.startsWith(`${node.kind} `) ? node.label.slice(node.kind.length + 1) : node.label;
    const named = low && /^\d+$/.test(own) ? `${kind} ${own}` : node.id.startsWith("connections:") ? `${count(node.count)} others` : own;
    const state = STATE_WORD[node.state];
    const waits = node.depth > 0 ? `${count(node.depth)} wait, ${duration(node.oldest_age_ns)}` : "";
    const last = node.state === "cause" || node.state === "victim" ? state : waits;
    const share = node.busy_share > 0.0005 ? percent(node.busy_share) : "";
    const rate = node.state === "down" ? "down" : node.items_per_s > 0 ? perSecond(node.items_per_s) : "idle";
    const bottom = y + size.height;
    return (
        <a href={nodeHref(node)} class={`node ${node.state}`} data-node={node.id} data-state={node.state}
            aria-label={`${node.label}, ${kind}${state ? `, ${state}` : ""}: ${perSecond(node.items_per_s)}, busy ${percent(node.busy_share)}, ${count(node.depth)} messages wait`}>
            {node.kind === "connections" && <rect class="node-box behind" x={x + 4} y={y + 4} width={size.width} height={size.height} rx={10} />}
            <rect class="node-box" x={x} y={y} width={size.width} height={size.height} rx={10} />
            <rect class="node-busy-track" x={x + 10} y={bottom - 8} width={size.width - 20} height={3} rx={1.5} />
            <rect class="node-busy" x={x + 10} y={bottom - 8} width={Math.min(1, node.busy_share) * (size.width - 20)} height={3} rx={1.5} />
            {low ? <>
                <text class="node-label" x={x + 10} y={y + 18}>{clip(named, letters)}</text>
                <text class={last ? "node-state" : "node-rate"} x={x + 10} y={y + 34}>{last || rate}<tspan dx="6" class="node-share">{last ? "" : share}</tspan></text>
            </> : <>
                <text class="node-kind" x={x + 10} y={y + 17}>{capital(kind)}</text>
                <text class="node-label" x={x + 10} y={y + 32}>{clip(named, letters)}</text>
                {size.height > 70 && <text class="node-rate" x={x + 10} y={y + 47}>{rate}<tspan dx="6" class="node-share">{share}</tspan></text>}
                {size.height > 70 ? <text class="node-state" x={x + 10} y={y + 61}>{last}</text> : <text class={last ? "node-state" : "node-rate"} x={x + 10} y={y + 47}>{last || rate}</text>}
            </>}
            <title>{[node.label, state, waits].filter(Boolean).join(" · ")}</title>
        </a>
    );
}

function Key() {
    return (
        <div class="graph-key">
            <span><svg width="34" height="8" class="edge rx heat-0"><path class="edge-line" d="M0 4H34" /></svg>received</span>
            <span><svg width="34" height="8" class="edge tx heat-0"><path class="edge-line" d="M0 4H34" /></svg>sent</span>
            <span class="heat-key">wait {[0, 1, 2, 3, 4].map((step) => <i key={step} class={`heat-${step}`} />)} 1 µs to 100 ms</span>
            <span><i class="state-key cause" />causes a jam</span>
            <span><i class="state-key victim" />held up by the cause</span>
            <span><i class="state-key down" />down</span>
            <span>bar in a node: busy share of a core</span>
        </div>
    );
}

function Waits({ graph }: { graph: Graph }) {
    const name = new Map(graph.nodes.map((node) => [node.id, node]));
    const edges = graph.edges.filter((edge) => edge.items_per_s > 0 || edge.wait_mean_ns > 0).sort((a, b) => b.wait_mean_ns - a.wait_mean_ns).slice(0, 12);
    const label = (id: string) => {
        const node = name.get(id);
        return node ? <a href={nodeHref(node)}>{node.label}</a> : id;
    };
    return (
        <Card title="Longest waits" note="mean over the last second, at the receiving end">
            <div>
                <table class="table">
                    <thead><tr><th>From</th><th>To</th><th class="wide-only">Way</th><th class="num">Waits</th><th class="num">Flow</th></tr></thead>
                    <tbody>{edges.map((edge) => (
                        <tr key={edgeId(edge)}><td>{label(edge.from)}</td><td>{label(edge.to)}</td><td class="wide-only">{edge.direction === "rx" ? "received" : "sent"}</td>
                            <td class="num"><b>{duration(edge.wait_mean_ns)}</b></td><td class="num">{perSecond(edge.items_per_s)}</td></tr>
                    ))}</tbody>
                </table>
            </div>
            {!edges.length && <p class="muted pad">Nothing moves now.</p>}
        </Card>
    );
}
