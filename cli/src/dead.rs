//! `pinacle dead …`: messages that could not be handled.

use std::io::{self, BufRead, IsTerminal, Write};

use pinacle_bus::contract::DeadLetterId;
use reqwest::Method;

use crate::{
    api::{Api, DeadLetter, Whole},
    args::{DeadCommand, Global, Yes},
    failure::Failure,
    figures::{ago, bytes, clean, moment},
    host::Page,
    terminal::{Terminal, Tone},
};

/// `pinacle dead …`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, command: DeadCommand) -> Result<(), Failure> {
    match command {
        DeadCommand::Ls { all } => list(&Api::open(global)?, terminal, all).await,
        DeadCommand::Show { id } => show(&Api::open(global)?, terminal, checked(&id)?).await,
        DeadCommand::Resend { id } => {
            let id = checked(&id)?;
            let answer = Api::open(global)?.send(Method::POST, &format!("/dead-letters/{id}/resend"), &[]).await?;
            if terminal.json {
                terminal.document(&answer)
            } else {
                terminal.line(&format!("{id} is back on its subject"))
            }
        }
        DeadCommand::Drop { id, yes } => {
            let id = checked(&id)?;
            confirm(yes, &format!("give {id} up? Its message will not be handled"))?;
            let answer = Api::open(global)?.send(Method::DELETE, &format!("/dead-letters/{id}"), &[]).await?;
            if terminal.json { terminal.document(&answer) } else { terminal.line(&format!("{id} is given up")) }
        }
    }
}

fn checked(id: &str) -> Result<DeadLetterId, Failure> {
    id.parse().map_err(|error| Failure::input(format!("{id:?} is no dead letter's id: {error}; see pinacle dead ls")))
}

/// Asks a person; a program must say `--yes`.
pub(crate) fn confirm(yes: Yes, question: &str) -> Result<(), Failure> {
    if yes.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::input("nobody can be asked here: say --yes if it is to be done"));
    }
    let mut answer = String::new();
    write!(io::stderr(), "{question} [y/N] ")?;
    io::stdin().lock().read_line(&mut answer)?;
    if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        Ok(())
    } else {
        Err(Failure::failed("nothing was done"))
    }
}

async fn list(api: &Api, terminal: &Terminal, all: bool) -> Result<(), Failure> {
    let query = vec![("open", (!all).to_string())];
    let letters: Vec<Whole<DeadLetter>> = api.all("/dead-letters", query, usize::MAX).await?;
    if terminal.json {
        return terminal.document(&letters.iter().map(|letter| &letter.json).collect::<Vec<_>>());
    }
    if letters.is_empty() {
        terminal.hint("there are no dead letters: every message could be handled");
        return Ok(());
    }
    for letter in &letters {
        let id = terminal.paint(&letter.dead_letter_id, Tone::Warning);
        let age = terminal.paint(&format!("{} ago, {}", ago(letter.at), became(letter)), Tone::Dim);
        terminal.line(&format!("{id}  {age}\n  {}\n  {}", clean(&letter.subject), clean(&letter.reason)))?;
    }
    terminal.hint("\npinacle dead show ID shows one with its message, resend puts it back, drop gives it up");
    Ok(())
}

fn became(letter: &DeadLetter) -> &'static str {
    match (letter.dropped_at, letter.resent_at) {
        (Some(_), _) => "given up",
        (None, Some(_)) => "sent again",
        (None, None) => "open",
    }
}

async fn show(api: &Api, terminal: &Terminal, id: DeadLetterId) -> Result<(), Failure> {
    let letter: Whole<DeadLetter> = Whole::read(api.get(&format!("/dead-letters/{id}"), &[]).await?)?;
    if terminal.json {
        return terminal.document(&letter.json);
    }
    let mut page = Page { terminal, text: String::new() };
    page.line("id", &letter.dead_letter_id);
    page.line("state", became(&letter));
    page.line("reason", clean(&letter.reason));
    page.line("subject", clean(&letter.subject));
    page.line("from", clean(&format!("stream {}, consumer {}", letter.stream, letter.consumer)));
    page.line("given up", format!("{} UTC, after {} tries", moment(letter.at), letter.tries));
    page.line("message", bytes(letter.payload_bytes));
    terminal.text(&page.text)?;
    if let Some(encoded) = &letter.payload_base64 {
        terminal.line("")?;
        terminal.line(&payload(encoded))?;
    }
    Ok(())
}

/// The message as JSON for people, or as the text that it is.
fn payload(encoded: &str) -> String {
    use base64::Engine;
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(encoded) else {
        return "the message cannot be shown".into();
    };
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        // serde_json escapes control characters.
        Ok(value) => serde_json::to_string_pretty(&value).unwrap_or_default(),
        Err(_) => String::from_utf8_lossy(&bytes).lines().map(clean).collect::<Vec<_>>().join("\n"),
    }
}
