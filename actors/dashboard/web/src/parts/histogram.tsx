// Durations on a logarithmic scale, as bars.
import type { Distribution } from "../api";
import { count, duration, tidy } from "../format";

const WIDTH = 480;
const HEIGHT = 120;

export function Histogram({ of, tone, name }: { of: Distribution; tone: "wait" | "run"; name: string }) {
    if (!of.count) return <p class="muted pad">Nothing counted yet.</p>;
    const low = Math.max(1, of.buckets.find(([, n]) => n > 0)?.[0] ?? 1) / 1.2;
    const high = Math.max(of.max_ns, low * 8);
    const x = (ns: number) => ((Math.log(Math.max(ns, low)) - Math.log(low)) / (Math.log(high) - Math.log(low))) * WIDTH;
    const most = Math.max(...of.buckets.map(([, n]) => n));
    // An eighth of a power of two to a bucket.
    const bars = of.buckets.map(([upper, n]) => ({ from: x(upper / 1.125), to: x(upper), n, upper }));
    const ticks: number[] = [];
    for (let tick = 1; tick <= high; tick *= 10) if (tick >= low) ticks.push(tick);
    const marks = ([["p50", of.p50_ns], ["p99", of.p99_ns]] as const).map(([label, ns]) => ({ label, ns, at: x(ns) }));
    return (
        <figure class="histogram">
            <svg viewBox={`0 0 ${WIDTH} ${HEIGHT + 20}`} role="img" aria-label={`${name}: median ${duration(of.p50_ns)}, 99th percentile ${duration(of.p99_ns)}, of ${count(of.count)}`}>
                {ticks.map((tick) => <g key={tick}><line class="grid" x1={x(tick)} x2={x(tick)} y1={0} y2={HEIGHT} /><text class="tick" x={x(tick)} y={HEIGHT + 14} text-anchor="middle">{tidy(duration(tick))}</text></g>)}
                {bars.map((bar) => {
                    // The square root keeps rare, long waits in sight.
                    const height = Math.sqrt(bar.n / most) * (HEIGHT - 14);
                    return <rect key={bar.upper} class={`fill-${tone}`} x={bar.from} width={Math.max(1.5, bar.to - bar.from - 0.8)} y={HEIGHT - height} height={height} rx={1}><title>{`up to ${duration(bar.upper)}: ${count(bar.n)}`}</title></rect>;
                })}
                <line class="axis" x1={0} x2={WIDTH} y1={HEIGHT} y2={HEIGHT} />
                {marks.map(({ label, at }) => <g key={label}><line class="mark" x1={at} x2={at} y1={10} y2={HEIGHT} /><text class="mark-text" x={at} y={8} text-anchor={at > WIDTH - 20 ? "end" : at < 20 ? "start" : "middle"}>{label}</text></g>)}
            </svg>
            <figcaption>
                <span><b>{duration(of.p50_ns)}</b> p50</span><span><b>{duration(of.p90_ns)}</b> p90</span>
                <span><b>{duration(of.p99_ns)}</b> p99</span><span><b>{duration(of.max_ns)}</b> most</span><span class="muted">{count(of.count)} counted · height is the square root</span>
            </figcaption>
        </figure>
    );
}
