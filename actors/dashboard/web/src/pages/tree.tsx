// Who supervises whom, and who ended how.
import { useState } from "preact/hooks";
import type { Tree as Data, TreeNode } from "../api";
import { useApi } from "../client";
import { capital, count, percent, plural } from "../format";
import { actorHref, go, href } from "../route";
import { Badge, Bar, Card, PageHead, Stale, Waiting, actorName } from "../parts/basics";
import { Icon } from "../parts/icons";
import { History } from "./actor";

/** More connections than these are folded into one line: a thousand alike hide the others. */
const MANY = 12;

interface Line { node: TreeNode; depth: number; children: TreeNode[]; open: boolean; more: number; group: boolean }

export function Tree() {
    const { data, error, t_ns } = useApi<Data>("tree");
    const [closed, setClosed] = useState<Record<string, boolean>>({});
    const [active, setActive] = useState<string | null>(null);
    if (!data) return <><PageHead title="Tree" /><Waiting error={error} what="the tree" /></>;

    const children = new Map<string, TreeNode[]>();
    const known = new Set(data.nodes.map((node) => node.id));
    const roots: TreeNode[] = [];
    for (const node of data.nodes) {
        if (node.parent == null || !known.has(node.parent)) roots.push(node);
        else children.set(node.parent, [...(children.get(node.parent) ?? []), node]);
    }
    const lines: Line[] = [];
    const walk = (node: TreeNode, depth: number) => {
        const below = children.get(node.id) ?? [];
        const open = !closed[node.id];
        const crowd = below.filter((child) => child.kind === "connection");
        const fold = crowd.length > MANY;
        lines.push({ node, depth, children: below, open, more: fold ? 0 : node.children_total - below.length, group: false });
        if (!open) return;
        below.filter((child) => !fold || child.kind !== "connection").forEach((child) => walk(child, depth + 1));
        if (!fold) return;
        const id = `${node.id}:connections`;
        const total = node.children_total - below.length + crowd.length;
        const group = { ...crowd[0], id, parent: node.id, name: "", children_total: total, restarts: 0 };
        const shown = !(closed[id] ?? true);
        lines.push({ node: group, depth: depth + 1, children: crowd, open: shown, more: total - crowd.length, group: true });
        if (shown) crowd.forEach((child) => walk(child, depth + 2));
    };
    roots.forEach((root) => walk(root, 0));

    const focus = (id: string) => {
        setActive(id);
        requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-tree="${CSS.escape(id)}"]`)?.focus());
    };
    const current = active !== null && lines.some((line) => line.node.id === active) ? active : lines[0]?.node.id;
    const onKey = (event: KeyboardEvent) => {
        const at = lines.findIndex((line) => line.node.id === current);
        const line = lines[at];
        if (!line) return;
        if (event.key === "ArrowDown" && lines[at + 1]) focus(lines[at + 1].node.id);
        else if (event.key === "ArrowUp" && lines[at - 1]) focus(lines[at - 1].node.id);
        else if (event.key === "Home") focus(lines[0].node.id);
        else if (event.key === "End") focus(lines[lines.length - 1].node.id);
        else if (event.key === "ArrowRight" && line.children.length) line.open ? focus(line.children[0].id) : setClosed({ ...closed, [line.node.id]: false });
        else if (event.key === "ArrowLeft") line.open && line.children.length ? setClosed({ ...closed, [line.node.id]: true }) : line.node.parent && known.has(line.node.parent) && focus(line.node.parent);
        else if (event.key === "Enter") go(line.group ? href("actors", { kind: "connection" }) : actorHref(line.node.id));
        else return;
        event.preventDefault();
    };
    const failures = data.history.filter((row) => row.failed).length;
    return (
        <>
            <PageHead title="Tree" lead="Who supervises whom. A supervisor outlives its children and starts them anew; a connection is never restarted." />
            <Stale error={error} />
            <div class="columns tree-columns">
                <Card title="Live actors" note={count(data.nodes.reduce((sum, node) => sum + (node.parent == null || !known.has(node.parent) ? 1 : 0) + node.children_total, 0))}>
                    <ul class="tree" role="tree" aria-label="Supervision tree" onKeyDown={onKey}>
                        {lines.map(({ node, depth, children: below, open, more, group }) => (
                            <li key={node.id} role="treeitem" data-tree={node.id} tabIndex={node.id === current ? 0 : -1} aria-level={depth + 1} aria-expanded={below.length ? open : undefined}
                                onFocus={(event) => event.target === event.currentTarget && setActive(node.id)} style={{ paddingLeft: `${8 + depth * 22}px` }}>
                                {Array.from({ length: depth }, (_, n) => <i key={n} class="tree-rail" style={{ left: `${17 + n * 22}px` }} />)}
                                <button class={`fold ${open ? "open" : ""}`} tabIndex={-1} disabled={!below.length} aria-label={open ? "Fold" : "Unfold"} onClick={() => setClosed({ ...closed, [node.id]: open })}>{below.length > 0 ? <Icon name="chevron" size={12} /> : <i class="leaf" />}</button>
                                {group ? <a href={href("actors", { kind: "connection" })} tabIndex={-1}>{count(node.children_total)} connections</a>
                                    : <a href={actorHref(node.id)} tabIndex={-1}>{capital(actorName(node.kind, node.name, node.id))}</a>}
                                {node.restarts > 0 && <Badge tone="warning">{plural(node.restarts, "restart")}</Badge>}
                                {below.length > 0 && !open && !group && <span class="muted">{count(node.children_total)} below</span>}
                                {open && more > 0 && <a class="muted" href={href("actors", { kind: "connection" })} tabIndex={-1}>and {count(more)} more</a>}
                                {!group && <span class="tree-busy"><Bar share={node.busy_share} />{percent(node.busy_share)}</span>}
                            </li>
                        ))}
                    </ul>
                </Card>
                <Card title="Ends and restarts" note={failures ? plural(failures, "failure") : "no failures"}><History rows={data.history} now={t_ns} empty="Nothing has ended but connections that were done." /></Card>
            </div>
        </>
    );
}
