// The account's page.

import { call, find, form, refuse, say, time, told } from "./call.js";

// A thing in a list, with a button that ends it unless there is nothing to call it by.
function row(title, detail, end) {
    const item = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = title;
    const small = document.createElement("small");
    small.textContent = detail;
    text.append(small);
    item.append(text);
    if (end) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "plain";
        button.textContent = "End";
        button.setAttribute("aria-label", `End ${title}`);
        button.addEventListener("click", async () => {
            const ended = await call("DELETE", end.path);
            say(ended.ok ? "It has ended." : told(ended), ended.ok ? "good" : "bad");
            await end.then();
        });
        item.append(button);
    }
    return item;
}

async function showSessions() {
    const answer = await call("GET", "/sessions");
    find("sessions").replaceChildren(...(answer.body.items ?? []).map((session) => {
        const title = session.is_this ? "This browser" : session.user_agent || "A program";
        const detail = `since ${time(session.created_at)}, last used ${time(session.seen_at)}`
            + (session.remote_address ? `, from ${session.remote_address}` : "");
        return row(title, detail, session.is_this ? undefined : { path: `/sessions/${session.session_id}`, then: showSessions });
    }));
}

async function showTokens() {
    const answer = await call("GET", "/tokens");
    find("tokens").replaceChildren(...(answer.body.items ?? []).map((token) => {
        const detail = `${token.grants.join(", ")}; `
            + (token.expires_at ? `until ${time(token.expires_at)}, ` : "")
            + (token.used_at ? `last used ${time(token.used_at)}` : "never used");
        return row(token.name, detail, { path: `/tokens/${token.token_id}`, then: showTokens });
    }));
}

function tokens() {
    form("make-token", async (element) => {
        const body = {
            name: find("token-name").value.trim(),
            grants: find("token-grants").value.split(" "),
            days: find("token-days").valueAsNumber,
        };
        const answer = await call("POST", "/tokens", body);
        if (!answer.ok) return refuse(answer, find("token-name"));
        element.reset();
        find("token-text").textContent = answer.body.token;
        find("token-made").hidden = false;
        say("The token is made.", "good");
        await showTokens();
    });
}

async function email() {
    const ways = await call("GET", "/accounts/ways");
    if (ways.ok && !ways.body.mail) {
        find("change-email").hidden = true;
        find("email-state").textContent = "No mail goes out from here, so that no other address can be proven to be yours.";
    }
    form("change-email", async (element) => {
        const body = { email: find("email").value, password: find("email-password").value };
        const answer = await call("POST", "/account/email", body);
        if (!answer.ok) return refuse(answer, find(answer.body.code === "wrong_password" ? "email-password" : "email"));
        element.reset();
        say("If that can be, a mail is on its way to the new address. Its link works once.", "good");
    });
}

function end() {
    form("delete", async () => {
        const answer = await call("POST", "/account/delete", { password: find("delete-password").value });
        if (!answer.ok) return refuse(answer, find("delete-password"));
        location.replace("/sign-in");
    });
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
    find("factor-codes").hidden = !on;
    find("factor-password-field").hidden = false;
    find("factor-new").hidden = true;
    find("factor-button").textContent = on ? "Switch it off" : "Set up";
    find("factor").dataset.step = on ? "off" : "begin";
}

function showCodes(codes) {
    find("recovery-codes").replaceChildren(...codes.map((text) => {
        const row = document.createElement("li");
        row.textContent = text;
        return row;
    }));
    find("recovery").hidden = false;
}

function factor() {
    form("factor-form", async (_, button) => {
        const code = find("factor-code").value.trim();
        const password = find("factor-password").value;
        const step = button === find("factor-codes") ? "codes" : find("factor").dataset.step;
        if (step === "begin") {
            const answer = await call("POST", "/account/second-factor", { password });
            if (!answer.ok) return refuse(answer, find("factor-password"));
            find("factor-secret").textContent = answer.body.secret;
            find("factor-link").href = answer.body.url;
            find("factor-qr").src = `data:image/svg+xml,${encodeURIComponent(answer.body.qr_svg)}`;
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
            showCodes(answer.body.recovery_codes);
            say("The second factor is on.", "good");
        } else if (step === "codes") {
            const answer = await call("POST", "/account/second-factor/recovery-codes", { password });
            if (!answer.ok) return refuse(answer, find("factor-password"));
            showCodes(answer.body.recovery_codes);
            say("These are your recovery codes now; those before are good no more.", "good");
        } else {
            const answer = await call("POST", "/account/second-factor/off", { password, code });
            const wrong = answer.body.code === "wrong_password" ? "factor-password" : "factor-code";
            if (!answer.ok) return refuse(answer, find(wrong));
            find("recovery").hidden = true;
            say("The second factor is off.", "good");
        }
        find("factor-code").value = "";
        find("factor-password").value = "";
        await showFactor();
    });
}

export async function account() {
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
    tokens();
    end();
    await Promise.all([showSessions(), showFactor(), showTokens(), email()]);
}
