//! Reading a pod's output: bounded in lines, in bytes and in time.

use std::{collections::VecDeque, time::Duration};

use bollard::{
    container::LogOutput,
    query_parameters::{ListContainersOptions, LogsOptions},
};
use futures_util::{Stream, StreamExt};
use pinacle_bus::{
    client::Ask,
    contract::{
        PodId, Timestamp,
        command::{Fault, FaultCode, LogChunk, LogLine, Logs},
    },
};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::fault;
use crate::docker::{DockerError, View};

/// Text in one reply.
const MOST_BYTES: usize = 256 * 1024;
/// Text of one followed log; who wants more asks again.
const MOST_FOLLOWED_BYTES: usize = 16 * 1024 * 1024;
/// Docker cuts lines at 16 KiB; other drivers may not.
const LONGEST_LINE: usize = 16 * 1024;
/// How long lines of a followed log are gathered before they go out together.
const GATHER: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(15);

/// Reads what is wanted. A followed log goes out in replies to `ask`; what is returned is the last one.
pub async fn read(view: &View, wanted: &Logs, ask: &Ask, stopping: &CancellationToken) -> Result<LogChunk, Fault> {
    let client = view.client().map_err(|error| unavailable(&error))?;
    let container = container_of(view, wanted.pod_id).await?;
    let since = wanted.since.map_or(0, |since| i32::try_from(since.as_millis() / 1000).unwrap_or(i32::MAX));
    let options = LogsOptions {
        follow: wanted.follow_seconds > 0,
        stdout: true,
        stderr: true,
        since,
        timestamps: true,
        tail: wanted.tail.to_string(),
        ..LogsOptions::default()
    };
    let frames = Box::pin(client.logs(&container, Some(options)).map(|frame| frame.map_err(DockerError::Failed)));
    let since = wanted.since;
    let lines = frames.filter_map(move |frame| {
        let line = frame.map(|frame| line(&frame)).map(|line| Some(line).filter(|line| is_wanted(line, since)));
        std::future::ready(line.transpose())
    });
    let lines = Box::pin(lines);
    if wanted.follow_seconds == 0 {
        return match timeout(DEADLINE, newest(lines)).await {
            Ok(chunk) => chunk.map_err(|error| unavailable(&error)),
            Err(_) => Err(fault(FaultCode::Timeout, "docker takes too long over this log; ask for fewer lines")),
        };
    }
    let until = Instant::now() + Duration::from_secs(wanted.follow_seconds.into());
    follow(lines, until, ask, stopping).await
}

/// Docker counts in seconds, we in milliseconds.
fn is_wanted(line: &LogLine, since: Option<Timestamp>) -> bool {
    match (line.at, since) {
        (Some(at), Some(since)) => at >= since,
        _ => true,
    }
}

/// The pod's container, also when it has ended: what it said last is what people want to read then.
async fn container_of(view: &View, pod_id: PodId) -> Result<String, Fault> {
    let newest = |view: &View| {
        let ours = view.containers.iter().filter(|container| container.pod_id == Some(pod_id));
        ours.max_by_key(|container| container.started_at).map(|container| container.container_id.clone())
    };
    if let Some(container) = newest(view) {
        return Ok(container);
    }
    // It may be so new that its event is still on its way.
    let client = view.client().map_err(|error| unavailable(&error))?;
    let label = format!("pinacle.pod={pod_id}");
    let options = ListContainersOptions {
        all: true,
        filters: Some([("label".to_owned(), vec![label])].into()),
        ..ListContainersOptions::default()
    };
    match timeout(DEADLINE, client.list_containers(Some(options))).await {
        Ok(Ok(found)) => found
            .into_iter()
            .find_map(|container| container.id)
            .ok_or_else(|| fault(FaultCode::NotFound, format!("this host has no container of {pod_id}"))),
        Ok(Err(error)) => Err(unavailable(&DockerError::Failed(error))),
        Err(_) => Err(unavailable(&DockerError::Timeout(DEADLINE))),
    }
}

fn unavailable(error: &DockerError) -> Fault {
    let code = if error.is_not_found() { FaultCode::NotFound } else { FaultCode::Unavailable };
    fault(code, error.chain())
}

