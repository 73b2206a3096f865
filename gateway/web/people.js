// What the pages do by which people come in.

import { call, find, form, refuse, say } from "./call.js";

const page = document.body.dataset.page;

// Where to go afterwards: a path of ours, never another site.
function next() {
    const wanted = new URLSearchParams(location.search).get("next") ?? "/";
    try {
        const url = new URL(wanted, location.origin);
        if (wanted.startsWith("/") && url.origin === location.origin) return url.pathname + url.search + url.hash;
    } catch { /* not an address */ }
    return "/";
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
        unavailable: "Where you wanted to sign in does not answer now; try again later.",
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

function confirmEmail() {
    const token = location.hash.slice(1);
    history.replaceState(null, "", location.pathname);
    if (!token) say("This link is not whole; open it as it came.", "bad");
    form("confirm-email", async (element) => {
        const answer = await call("POST", "/accounts/email", { token });
        if (!answer.ok) return refuse(answer);
        element.hidden = true;
        say(`${answer.body.email} is your address now.`, "good");
    });
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
    "confirm-email": confirmEmail,
    account: async () => (await import("./account.js")).account(),
};

await pages[page]?.();
