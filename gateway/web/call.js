// What all pages have: asking the API, forms, and saying how it went. Nothing that comes from elsewhere is ever taken
// for HTML.

export const find = (id) => document.getElementById(id);
const status = document.querySelector("[role=status]");

export function say(text, tone) {
    status.textContent = text;
    status.className = tone ?? "";
}

function cookie(name) {
    for (const part of document.cookie.split("; ")) {
        const at = part.indexOf("=");
        if (part.slice(0, at) === name) return part.slice(at + 1);
    }
    return undefined;
}

// The answer's status and body; a lost connection counts as one.
export async function call(method, path, body) {
    const headers = {};
    if (body !== undefined) headers["content-type"] = "application/json";
    const csrf = cookie("__Host-pinacle_csrf") ?? cookie("pinacle_csrf");
    if (method !== "GET" && csrf) headers["x-csrf-token"] = csrf;
    try {
        const answer = await fetch(`/api/v1${path}`, {
            method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin",
        });
        const text = await answer.text();
        let read = {};
        try { read = text ? JSON.parse(text) : {}; } catch { read = {}; }
        return { ok: answer.ok, status: answer.status, body: read };
    } catch {
        return { ok: false, status: 0, body: { detail: "the gateway cannot be reached; try again" } };
    }
}

export const told = (answer) => answer.body.detail ?? `that did not work (${answer.status})`;

// Runs a form's work once at a time, and points out what is wrong.
export function form(id, work) {
    const element = find(id);
    element?.addEventListener("submit", async (event) => {
        event.preventDefault();
        const buttons = element.querySelectorAll("button");
        for (const input of element.querySelectorAll("input")) input.removeAttribute("aria-invalid");
        buttons.forEach((button) => { button.disabled = true; });
        say("One moment …");
        try {
            await work(element, event.submitter);
        } finally {
            buttons.forEach((button) => { button.disabled = false; });
        }
    });
}

export function refuse(answer, input) {
    say(told(answer), "bad");
    input?.setAttribute("aria-invalid", "true");
    input?.focus();
}

export const time = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
