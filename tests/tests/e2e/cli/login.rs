//! People at the command line: logging in, being known from then on, and out again.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use pinacle_tests::{Sandbox, machine};
use reqwest::Method;
use serde_json::{Value, json};

use super::fixture::{Outcome, fed};
use crate::gateway::{
    browser::{Browser, PASSWORD, first_admin, person},
    factor,
    stage::{Stage, TOKEN, answer},
};

/// Somebody's machine: where its logins lie.
struct Desk {
    gateway: String,
    sandbox: Sandbox,
}

impl Desk {
    fn new(stage: &Stage) -> Self {
        Self { gateway: format!("http://{}", stage.address), sandbox: Sandbox::new() }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Outcome {
        self.run_with(arguments, &[], input)
    }

    fn run_with(&self, arguments: &[&str], more: &[(&str, &str)], input: &str) -> Outcome {
        let config = self.sandbox.path().display().to_string();
        fed(arguments, &[&[("XDG_CONFIG_HOME", config.as_str())], more].concat(), input)
    }

    /// Logs in with a password.
    fn login(&self, email: &str, input: &str) -> Outcome {
        self.run(&["login", "--gateway", &self.gateway, "--email", email, "--password-stdin"], input)
    }

    fn whoami(&self, more: &[(&str, &str)]) -> Value {
        self.run_with(&["whoami", "--json"], more, "").json()
    }

    /// The files of logins.
    fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.sandbox.path().join("pinacle/logins"));
        files.map(|files| files.map(|file| file.unwrap().path()).collect()).unwrap_or_default()
    }

    fn stored(&self) -> Value {
        serde_json::from_slice(&fs::read(&self.files()[0]).unwrap()).unwrap()
    }
}

async fn is_good(stage: &Stage, token: &Value) -> bool {
    let token = token.as_str().unwrap();
    answer(stage.request(Method::GET, "/api/v1/account").bearer_auth(token)).await.status == 200
}

