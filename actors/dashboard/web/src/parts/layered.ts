// Draws a graph in layers (after Sugiyama): the layers are given; edges over several of them get a way through each
// (dummy nodes), the order within a layer keeps crossings few, and places pull towards their neighbours.

export interface LayerNode { id: string; layer: number; width: number; height: number }
export interface LayerEdge { id: string; from: string; to: string }
export interface Point { x: number; y: number }
export interface Layout {
    /** Centres. */
    nodes: Map<string, Point>;
    /** Points an edge goes through, ends left out, in its own direction. */
    bends: Map<string, Point[]>;
    width: number;
    height: number;
}

export interface Spacing {
    /** Between layers, edge to edge. */
    layer: number;
    /** Between nodes of a layer. */
    node: number;
    /** Height an edge takes where it passes a layer. */
    lane: number;
    margin: number;
    /** Layers from top to bottom instead of left to right. */
    vertical: boolean;
}

interface Vertex { id: string; layer: number; size: number; at: number; real: boolean; near: Vertex[] }

const SWEEPS = 12;

export function layered(nodes: LayerNode[], edges: LayerEdge[], spacing: Spacing): Layout {
    const { vertical } = spacing;
    const across = (node: LayerNode) => (vertical ? node.width : node.height);
    const along = (node: LayerNode) => (vertical ? node.height : node.width);
    // Empty layers take no room.
    const used = [...new Set(nodes.map((node) => node.layer))].sort((a, b) => a - b);
    const layers: Vertex[][] = used.map(() => []);
    const vertices = new Map<string, Vertex>();
    for (const node of nodes) {
        const vertex = { id: node.id, layer: used.indexOf(node.layer), size: across(node), at: 0, real: true, near: [] };
        vertices.set(node.id, vertex);
        layers[vertex.layer].push(vertex);
    }
    const lanes = new Map<string, Vertex[]>();
    for (const edge of edges) {
        const [from, to] = [vertices.get(edge.from), vertices.get(edge.to)];
        if (!from || !to) continue;
        const step = Math.sign(to.layer - from.layer);
        const way: Vertex[] = [];
        for (let layer = from.layer + step; step !== 0 && layer !== to.layer; layer += step) {
            const lane = { id: `${edge.id}@${layer}`, layer, size: spacing.lane, at: 0, real: false, near: [] };
            layers[layer].push(lane);
            way.push(lane);
        }
        lanes.set(edge.id, way);
        [from, ...way, to].reduce((a, b) => {
            a.near.push(b);
            b.near.push(a);
            return b;
        });
    }

    // Order: by the mean place of the neighbours on one side, to and fro.
    layers.forEach((layer) => layer.forEach((vertex, n) => (vertex.at = n)));
    for (let sweep = 0; sweep < SWEEPS; sweep++) {
        const forth = sweep % 2 === 0;
        const order = forth ? layers.slice(1) : layers.slice(0, -1).reverse();
        for (const layer of order) {
            const side = layer[0]?.layer + (forth ? -1 : 1);
            const wish = new Map(layer.map((vertex) => [vertex, mean(vertex.near.filter((near) => near.layer === side).map((near) => near.at), vertex.at)]));
            layer.sort((a, b) => wish.get(a)! - wish.get(b)! || a.at - b.at);
            layer.forEach((vertex, n) => (vertex.at = n));
        }
    }

    // Places: packed at first, then each towards the middle of its neighbours as far as the others let it.
    const gap = (a: Vertex, b: Vertex) => (a.size + b.size) / 2 + (a.real && b.real ? spacing.node : spacing.node / 2);
    // Who has no neighbours stands last.
    for (const layer of layers) layer.sort((a, b) => Number(!a.near.length) - Number(!b.near.length) || a.at - b.at);
    for (const layer of layers) {
        let at = 0;
        layer.forEach((vertex, n) => (vertex.at = at = n ? at + gap(layer[n - 1], vertex) : 0));
        layer.forEach((vertex) => (vertex.at -= at / 2));
    }
    for (let sweep = 0; sweep < SWEEPS * 2; sweep++) {
        for (const layer of sweep % 2 ? layers : [...layers].reverse()) {
            const linked = layer.filter((vertex) => vertex.near.length);
            settle(linked, linked.map((vertex) => mean(vertex.near.map((near) => near.at), vertex.at)), gap);
            layer.slice(linked.length).forEach((vertex, n) => {
                const before = layer[linked.length + n - 1];
                vertex.at = before ? before.at + gap(before, vertex) : 0;
            });
        }
    }

    const reach = layers.flat().map((vertex) => [vertex.at - vertex.size / 2, vertex.at + vertex.size / 2]);
    const low = Math.min(...reach.map(([from]) => from));
    const breadth = reach.length ? Math.max(...reach.map(([, to]) => to)) - low : 0;
    const depth = used.map((layer) => Math.max(...nodes.filter((node) => node.layer === layer).map(along)));
    const starts = depth.map((_, n) => spacing.margin + depth.slice(0, n).reduce((sum, one) => sum + one + spacing.layer, 0));
    const length = spacing.margin * 2 + depth.reduce((sum, one) => sum + one, 0) + spacing.layer * Math.max(0, depth.length - 1);
    const point = (vertex: Vertex): Point => {
        const main = starts[vertex.layer] + depth[vertex.layer] / 2;
        const cross = vertex.at - low + spacing.margin;
        return vertical ? { x: cross, y: main } : { x: main, y: cross };
    };
    const size = breadth + spacing.margin * 2;
    return {
        nodes: new Map([...vertices].map(([id, vertex]) => [id, point(vertex)])),
        bends: new Map([...lanes].map(([id, way]) => [id, way.map(point)])),
        width: vertical ? size : length,
        height: vertical ? length : size,
    };
}

/** Least squares under the gaps: neighbours that would overlap move as a block to their common mean. */
function settle(layer: Vertex[], wish: number[], gap: (a: Vertex, b: Vertex) => number): void {
    interface Block { from: number; sum: number; count: number }
    const offsets = [0];
    for (let n = 1; n < layer.length; n++) offsets.push(offsets[n - 1] + gap(layer[n - 1], layer[n]));
    const blocks: Block[] = [];
    layer.forEach((_, n) => {
        let block = { from: n, sum: wish[n] - offsets[n], count: 1 };
        while (blocks.length && blocks[blocks.length - 1].sum / blocks[blocks.length - 1].count > block.sum / block.count) {
            const before = blocks.pop()!;
            block = { from: before.from, sum: before.sum + block.sum, count: before.count + block.count };
        }
        blocks.push(block);
    });
    blocks.forEach((block) => {
        for (let n = block.from; n < block.from + block.count; n++) layer[n].at = block.sum / block.count + offsets[n];
    });
}

function mean(values: number[], otherwise: number): number {
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : otherwise;
}
