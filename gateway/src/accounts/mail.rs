//! Mail to people: over SMTP where that is set. Without it, in the development mode, what would be sent goes to the log.

use std::time::Duration;

use anyhow::Context as _;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::settings::Gateway;

/// How long one attempt may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Pauses before another attempt.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// The way to people's mail boxes.
pub struct Mailer {
    smtp: Option<(AsyncSmtpTransport<Tokio1Executor>, Mailbox)>,
    dev: bool,
}

/// What is sent. What stands in it comes from us, but for the address and the name, which were looked at.
pub struct Letter {
    /// To whom.
    pub to: String,
    /// Its one line.
    pub subject: &'static str,
    /// What it says, before the link.
    pub text: String,
    /// Where it leads, if it leads anywhere.
    pub link: Option<String>,
}

impl Mailer {
    /// From the settings.
    ///
    /// # Errors
    /// When `gateway.smtp_url` or `gateway.mail_from` cannot be used.
    pub fn new(settings: &Gateway, dev: bool) -> anyhow::Result<Self> {
        if settings.smtp_url.is_empty() {
            return Ok(Self { smtp: None, dev });
        }
        // Its own error may repeat the password.
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(settings.smtp_url.expose())
            .map_err(|_| anyhow::anyhow!("gateway.smtp_url: is no address such as smtps://user:password@host"))?;
        let from = settings.mail_from.parse().context("gateway.mail_from: is no e-mail address")?;
        Ok(Self { smtp: Some((transport.timeout(Some(DEADLINE)).build(), from)), dev })
    }

    /// Whether mail goes out.
    pub fn is_set(&self) -> bool {
        self.smtp.is_some()
    }

    /// Sends a letter, if need be several times. What does not go out is told in the log, without the link.
    pub async fn send(&self, letter: Letter) {
        let Some((transport, from)) = &self.smtp else {
            if self.dev {
                info!(subject = letter.subject, link = letter.link, "no gateway.smtp_url is set: this would be a mail");
            } else {
                warn!(subject = letter.subject, "no gateway.smtp_url is set: a mail was not sent");
            }
            return;
        };
        let message = match message(from, letter) {
            Ok(message) => message,
            Err(error) => return warn!("cannot write a mail: {error:#}"),
        };
        let mut pauses = AGAIN_AFTER.into_iter();
        loop {
            let error = match transport.send(message.clone()).await {
                Ok(_) => return metrics::counter!("pinacle_gateway_mails_total", "outcome" => "sent").increment(1),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if !error.is_permanent() => sleep(pause).await,
                _ => {
                    metrics::counter!("pinacle_gateway_mails_total", "outcome" => "failed").increment(1);
                    return warn!("cannot send a mail: {error}");
                }
            }
        }
    }
}

fn message(from: &Mailbox, letter: Letter) -> anyhow::Result<Message> {
    let body = match letter.link {
        Some(link) => {
            format!("{}\n\n{link}\n\nThe link works once. If you did not ask for this, leave it.\n", letter.text)
        }
        None => format!("{}\n", letter.text),
    };
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, letter.to.parse().context("read the address")?))
        .subject(letter.subject)
        .header(ContentType::TEXT_PLAIN)
        .body(body)
        .context("put it together")
}