#[tokio::test]
async fn a_login_is_what_later_commands_use_until_the_logout() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    let mut ann = person(&stage, &mut admin, "ann@example.org").await;
    let desk = Desk::new(&stage);
    let nobody = desk.run(&["whoami"], "").refused_at_once(1);
    assert!(nobody.contains("pinacle login"), "{nobody}");
    let wrong = desk.login("ann@example.org", "wrong-wrong-wrong-wrong\n").refused_at_once(1);
    assert!(wrong.contains("--token-file") && !wrong.contains("wrong-wrong"), "{wrong}");
    assert!(desk.files().is_empty());

    let said = desk.login("ann@example.org", &format!("{PASSWORD}\n"));
    let first = desk.stored();
    assert!(!format!("{said:?}").contains(first["token"].as_str().unwrap()) && !format!("{said:?}").contains(PASSWORD));
    let said = said.ok();
    assert!(said.contains(&desk.gateway) && said.contains("ann@example.org"), "{said}");
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&desk.files()[0]), mode(&desk.sandbox.path().join("pinacle/logins"))), (0o600, 0o700));

    // No gateway and no token are named any more; each command may do what its person may.
    let who = desk.whoami(&[]);
    assert_eq!((&who["account"]["email"], &who["token_from"]), (&json!("ann@example.org"), &json!("login")));
    assert!(desk.run(&["whoami"], "").ok().contains("of pinacle login, until"));
    let tokens = desk.run(&["token", "ls", "--json"], "").json();
    assert_eq!(tokens[0]["grants"], json!(["read", "pods", "hosts", "admin"]), "{tokens}");
    assert!(tokens[0]["name"].as_str().unwrap().starts_with("pinacle login on "), "{tokens}");
    assert_eq!(tokens[0]["expires_at"], first["expires_at"]);
    assert_eq!(desk.run(&["pod", "ls", "--json"], "").json(), json!([]));
    // The session that made it has ended: what is left is the browser's.
    let sessions = desk.run(&["session", "ls", "--json"], "").json();
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    desk.run(&["session", "revoke", sessions[0]["session_id"].as_str().unwrap()], "").ok();
    assert_eq!(ann.get("/account").await.status, 401);
    let (mut one, mut other) =
        (Browser::signed_in(&stage, "ann@example.org").await, Browser::signed_in(&stage, "ann@example.org").await);
    desk.run(&["session", "revoke", "--all"], "").ok();
    assert_eq!((one.get("/account").await.status, other.get("/account").await.status), (401, 401));

    // What is typed counts more than the environment, and that more than the login.
    let file = desk.sandbox.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    let file = file.to_str().unwrap();
    let by = |more: &[(&str, &str)]| desk.whoami(more)["token_from"].clone();
    assert_eq!(by(&[("PINACLE_TOKEN", TOKEN)]), "environment");
    assert_eq!(by(&[("PINACLE_TOKEN", "none"), ("PINACLE_TOKEN_FILE", file)]), "token_file");
    assert_eq!(desk.run_with(&["whoami", "--token-file", file, "--json"], &[], "").json()["account"], json!(null));
    let lost = desk.run(&["whoami", "--gateway", "http://127.0.0.1:1"], "").refused_at_once(1);
    assert!(lost.contains("no token for http://127.0.0.1:1"), "another gateway is not told the token: {lost}");

    // Logging in once more leaves one token.
    desk.login("ann@example.org", &format!("{PASSWORD}\n")).ok();
    assert_ne!(desk.stored()["token"], first["token"]);
    assert!(!is_good(&stage, &first["token"]).await);
    let second = desk.stored()["token"].clone();
    assert!(is_good(&stage, &second).await);
    desk.run(&["logout"], "").ok();
    assert!(desk.files().is_empty() && !is_good(&stage, &second).await);
    desk.run(&["logout"], "").refused_at_once(1);
    // While the gateway is away nobody can be logged out.
    desk.login("ann@example.org", &format!("{PASSWORD}\n")).ok();
    let mut stage = stage;
    stage.gateway.kill9().await;
    let line = desk.run(&["logout"], "").refused_at_once(1);
    assert!(line.contains("the login stays") && desk.files().len() == 1, "{line}");
    let log = stage.gateway.log_text();
    assert!(!log.contains(PASSWORD) && !log.contains(second.as_str().unwrap()));
}

#[tokio::test]
async fn a_login_asks_for_the_second_factor_of_who_has_one() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    let (_, _, recovery) = factor::switch_on(&mut admin).await;
    let desk = Desk::new(&stage);
    let needed = desk.login("admin@localhost", &format!("{PASSWORD}\n")).refused_at_once(2);
    assert!(needed.contains("second line"), "{needed}");
    desk.login("admin@localhost", &format!("{PASSWORD}\nabcde-abcde-abcde-abcde\n")).refused_at_once(1);
    assert!(desk.files().is_empty());
    desk.login("admin@localhost", &format!("{PASSWORD}\n{}\n", recovery[0])).ok();
    assert_eq!(desk.whoami(&[])["account"]["is_admin"], true);

    // Who is admin invites.
    let link = desk.run(&["user", "invite", "bob@example.org", "--name", "Bob", "--admin"], "").ok();
    let token = link.trim().split_once("/set-password#").unwrap().1;
    let body = json!({ "token": token, "password": PASSWORD });
    let set = Browser::new(&stage).send(Method::POST, "/accounts/password", Some(body)).await;
    assert_eq!((set.status, &set.body["is_admin"], &set.body["name"]), (200, &json!(true), &json!("Bob")), "{set:?}");
    desk.run(&["user", "invite", "bob@example.org"], "").refused_at_once(1);
    desk.run(&["user", "invite", "bob"], "").refused_at_once(2);
}

