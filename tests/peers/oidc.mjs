// A provider of OpenID Connect, the real oidc-provider: node oidc.mjs PORT REDIRECT_URI.
// Whoever signs in as NAME is NAME@example.org, proven; as unproven-NAME it is not.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [port, redirect] = process.argv.slice(2);
const found = createRequire(`${process.env.PEERS}/`).resolve("oidc-provider");
const { default: Provider } = await import(pathToFileURL(found));

const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [{ client_id: "pinacle", client_secret: "oidc-client-secret-for-tests", redirect_uris: [redirect] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
    pkce: { required: () => true },
    cookies: { keys: ["for tests only"] },
    findAccount: (_context, id) => ({
        accountId: id,
        claims: () => ({
            sub: id,
            email: `${id.replace("unproven-", "")}@example.org`,
            email_verified: !id.startsWith("unproven-"),
            name: "Somebody There",
        }),
    }),
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
