//! What runs and how to look at it, once everything has started.

use super::{home::Home, part::find_program, sample, start::Started};
use crate::{
    failure::Failure,
    terminal::{Terminal, Tone},
};

/// Prints the table.
pub(super) fn print(terminal: &Terminal, home: &Home, started: &Started) -> Result<(), Failure> {
    if terminal.json {
        return terminal.object(&serde_json::json!({
            "gateway": started.gateway,
            "first_link": started.first_link,
            "host": started.host,
            "sample": started.sample,
            "token_file": home.folder.secret("admin_token"),
            "logs": home.folder.path("logs"),
            "parts": started.parts.iter().map(|(name, address, _)| serde_json::json!({ "name": name, "address": address })).collect::<Vec<_>>(),
        }));
    }
    let mut table = terminal.table(&["part", "where", "what it is"]);
    for (name, address, what) in &started.parts {
        table.add_row(vec![Tone::Good.cell(name), Tone::Plain.cell(address), Tone::Dim.cell(what)]);
    }
    terminal.line(&format!("\nPinacle runs. It took {:.1} s.\n", started.took.as_secs_f64()))?;
    terminal.print(&mut table)?;
    let host = started.host.as_deref().unwrap_or("NAME");
    let folder = home.folder.root().display();
    let token = home.folder.secret("admin_token");
    let gateway = &started.gateway;
    let me = myself();
    let rows = [
        ("hosts", format!("{me} host ls")),
        ("this machine, live", format!("{me} host top {host}")),
        ("everything, live", format!("{me} watch")),
        ("the API's page", format!("{gateway}/api/docs")),
        ("the token for it", token.display().to_string()),
        ("logs", format!("{folder}/logs")),
    ];
    let mut rows = rows.to_vec();
    if let Some(address) = &started.sample {
        rows.splice(
            0..0,
            [
                ("the sample pod", address.clone()),
                ("what it prints", format!("{me} pod logs {}", sample::NAME)),
                ("how it was made", format!("{me} pod exec-log {}", sample::NAME)),
                ("one of your own", format!("{me} pod create NAME")),
            ],
        );
    }
    if let Some(link) = &started.first_link {
        rows.insert(0, ("your password, once", link.clone()));
    } else {
        rows.insert(0, ("sign in", format!("{gateway}/sign-in")));
    }
    terminal.line("")?;
    for (what, how) in rows {
        terminal.line(&format!("{}{how}", terminal.paint(&format!("{what:<20}"), Tone::Dim)))?;
    }
    if started.first_link.is_some() {
        terminal.line("\nNobody has an account yet: open the first link, set a password, and you are the admin.")?;
    }
    terminal.line("\nCtrl-C stops everything; the next start finds all data again.")
}

/// What to type for this program from here.
fn myself() -> String {
    let me = std::env::current_exe().unwrap_or_default();
    if find_program("pinacle").and_then(|found| found.canonicalize().ok()) == me.canonicalize().ok() {
        return "pinacle".into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    me.strip_prefix(here).unwrap_or(&me).display().to_string()
}
