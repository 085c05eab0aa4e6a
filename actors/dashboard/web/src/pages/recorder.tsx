// The flight recorder: record for a while, take the file along, or look at it here.
import { useState } from "preact/hooks";
import type { RecordingRow, Recordings } from "../api";
import { ApiError, download, post, upload, useApi, withQuery } from "../client";
import { ago, bytes, count, duration, plural } from "../format";
import { href } from "../route";
import { Badge, Bar, Card, Empty, PageHead, Stale, Waiting } from "../parts/basics";
import { Icon } from "../parts/icons";
import { FilterFields, describe, readFilter, useCauses } from "./packets";

const FORMAT: Record<string, [name: string, says: string]> = {
    trace: [".trace", "all figures and journeys, for this page"],
    pcapng: [".pcapng", "packets, for Wireshark"],
    qlog: [".sqlog", "how each connection fared, for qvis"],
};

export function Recorder() {
    const { data, error, t_ns, refresh } = useApi<Recordings>("recordings");
    const causes = useCauses();
    const [failed, setFailed] = useState<string | null>(null);
    const act = async (what: () => Promise<unknown>) => {
        try {
            await what();
            setFailed(null);
        } catch (failure) {
            setFailed(failure instanceof ApiError ? failure.message : String(failure));
        }
        refresh();
    };
    return (
        <>
            <PageHead title="Recorder" lead="Keeps what happens for a while, so that it can be looked at later in these same pages, or in Wireshark." />
            <Card title="Record">
                <form class="fields" onSubmit={(event) => {
                    event.preventDefault();
                    const form = new FormData(event.currentTarget);
                    act(() => post<RecordingRow>("recordings", { name: form.get("name")?.toString().trim() ?? "", filter: readFilter(form), seconds: Number(form.get("seconds")) || null }));
                }}>
                    <label>Name<input name="name" placeholder="what you look for" maxLength={80} autocomplete="off" /></label>
                    <label class="small">Seconds<input name="seconds" type="number" min={1} max={600} placeholder="10" /></label>
                    <FilterFields causes={causes} />
                    <button class="primary"><Icon name="recorder" /> Record</button>
                </form>
                <label class="file">Or open a recording's file<input type="file" accept=".trace,.json" onChange={(event) => {
                    const input = event.currentTarget;
                    const file = input.files?.[0];
                    if (file) act(async () => {
                        const { data: row } = await upload<RecordingRow>("recordings/open", file);
                        input.value = "";
                        location.hash = href("overview", { source: row.id, at: null });
                    });
                }} /></label>
                {failed && <p class="trouble" role="alert"><Icon name="critical" /> {failed}</p>}
                {data && <p class="foot">{data.payload_allowed ? "Packets' bytes are recorded too: the program allows it." : "Packets' bytes are not recorded: the program does not allow it."} {data.secrets_allowed ? "So are the secrets to decrypt them." : "Nor are keys."}</p>}
            </Card>
            <Stale error={data ? error : null} />
            {!data ? <Waiting error={error} what="the recordings" /> : (
                <Card title="Recordings" note={<span class="memory">{bytes(data.memory_bytes)} of {bytes(data.memory_limit_bytes)}<Bar share={data.memory_limit_bytes ? data.memory_bytes / data.memory_limit_bytes : 0} /></span>}>
                    {!data.rows.length && <Empty title="No recording yet">The oldest go when the memory is full.</Empty>}
                    <ul class="recordings">{data.rows.map((row) => <Row key={row.id} row={row} now={t_ns} act={act} />)}</ul>
                </Card>
            )}
        </>
    );
}

function Row({ row, now, act }: { row: RecordingRow; now: number; act: (what: () => Promise<unknown>) => void }) {
    const running = row.state === "recording";
    const name = row.name || `Recording ${row.id}`;
    return (
        <li data-recording={row.id} data-state={row.state}>
            <div class="recording-text">
                <strong>{name}</strong> {running ? <Badge tone="critical"><i class="pulse" /> recording</Badge> : <span class="muted">{ago(row.end_ns, now)}</span>}{row.has_secrets && <Badge tone="warning">has secrets</Badge>}
                <p class="muted">{duration(row.end_ns - row.begin_ns)} · {describe(row.filter)} · {plural(row.readings, "reading")} · {plural(row.journeys, "journey")} · {row.packets ? `${count(row.packets)} packets with bytes · ` : ""}{bytes(row.memory_bytes)}</p>
            </div>
            <div class="recording-tools">
                {running ? <button onClick={() => act(() => post(`recordings/${encodeURIComponent(row.id)}/stop`))}>Stop</button> : <>
                    <a class="button primary" href={href("overview", { source: row.id, at: null })}>Open</a>
                    {row.formats.map((format) => (
                        <button key={format} title={FORMAT[format]?.[1]} onClick={() => act(() => download(withQuery(`api/v1/recordings/${encodeURIComponent(row.id)}/download`, { format }), `${name}.${format === "qlog" ? "sqlog" : format}`))}>
                            <Icon name="download" size={14} /> {FORMAT[format]?.[0] ?? format}
                        </button>
                    ))}
                </>}
            </div>
        </li>
    );
}
