//! What a command printed: secrets masked, and of much output the beginning and the end.

use std::{borrow::Cow, collections::VecDeque, fmt};

use pinacle_bus::settings::Secret;

const MASK: &str = "***";
/// Kept of each stream's beginning, and as much of its end.
const KEPT_HALF: usize = 512 * 1024;

/// Replaces secrets in a text.
pub fn masked(text: &str, masks: &[Secret]) -> String {
    let mut masker = Masker::new(masks);
    let mut bytes = masker.push(text.as_bytes()).into_owned();
    bytes.extend(masker.finish());
    // Whole secrets are replaced by ASCII, and a secret begins and ends at a character.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Replaces secrets in a stream, however it is cut into chunks.
struct Masker {
    /// Longest first, so that a secret that begins with another is not left half.
    secrets: Vec<Secret>,
    /// The end of what came, as far as it may be the beginning of a secret.
    held: Vec<u8>,
}

impl Masker {
    fn new(masks: &[Secret]) -> Self {
        let mut secrets: Vec<Secret> = masks.iter().filter(|mask| !mask.is_empty()).cloned().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self { secrets, held: Vec::new() }
    }

    fn push<'a>(&mut self, chunk: &'a [u8]) -> Cow<'a, [u8]> {
        if self.secrets.is_empty() {
            return Cow::Borrowed(chunk);
        }
        self.held.extend_from_slice(chunk);
        Cow::Owned(self.take(false))
    }

    /// What was held back, now that nothing more comes.
    fn finish(&mut self) -> Vec<u8> {
        self.take(true)
    }

    fn take(&mut self, is_end: bool) -> Vec<u8> {
        let open = std::mem::take(&mut self.held);
        let mut rest = open.as_slice();
        let mut out = Vec::with_capacity(rest.len());
        while let Some((first, after)) = rest.split_first() {
            let secrets = || self.secrets.iter().map(|secret| secret.expose().as_bytes());
            if !is_end && secrets().any(|secret| secret.len() > rest.len() && secret.starts_with(rest)) {
                break;
            }
            if let Some(after) = secrets().find_map(|secret| rest.strip_prefix(secret)) {
                out.extend_from_slice(MASK.as_bytes());
                rest = after;
            } else {
                out.push(*first);
                rest = after;
            }
        }
        self.held = rest.to_vec();
        out
    }
}

/// One stream while it comes. Takes any amount, keeps at most 1 MiB.
pub struct Capture {
    masker: Masker,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Capture {
    /// Nothing yet.
    pub fn new(masks: &[Secret]) -> Self {
        Self { masker: Masker::new(masks), head: Vec::new(), tail: VecDeque::new(), left_out: 0 }
    }

    /// More of it.
    pub fn push(&mut self, chunk: &[u8]) {
        let chunk = self.masker.push(chunk);
        Self::keep(&mut self.head, &mut self.tail, &mut self.left_out, &chunk);
    }

    /// What came so far.
    pub fn snapshot(&self) -> Captured {
        Captured::new(&self.head, &self.tail, self.left_out)
    }

    /// All that came.
    pub fn finish(&mut self) -> Captured {
        let rest = self.masker.finish();
        Self::keep(&mut self.head, &mut self.tail, &mut self.left_out, &rest);
        self.snapshot()
    }

    /// How much came, to tell whether there is more than before.
    pub fn seen(&self) -> u64 {
        self.left_out + (self.head.len() + self.tail.len()) as u64
    }

    fn keep(head: &mut Vec<u8>, tail: &mut VecDeque<u8>, left_out: &mut u64, chunk: &[u8]) {
        let (first, rest) = chunk.split_at(chunk.len().min(KEPT_HALF.saturating_sub(head.len())));
        head.extend_from_slice(first);
        tail.extend(rest);
        let over = tail.len().saturating_sub(KEPT_HALF);
        drop(tail.drain(..over));
        *left_out += over as u64;
    }
}

/// What a command printed to one stream.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Captured {
    bytes: Vec<u8>,
    left_out: u64,
}

impl Captured {
    fn new(head: &[u8], tail: &VecDeque<u8>, left_out: u64) -> Self {
        let mut bytes = head.to_vec();
        if left_out > 0 {
            bytes.extend_from_slice(cut_mark(left_out).as_bytes());
        }
        bytes.extend(tail);
        Self { bytes, left_out }
    }

    /// As it was, secrets masked; where bytes are left out, a line says how many.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same as text; what is none is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// How many bytes are left out.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text(), f)
    }
}

fn cut_mark(left_out: u64) -> String {
    format!("\n[{left_out} bytes left out]\n")
}

/// A text as a record on the bus can hold it: no NUL, and at most `most` bytes as JSON; what is too much is left out of
/// its middle, with a line that says how many bytes.
pub fn for_record(text: &str, most: usize) -> String {
    let text = text.replace('\0', "\u{fffd}");
    if text.chars().map(json_length).sum::<usize>() <= most {
        return text;
    }
    let half = most.saturating_sub(64) / 2;
    let head = within(text.chars(), half);
    let tail = within(text.chars().rev(), half);
    let (start, end) = (text.get(..head).unwrap_or_default(), text.get(text.len() - tail..).unwrap_or_default());
    format!("{start}{}{end}", cut_mark((text.len() - head - tail) as u64))
}

/// Bytes of as many characters as take up at most `most` bytes of JSON.
fn within(characters: impl Iterator<Item = char>, most: usize) -> usize {
    let mut taken = 0;
    characters
        .take_while(|character| {
            taken += json_length(*character);
            taken <= most
        })
        .map(char::len_utf8)
        .sum()
}

fn json_length(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests;
