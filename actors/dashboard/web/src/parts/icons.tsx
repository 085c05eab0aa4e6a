// Line icons on a 16-pixel grid. They never stand alone for a meaning: words are beside them.
import type { ComponentChildren } from "preact";

const SHAPES: Record<string, ComponentChildren> = {
    overview: <path d="M2.5 9.5a5.5 5.5 0 0 1 11 0M8 9.5l2.6-3M2.5 12.5h11" />,
    topology: <><circle cx="3.5" cy="8" r="1.7" /><circle cx="12.5" cy="3.7" r="1.7" /><circle cx="12.5" cy="12.3" r="1.7" /><path d="M5.2 8c3 0 2.6-4.3 5.6-4.3M5.2 8c3 0 2.6 4.3 5.6 4.3" /></>,
    actors: <><rect x="2.2" y="2.2" width="4.6" height="4.6" rx="1.2" /><rect x="9.2" y="2.2" width="4.6" height="4.6" rx="1.2" /><rect x="2.2" y="9.2" width="4.6" height="4.6" rx="1.2" /><rect x="9.2" y="9.2" width="4.6" height="4.6" rx="1.2" /></>,
    tree: <path d="M3 2.5v9.3a1.2 1.2 0 0 0 1.2 1.2H7M3 6.5h4M9.5 6.5h4M9.5 13h4" />,
    queues: <path d="M2.5 4h11M2.5 8h7M2.5 12h9" />,
    frames: <path d="M2.5 2.5h11v11h-11zM2.5 6.2h11M2.5 9.8h11M6.2 2.5v11M9.8 2.5v11" />,
    packets: <path d="M2.5 4h4M5.5 8h5M9.5 12h4" />,
    connections: <path d="M10.5 2.8 13.2 5.5 10.5 8.2M13 5.5H4.5M5.5 7.8 2.8 10.5 5.5 13.2M3 10.5h8.5" />,
    drops: <path d="M8 2.2c2.6 3 4 4.9 4 6.9a4 4 0 0 1-8 0c0-2 1.4-3.9 4-6.9z" />,
    recorder: <><circle cx="8" cy="8" r="5.6" /><circle cx="8" cy="8" r="2.2" fill="currentColor" /></>,
    critical: <><path d="M8 1.9 14.6 13.6H1.4z" /><path d="M8 6.2v3.4M8 11.6v.2" /></>,
    warning: <><circle cx="8" cy="8" r="6" /><path d="M8 4.8v4M8 11v.2" /></>,
    info: <><circle cx="8" cy="8" r="6" /><path d="M8 7.4V11M8 5v.2" /></>,
    check: <path d="m3 8.5 3.3 3.3L13 4.6" />,
    cross: <path d="m3.5 3.5 9 9M12.5 3.5l-9 9" />,
    arrow: <path d="M3 8h10M9.2 4.2 13 8l-3.8 3.8" />,
    chevron: <path d="m6 3.5 4.5 4.5L6 12.5" />,
    sun: <><circle cx="8" cy="8" r="2.8" /><path d="M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1" /></>,
    moon: <path d="M13.2 9.6A5.6 5.6 0 1 1 6.4 2.8a4.6 4.6 0 0 0 6.8 6.8z" />,
    pause: <path d="M5.5 3v10M10.5 3v10" />,
    play: <path d="M4.5 2.8 13 8l-8.5 5.2z" />,
    download: <path d="M8 2.5v7.8M4.6 7 8 10.4 11.4 7M2.5 13.5h11" />,
    restart: <path d="M13 8a5 5 0 1 1-1.6-3.7M13.2 2v2.8h-2.8" />,
};

export function Icon({ name, size = 16 }: { name: string; size?: number }) {
    return (
        <svg class="icon" width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5"
            stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
            {SHAPES[name] ?? SHAPES.info}
        </svg>
    );
}
