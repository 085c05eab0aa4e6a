// A datagram's way, stage by stage: how long it waits and how long it is worked on.
import type { Direction, StageSummary } from "../api";
import { duration, words } from "../format";

/** What happens at a stage, for who sees it first. */
const STAGE: Record<Direction, Record<string, string>> = {
    rx: {
        device: "off the RX ring", demux: "finds its connection", listener: "no connection yet",
        connection: "waits its turn", quic: "decrypted and read", stream: "to the reader",
    },
    tx: {
        application: "written", connection: "packed and encrypted", device: "headers, onto the TX ring",
        ring: "in the TX ring", kernel: "on its way out",
    },
};

export function stageSays(direction: Direction, stage: string): string {
    return STAGE[direction][stage] ?? "";
}

export function stageWord(stage: string): string {
    return ({ quic: "QUIC", device: "device", stream: "stream" } as Record<string, string>)[stage] ?? words(stage);
}

/** Which stage waits longest at the 99th percentile. */
export function worstWait<T extends StageSummary>(stages: T[]): T | null {
    return stages.reduce<T | null>((worst, stage) => (!worst || stage.wait_p99_ns > worst.wait_p99_ns ? stage : worst), null);
}

export function Way({ stages, direction }: { stages: StageSummary[]; direction: Direction }) {
    const sum = stages.reduce((total, stage) => total + stage.wait_p50_ns + stage.run_p50_ns, 0) || 1;
    const most = Math.max(1, ...stages.map((stage) => Math.max(stage.wait_p99_ns, stage.run_p99_ns)));
    const worst = worstWait(stages);
    return (
        <div class="way">
            <div class="ribbon" role="img" aria-label={`Median time by stage: ${stages.map((s) => `${stageWord(s.stage)} waits ${duration(s.wait_p50_ns)}, runs ${duration(s.run_p50_ns)}`).join("; ")}`}>
                {stages.map((stage) => (
                    <span key={stage.stage} class="ribbon-stage" style={{ flexGrow: String(Math.max(0.012, (stage.wait_p50_ns + stage.run_p50_ns) / sum)) }}>
                        <span class="seg wait" style={{ flexGrow: String(stage.wait_p50_ns) }} />
                        <span class="seg run" style={{ flexGrow: String(Math.max(stage.run_p50_ns, 1)) }} />
                    </span>
                ))}
            </div>
            <table class="way-table">
                <thead><tr><th>Stage</th><th class="num">Waits <small>p50</small></th><th class="num"><small>p99</small></th><th class="num">Runs <small>p50</small></th><th class="num"><small>p99</small></th><th class="wide-only">p99, to scale</th></tr></thead>
                <tbody>
                    {stages.map((stage) => (
                        <tr key={stage.stage} class={stage === worst && stage.wait_p99_ns > 0 ? "worst" : ""}>
                            <th scope="row">{stageWord(stage.stage)}<small>{stageSays(direction, stage.stage)}</small></th>
                            <td class="num">{duration(stage.wait_p50_ns)}</td>
                            <td class="num strong-wait">{duration(stage.wait_p99_ns)}</td>
                            <td class="num">{duration(stage.run_p50_ns)}</td>
                            <td class="num">{duration(stage.run_p99_ns)}</td>
                            <td class="wide-only">
                                <span class="pair">
                                    <span class="seg wait" style={{ width: `${(stage.wait_p99_ns / most) * 100}%` }} />
                                    <span class="seg run" style={{ width: `${(stage.run_p99_ns / most) * 100}%` }} />
                                </span>
                            </td>
                        </tr>
                    ))}
                </tbody>
            </table>
        </div>
    );
}

export function WaitRunKey() {
    return <span class="key"><i class="seg wait" /> waiting <i class="seg run" /> being worked on</span>;
}
