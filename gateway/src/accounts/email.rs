//! E-mail addresses as they are kept: in lower case, and never with anything in them that could end a header.

use crate::problem::{Code, Problem};

/// Longest address that mail servers carry.
const LONGEST: usize = 254;

/// An address as it is kept and compared.
///
/// # Errors
/// When it is none.
pub fn normalize(text: &str) -> Result<String, Problem> {
    let email = text.trim().to_lowercase();
    if is_address(&email) { Ok(email) } else { Err(Problem::field(Code::InvalidBody, "email", "is no e-mail address")) }
}

/// Plain addresses only: no quotes, no comments, no spaces, nothing beyond ASCII.
fn is_address(email: &str) -> bool {
    let Some((local, domain)) = email.rsplit_once('@') else { return false };
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&byte);
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let dots = |part: &str| !part.starts_with('.') && !part.ends_with('.') && !part.contains("..");
    email.len() <= LONGEST
        && (1..=64).contains(&local.len())
        && !domain.is_empty()
        && local.bytes().all(is_local)
        && domain.bytes().all(is_domain)
        && dots(local)
        && dots(domain)
}

/// A person's name as it is kept: one line without anything invisible.
///
/// # Errors
/// When it is too long or has control characters.
pub fn name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    if name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(Problem::field(Code::InvalidBody, "name", "may have at most 100 characters, in one line"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_case_and_cannot_smuggle_a_header() {
        assert_eq!(normalize(" Someone.Else+tag@Example.ORG ").unwrap(), "someone.else+tag@example.org");
        assert_eq!(normalize("admin@localhost").unwrap(), "admin@localhost");
        let long = format!("{}@example.org", "x".repeat(65));
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b\r\nbcc: x@y.z",
            "a@b\nc",
            "a,b@c",
            "<a@b>",
            "\"a\"@b",
            "a@b@",
            "a..b@c",
            ".a@b",
            "a@b..c",
            "ä@b.c",
            "a\0@b",
            &long,
        ] {
            assert!(normalize(bad).is_err(), "{bad:?}");
        }
        assert!(name("Some One").is_ok());
        assert!(name("a\nb").is_err() && name(&"x".repeat(101)).is_err());
    }
}
