// A fake of GitHub, with its real paths: node github.mjs PORT REDIRECT_URI. It is no GitHub: it holds what comes in against
// what GitHub's documentation says, and answers in its shapes. ?as=NAME at the first address says who is there; the
// address of unproven-NAME is not verified.
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";

const [port, redirect] = process.argv.slice(2);
const codes = new Map();
const tokens = new Map();

const json = (response, status, value) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
};

createServer(async (request, response) => {
    const url = new URL(request.url, `http://127.0.0.1:${port}`);
    let body = "";
    for await (const part of request) body += part;
    const query = url.searchParams;
    if (request.method === "GET" && url.pathname === "/login/oauth/authorize") {
        const fits = query.get("client_id") === "github-client" && query.get("redirect_uri") === redirect
            && query.get("scope").split(" ").includes("user:email") && query.get("code_challenge_method") === "S256";
        if (!fits) return json(response, 400, {});
        const code = randomBytes(10).toString("hex");
        codes.set(code, { name: query.get("as"), challenge: query.get("code_challenge") });
        const back = new URL(redirect);
        back.searchParams.set("code", code);
        back.searchParams.set("state", query.get("state"));
        response.writeHead(302, { location: back.href });
        return response.end();
    }
    if (request.method === "POST" && url.pathname === "/login/oauth/access_token") {
        const form = new URLSearchParams(body);
        const code = codes.get(form.get("code"));
        codes.delete(form.get("code"));
        const challenge = createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
        const fits = code && code.challenge === challenge && form.get("client_id") === "github-client"
            && form.get("client_secret") === "github-client-secret-for-tests" && form.get("redirect_uri") === redirect
            && request.headers.accept === "application/json";
        if (!fits) return json(response, 200, { error: "bad_verification_code" });
        const token = `gho_${randomBytes(18).toString("hex")}`;
        tokens.set(token, code.name);
        return json(response, 200, { access_token: token, token_type: "bearer", scope: "read:user,user:email" });
    }
    const name = tokens.get((request.headers.authorization ?? "").replace("Bearer ", ""));
    if (!name || !request.headers["user-agent"]) return json(response, 401, { message: "Bad credentials" });
    if (url.pathname === "/user") return json(response, 200, { id: name.length * 1000 + name.charCodeAt(0), login: name, name: null });
    if (url.pathname === "/user/emails") {
        const verified = !name.startsWith("unproven-");
        return json(response, 200, [
            { email: "other@example.org", primary: false, verified: true, visibility: null },
            { email: `${name.replace("unproven-", "")}@example.org`, primary: true, verified, visibility: "private" },
        ]);
    }
    return json(response, 404, { message: "Not Found" });
}).listen(Number(port), "127.0.0.1", () => console.log("listening"));
