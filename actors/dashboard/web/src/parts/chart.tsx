// Figures over time, drawn by uPlot in the page's colours.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { bytes, tidy } from "../format";
import { onTheme } from "../theme";

export interface Series { name: string; color: string; dash?: number[]; fill?: boolean }

const HEIGHT = 168;
/** A chart shows at least so many seconds. */
const LEAST_S = 30;

function css(name: string): string {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** `times` are seconds before now, negative. `color` names a custom property. Charts of one `group` share the cursor. */
export function Chart({ title, times, columns, series, format, group }: {
    title: string; times: number[]; columns: number[][]; series: Series[]; format: (value: number) => string; group?: string;
}) {
    const host = useRef<HTMLDivElement>(null);
    const plot = useRef<uPlot | null>(null);
    const data = [times, ...columns] as uPlot.AlignedData;
    const latest = useRef(data);
    latest.current = data;

    useEffect(() => {
        const element = host.current!;
        const make = () => {
            plot.current?.destroy();
            plot.current = new uPlot(options(element.clientWidth, series, format, group), latest.current, element);
        };
        make();
        const resize = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
        resize.observe(element);
        const off = onTheme(make);
        return () => {
            off();
            resize.disconnect();
            plot.current?.destroy();
            plot.current = null;
        };
    }, [series.map((one) => one.name).join(), group]);
    useEffect(() => plot.current?.setData(data), [times, columns]);

    const last = columns.map((column) => column[column.length - 1] ?? 0);
    return (
        <figure class="chart">
            <figcaption>
                <h3>{title}</h3>
                <span class="chart-key">{series.map((one, n) => (
                    <span key={one.name} class={`key-${one.color.slice(2)}${one.dash ? " dashed" : ""}`}><i />{one.name} <b>{format(last[n])}</b></span>
                ))}</span>
            </figcaption>
            <div class="chart-host" ref={host} role="img" aria-label={`${title} over time. Now: ${series.map((one, n) => `${one.name} ${format(last[n])}`).join(", ")}`} />
        </figure>
    );
}

/** Marks of bytes are where KiB and MiB are round. */
const POWERS = Array.from({ length: 41 }, (_, n) => 2 ** n);

function options(width: number, series: Series[], format: (value: number) => string, group?: string): uPlot.Options {
    const line = css("--line");
    const text = css("--muted");
    const font = `11px ${css("--font")}`;
    const axis = { stroke: text, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const time = (seconds: number) => (seconds === 0 ? "now" : Math.abs(seconds) < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);
    return {
        width, height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, ...(group ? { sync: { key: group } } : {}) },
        scales: { x: { time: false, range: (_plot, low) => [Math.min(low ?? 0, -LEAST_S), 0] }, y: { range: (_plot, _low, high) => [0, (high || 1) * 1.12] } },
        axes: [
            { ...axis, size: 26, values: (_plot, splits) => splits.map(time), space: 70, incrs: [1, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600] },
            { ...axis, size: 74, ...(format === bytes ? { incrs: POWERS } : {}), values: (_plot, splits) => splits.map((value) => (value === 0 ? "0" : tidy(format(value)))), space: 36 },
        ],
        series: [
            {},
            ...series.map((one) => ({
                label: one.name, stroke: css(one.color), width: 1.6, dash: one.dash, points: { show: false },
                fill: one.fill ? `${css(one.color)}1f` : undefined,
            })),
        ],
        hooks: { setCursor: [tooltip(series, format)] },
    };
}

/** Reads the figures under the cursor out. */
function tooltip(series: Series[], format: (value: number) => string) {
    let box: HTMLElement | null = null;
    return (plot: uPlot) => {
        if (!box) {
            box = document.createElement("div");
            box.className = "chart-tip";
            plot.over.append(box);
        }
        const { idx, left } = plot.cursor;
        box.hidden = idx == null || left == null || left < 0;
        if (box.hidden || idx == null || left == null) return;
        const seconds = plot.data[0][idx];
        box.textContent = [`${Math.abs(seconds).toFixed(1)} s ago`, ...series.map((one, n) => `${one.name} ${format(plot.data[n + 1][idx] ?? 0)}`)].join("\n");
        const flip = left > plot.over.clientWidth / 2;
        box.style.left = flip ? "" : `${left + 10}px`;
        box.style.right = flip ? `${plot.over.clientWidth - left + 10}px` : "";
    };
}

/** A line as high as a word. */
export function Spark({ values, tone = "run" }: { values: number[]; tone?: string }) {
    const most = Math.max(1e-9, ...values);
    const step = 100 / Math.max(1, values.length - 1);
    const points = values.map((value, n) => `${(n * step).toFixed(2)},${(27 - (value / most) * 25).toFixed(2)}`);
    return (
        <svg class={`spark stroke-${tone}`} viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true">
            {values.length > 1 && <><polygon points={`0,28 ${points.join(" ")} 100,28`} /><polyline points={points.join(" ")} /></>}
        </svg>
    );
}
