// What the pages about people do. Nothing that comes from elsewhere is ever taken for HTML.

const page = document.body.dataset.page;
const find = (id) => document.getElementById(id);
const status = document.querySelector("[role=status]");

function say(text, tone) {
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
async function call(method, path, body) {
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

const told = (answer) => answer.body.detail ?? `that did not work (${answer.status})`;

// Where to go afterwards: a path of ours, never another site.
function next() {
    const wanted = new URLSearchParams(location.search).get("next") ?? "/";
    try {
        const url = new URL(wanted, location.origin);
        if (wanted.startsWith("/") && url.origin === location.origin) return url.pathname + url.search + url.hash;
    } catch { /* not an address */ }
    return "/";
}

// Runs a form's work once at a time, and points out what is wrong.
function form(id, work) {
    const element = find(id);
    element?.addEventListener("submit", async (event) => {
        event.preventDefault();
        const buttons = element.querySelectorAll("button");
        for (const input of element.querySelectorAll("input")) input.removeAttribute("aria-invalid");
        buttons.forEach((button) => { button.disabled = true; });
        say("One moment …");
        try {
            await work(element);
        } finally {
            buttons.forEach((button) => { button.disabled = false; });
        }
    });
}

function refuse(answer, input) {
    say(told(answer), "bad");
    input?.setAttribute("aria-invalid", "true");
    input?.focus();
}

async function signIn() {
    const ways = await call("GET", "/accounts/ways");
    if (ways.ok) {
        find("to-reset").hidden = !ways.body.mail;
        find("to-sign-up").hidden = ways.body.sign_up !== "open";
        for (const provider of ways.body.providers ?? []) {
            const link = document.createElement("a");
            link.className = "button";
            link.href = `${provider.path}?next=${encodeURIComponent(next())}`;
            link.textContent = `Sign in with ${provider.name}`;
            find("ways").append(link);
            find("ways").hidden = false;
        }
    }
    const why = new URLSearchParams(location.search).get("why");
    const reasons = {
        unlinked: "There is no account for that sign-in, or its address is not verified there.",
        refused: "That sign-in did not work; try again.",
        unavailable: "The other side does not answer now; try again.",
    };
    if (why in reasons) say(reasons[why], "bad");
    const pending = new URLSearchParams(location.hash.slice(1)).get("pending");
    if (pending) {
        history.replaceState(null, "", location.pathname + location.search);
        find("second").hidden = false;
        for (const id of ["email", "password"]) {
            find(id).required = false;
            find(id).parentElement.hidden = true;
        }
        find("code").focus();
        say("Your second factor is needed.");
    }
    form("sign-in", async () => {
        const code = find("code").value.trim() || undefined;
        const answer = pending
            ? await call("POST", "/sessions/second-factor", { token: pending, code: code ?? "" })
            : await call("POST", "/sessions", { email: find("email").value, password: find("password").value, code });
        if (answer.ok) {
            location.replace(next());
        } else if (answer.body.code === "second_factor_needed") {
            find("second").hidden = false;
            find("code").focus();
            say("Now the code of your app.");
        } else {
            refuse(answer, find("second").hidden ? find("password") : find("code"));
        }
    });
}

function setPassword() {
    // The secret stands behind the #, which no server sees; it leaves the address at once.
    const token = location.hash.slice(1);
    history.replaceState(null, "", location.pathname);
    if (!token) say("This link is not whole; open it as it came.", "bad");
    form("set-password", async () => {
        if (find("password").value !== find("again").value) {
            say("The two are not the same.", "bad");
            find("again").setAttribute("aria-invalid", "true");
            find("again").focus();
            return;
        }
        const answer = await call("POST", "/accounts/password", { token, password: find("password").value });
        if (!answer.ok) return refuse(answer, find("password"));
        // Signed in at once, unless a second factor is asked for.
        const signedIn = await call("POST", "/sessions", { email: answer.body.email, password: find("password").value });
        location.replace(signedIn.ok ? "/" : "/sign-in");
    });
}

function askForMail(id, path, read) {
    form(id, async (element) => {
        const answer = await call("POST", path, read());
        if (!answer.ok) return refuse(answer, find("email"));
        element.hidden = true;
        say("If that can be, a mail is on its way. Its link works once.", "good");
    });
}

const time = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

async function showSessions() {
    const answer = await call("GET", "/sessions");
    find("sessions").replaceChildren(...(answer.body.items ?? []).map((session) => {
        const row = document.createElement("li");
        const text = document.createElement("span");
        text.textContent = session.is_this ? "This browser" : session.user_agent || "A program";
        const small = document.createElement("small");
        small.textContent = `since ${time(session.created_at)}, last used ${time(session.seen_at)}`
            + (session.remote_address ? `, from ${session.remote_address}` : "");
        text.append(small);
        row.append(text);
        if (!session.is_this) {
            const end = document.createElement("button");
            end.type = "button";
            end.className = "plain";
            end.textContent = "End";
            end.setAttribute("aria-label", `End the session of ${text.firstChild.textContent}`);
            end.addEventListener("click", async () => {
                const ended = await call("DELETE", `/sessions/${session.session_id}`);
                say(ended.ok ? "The session has ended." : told(ended), ended.ok ? "good" : "bad");
                await showSessions();
            });
            row.append(end);
        }
        return row;
    }));
}

async function showFactor() {
    const answer = await call("GET", "/account/second-factor");
    if (!answer.ok) {
        find("factor").hidden = true;
        return;
    }
    const on = answer.body.is_on;
    find("factor-state").textContent = on
        ? `On. ${answer.body.recovery_codes} recovery codes are left.`
        : "Off: who knows your password is in.";
    find("factor-code-field").hidden = !on;
    find("factor-password-field").hidden = false;
    find("factor-new").hidden = true;
    find("factor-button").textContent = on ? "Switch it off" : "Set up";
    find("factor").dataset.step = on ? "off" : "begin";
}

function factor() {
    form("factor-form", async () => {
        const code = find("factor-code").value.trim();
        const password = find("factor-password").value;
        const step = find("factor").dataset.step;
        if (step === "begin") {
            const answer = await call("POST", "/account/second-factor", { password });
            if (!answer.ok) return refuse(answer, find("factor-password"));
            find("factor-secret").textContent = answer.body.secret;
            find("factor-link").href = answer.body.url;
            find("factor-new").hidden = false;
            find("factor-password-field").hidden = true;
            find("factor-code-field").hidden = false;
            find("factor-button").textContent = "Switch it on";
            find("factor").dataset.step = "confirm";
            find("factor-code").focus();
            return say("");
        }
        if (step === "confirm") {
            const answer = await call("POST", "/account/second-factor/confirm", { code });
            if (!answer.ok) return refuse(answer, find("factor-code"));
            find("recovery-codes").replaceChildren(...answer.body.recovery_codes.map((text) => {
                const row = document.createElement("li");
                row.textContent = text;
                return row;
            }));
            find("recovery").hidden = false;
            say("The second factor is on.", "good");
        } else {
            const answer = await call("POST", "/account/second-factor/off", { password, code });
            if (!answer.ok) return refuse(answer, find("factor-code"));
            find("recovery").hidden = true;
            say("The second factor is off.", "good");
        }
        find("factor-code").value = "";
        find("factor-password").value = "";
        await showFactor();
    });
}

async function account() {
    const answer = await call("GET", "/account");
    if (answer.status === 401) return location.replace(`/sign-in?next=${encodeURIComponent(location.pathname)}`);
    if (!answer.ok) return say(told(answer), "bad");
    find("who").textContent = answer.body.name || answer.body.email;
    find("what").textContent = answer.body.email + (answer.body.is_admin ? ", admin of this installation" : "");
    find("sign-out").addEventListener("click", async () => {
        await call("DELETE", "/sessions/current");
        location.replace("/sign-in");
    });
    form("change-password", async (element) => {
        const body = { current_password: find("current").value, password: find("password").value };
        const changed = await call("PUT", "/account/password", body);
        if (!changed.ok) return refuse(changed, find(changed.body.code === "wrong_password" ? "current" : "password"));
        element.reset();
        say("The password is changed; all other sessions have ended.", "good");
        await showSessions();
    });
    factor();
    await Promise.all([showSessions(), showFactor()]);
}

// The invitation stays out of every address that is sent: behind the #, and here while its person signs in.
async function join() {
    const kept = "pinacle_invitation";
    const brought = new URLSearchParams(location.hash.slice(1)).get("invitation");
    if (brought) sessionStorage.setItem(kept, brought);
    history.replaceState(null, "", location.pathname);
    const token = sessionStorage.getItem(kept);
    if (!token) return say("There is no invitation here: follow the link of the mail.", "bad");
    const who = await call("GET", "/account");
    if (who.status === 401) return location.replace("/sign-in?next=%2Fjoin");
    const answers = (id, path, done) => form(id, async () => {
        const answer = await call("POST", path, { token });
        if (!answer.ok) return refuse(answer);
        sessionStorage.removeItem(kept);
        say(done, "good");
    });
    answers("join", "/invitations/accept", "You are in the team.");
    answers("decline", "/invitations/decline", "The invitation is declined.");
}

const pages = {
    join,
    "sign-in": signIn,
    "set-password": setPassword,
    reset: () => askForMail("reset", "/accounts/reset", () => ({ email: find("email").value })),
    "sign-up": () => askForMail("sign-up", "/accounts", () => ({ email: find("email").value, name: find("name").value })),
    account,
};

await pages[page]?.();