/// `2026-11-21T09:15:40.123456789Z text`, as Docker writes a line with its time.
fn line(frame: &LogOutput) -> LogLine {
    let stream = if matches!(frame, LogOutput::StdErr { .. }) { "stderr" } else { "stdout" };
    let text = String::from_utf8_lossy(frame.as_ref());
    let (at, text) = match text.split_once(' ') {
        Some((time, rest)) if time.parse::<Timestamp>().is_ok() => (time.parse().ok(), rest),
        _ => (None, text.as_ref()),
    };
    let text = text.trim_end_matches(['\n', '\r']);
    let end = (0..=LONGEST_LINE.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    LogLine { at, stream: stream.to_owned(), text: text.get(..end).unwrap_or_default().to_owned() }
}

/// What a line takes in a reply: its text as JSON, and what stands around it.
fn cost(line: &LogLine) -> usize {
    let escaped: usize = line
        .text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum();
    escaped + 80
}

/// As many of the last lines as one reply holds.
async fn newest(mut lines: impl Stream<Item = Result<LogLine, DockerError>> + Unpin) -> Result<LogChunk, DockerError> {
    let mut kept: VecDeque<LogLine> = VecDeque::new();
    let (mut bytes, mut truncated) = (0, false);
    while let Some(line) = lines.next().await {
        let line = line?;
        bytes += cost(&line);
        kept.push_back(line);
        while bytes > MOST_BYTES
            && let Some(oldest) = kept.pop_front()
        {
            bytes -= cost(&oldest);
            truncated = true;
        }
    }
    Ok(LogChunk { sequence: 0, lines: kept.into(), truncated, end: true })
}

/// Sends lines as they come, until the time or the allowance is up or the container ends. Returns the last reply.
async fn follow(
    mut lines: impl Stream<Item = Result<LogLine, DockerError>> + Unpin,
    until: Instant,
    ask: &Ask,
    stopping: &CancellationToken,
) -> Result<LogChunk, Fault> {
    let mut chunk = LogChunk { sequence: 0, lines: Vec::new(), truncated: false, end: false };
    let (mut bytes, mut total) = (0, 0);
    let mut send_at = until;
    loop {
        let over = tokio::select! {
            // cancel-safe: a line not yet taken stays in the stream.
            next = lines.next() => match next {
                Some(line) => {
                    let line = line.map_err(|error| unavailable(&error))?;
                    if chunk.lines.is_empty() {
                        send_at = until.min(Instant::now() + GATHER);
                    }
                    bytes += cost(&line);
                    total += cost(&line);
                    chunk.lines.push(line);
                    chunk.truncated = total > MOST_FOLLOWED_BYTES;
                    chunk.truncated
                }
                None => true,
            },
            // cancel-safe: a timer.
            () = sleep_until(send_at) => send_at >= until,
            // cancel-safe: only observed.
            () = stopping.cancelled() => true,
        };
        if over {
            chunk.end = true;
            return Ok(chunk);
        }
        let full = bytes + LONGEST_LINE * 6 > MOST_BYTES;
        if !chunk.lines.is_empty() && (full || Instant::now() >= send_at) {
            ask.reply_with(&chunk).await?;
            chunk = LogChunk { sequence: chunk.sequence + 1, lines: Vec::new(), truncated: false, end: false };
            (bytes, send_at) = (0, until);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(text: &str) -> LogOutput {
        LogOutput::StdErr { message: Bytes::copy_from_slice(text.as_bytes()) }
    }

    #[test]
    fn a_line_is_told_apart_from_its_time() {
        let read = line(&frame("2026-11-21T09:15:40.123456789Z hello world\n"));
        assert_eq!(read.at.unwrap().to_string(), "2026-11-21T09:15:40.123Z");
        assert_eq!((read.stream.as_str(), read.text.as_str()), ("stderr", "hello world"));
        let plain = line(&frame("no time here\r\n"));
        assert_eq!((plain.at, plain.text.as_str()), (None, "no time here"));
        let empty = line(&frame("2026-11-21T09:15:40Z \n"));
        assert_eq!(empty.text, "");
    }

    #[test]
    fn a_long_line_is_cut_between_letters() {
        let text = format!("2026-11-21T09:15:40Z {}", "é".repeat(LONGEST_LINE));
        assert_eq!(line(&frame(&text)).text.len(), LONGEST_LINE);
    }

    #[tokio::test]
    async fn the_newest_lines_stay_when_there_are_too_many() {
        let all = 10_000;
        let lines = (0..all).map(|number| {
            let text = format!("{number} {}", "\u{1}".repeat(20));
            Ok(LogLine { at: None, stream: "stdout".into(), text })
        });
        let chunk = newest(futures_util::stream::iter(lines)).await.unwrap();
        assert!(chunk.truncated && chunk.end && chunk.lines.len() < all);
        assert!(chunk.lines.last().unwrap().text.starts_with("9999 "));
        assert!(serde_json::to_vec(&chunk).unwrap().len() <= MOST_BYTES + 1024);
    }

    #[test]
    fn lines_before_the_wanted_time_are_left_out() {
        let time = |text: &str| text.parse::<Timestamp>().ok();
        let line = |at| LogLine { at, stream: String::new(), text: String::new() };
        let since = time("2026-11-21T09:15:40.500Z");
        assert!(!is_wanted(&line(time("2026-11-21T09:15:40.499Z")), since));
        assert!(is_wanted(&line(since), since));
        assert!(is_wanted(&line(None), since));
    }
}
