// Light or dark: as the system has it, or as was chosen here.

export type Theme = "system" | "light" | "dark";
const KEY = "wirepath-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

export function theme(): Theme {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
}

export function isDark(): boolean {
    return theme() === "system" ? dark.matches : theme() === "dark";
}

export function toggleTheme(): void {
    const next: Theme = isDark() ? "light" : "dark";
    // Back to the system's wish, when that is what it wishes.
    if ((next === "dark") === dark.matches) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
    applyTheme();
}

export function applyTheme(): void {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    listeners.forEach((listener) => listener());
}

export function onTheme(listener: () => void): () => void {
    listeners.add(listener);
    return () => void listeners.delete(listener);
}

dark.addEventListener("change", applyTheme);
