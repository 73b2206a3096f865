//! What an agent and the gateway sign and check when a grant is renewed.

/// Stands before it, so that such a signature is good for nothing else.
const RENEWAL: &str = "pinacle-renewal-v1";

/// What an agent's key signs to get another grant, or to have a `fresh` key put in its place. The challenge is the
/// gateway's.
pub fn renewal_text(challenge: &str, fresh: Option<&str>) -> String {
    format!("{RENEWAL}\n{challenge}\n{}", fresh.unwrap_or_default())
}