/// Runs `pinacle login` in a terminal, types the password when it is asked for, and prints all that could be seen.
const TYPED: &str = "
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], [sys.argv[1], 'login', '--gateway', sys.argv[2]])
seen = b''
answers = [(b'e-mail: ', b'ann@example.org'), (b'password: ', sys.argv[3].encode())]
while True:
    try:
        part = os.read(terminal, 1024)
    except OSError:
        break
    if not part:
        break
    seen += part
    if answers and seen.endswith(answers[0][0]):
        os.write(terminal, answers.pop(0)[1] + b'\\n')
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[tokio::test]
async fn a_password_that_is_typed_is_not_seen() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    person(&stage, &mut admin, "ann@example.org").await;
    let desk = Desk::new(&stage);
    let program = machine::service("pinacle");
    let output = Command::new(machine::tool("python3"))
        .args(["-c", TYPED, program.to_str().unwrap(), &desk.gateway, PASSWORD])
        .env("XDG_CONFIG_HOME", desk.sandbox.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{seen}");
    assert!(seen.contains("ann@example.org") && seen.contains("logged in to"), "{seen}");
    assert!(!seen.contains("tomato"), "{seen}");
    assert_eq!(desk.whoami(&[])["account"]["email"], "ann@example.org");
}

#[tokio::test]
async fn a_token_that_was_made_elsewhere_is_looked_at_and_kept() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    let mut ann = person(&stage, &mut admin, "ann@example.org").await;
    let made = ann.send(Method::POST, "/tokens", Some(json!({ "name": "look", "grants": ["read"] }))).await;
    let token = made.body["token"].as_str().unwrap().to_owned();
    let desk = Desk::new(&stage);
    let login = |input: &str| desk.run(&["login", "--gateway", &desk.gateway, "--token-file", "-"], input);
    login("pin_nonsense\n").refused_at_once(1);
    login("\n").refused_at_once(2);
    let none = login(TOKEN).refused_at_once(2);
    assert!(none.contains("nobody's"), "{none}");
    assert!(desk.files().is_empty());
    login(&format!("{token}\n")).ok();
    assert_eq!(desk.whoami(&[])["account"]["email"], "ann@example.org");
    // One that may only look cannot end itself.
    let out = desk.run(&["logout"], "");
    assert!(out.stderr.contains("token revoke"), "{out:?}");
    out.ok();
    assert!(desk.files().is_empty() && is_good(&stage, &json!(token)).await);
}

#[test]
fn what_cannot_be_a_login_is_one_line() {
    for (arguments, code, part) in [
        (&["login", "--email", "a@b.c"][..], 2, "--password-stdin"),
        (&["login", "--password-stdin"], 2, "--email"),
        (&["login", "--email", "a@b.c", "--token-file", "x"], 2, "--token-file"),
        (&["login", "--gateway", "http://pinacle.example.org", "--email", "a@b.c", "--password-stdin"], 2, "https://"),
        (&["login", "--gateway", "pinacle.example.org"], 2, "must begin"),
        (&["login", "--days", "0"], 2, "--days"),
        (&["login", "--gateway-ca", "/nonexistent", "--token-file", "-"], 2, "/nonexistent"),
        (&["session", "revoke"], 2, "<ID>"),
        (&["logout"], 1, "nobody is logged in"),
    ] {
        let line = fed(arguments, &[], "secret-word\n").refused_at_once(code);
        assert!(line.contains(part) && !line.contains("secret-word"), "{arguments:?}: {line}");
    }
}

/// The token of a local installation is for its own gateway.
#[test]
fn the_token_of_the_local_installation_goes_to_no_other_gateway() {
    let here = Sandbox::new();
    fs::create_dir_all(here.path().join(".pinacle/secrets")).unwrap();
    fs::write(here.path().join(".pinacle/secrets/admin_token"), TOKEN).unwrap();
    let line = |more: &[&str]| {
        let mut command = Command::new(machine::service("pinacle"));
        command.args(["whoami"]).args(more).env("XDG_CONFIG_HOME", "/nonexistent").current_dir(here.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let nobody = format!("http://{}", machine::free_address());
    assert!(line(&["--gateway", &nobody]).contains("no token"));
    assert!(line(&["--gateway", &nobody, "--data-dir", ".pinacle"]).contains("cannot be reached"));
}
