//! What is put around a command on the host: its process group told, a deadline that the host keeps by itself, and the
//! fence.
//!
//! The login shell tells its process id, which is that of the process group, and becomes the command: by that number it
//! is killed over another channel. SSH has a message for that, but OpenSSH ignores it when root is logged in.
//!
//! `timeout` kills the command's whole process group, whether or not anybody is still connected. It is coreutils' one;
//! busybox has one that kills only the command itself, so that on such a host children outlive a deadline that passes
//! while the connection is cut.
//!
//! The fence is a file a pod with the highest number that the host has seen. A command takes its lock, is refused when
//! its number is lower, and keeps the lock while it runs by an inherited descriptor; so the next copy waits for what the
//! last one still has under way. The number always has the same width and is overwritten in place by one write, so that
//! a process killed at any instant leaves the old one or the new one. It is not synced to disk: a host that loses power
//! forgets what it learnt in its last seconds.

use std::time::Duration;

use pinacle_bus::contract::PodId;

use super::{Fence, SshError, quote};

/// Where fences are; a folder that only root can change.
pub const FENCES: &str = "/var/lib/pinacle/fence";
const PREFIX: &str = "pinacle: ";
const GROUP: &str = "pinacle-group ";
const FENCED: i32 = 97;
const UNUSABLE: i32 = 98;

/// `$1` the file, `$2` the number, then the command. After the lock is held, the file may have been removed meanwhile
/// and made anew by another: then once more.
const FENCE: &str = r#"f=$1 n=$2
shift 2
no() { echo "pinacle: $1" >&2; exit "$2"; }
check() { h=0; read -r h <"$f"; [ "${h:-0}" -le "$n" ] || no "fence $n is below $h" 97; }
[ -e "$f" ] || { mkdir -p -m 700 "${f%/*}" && true >>"$f"; } || no "cannot make $f" 98
[ -f "$f" ] && [ -w "$f" ] || no "cannot write to $f" 98
check
while :; do
exec 9<>"$f"
flock -n 9 || { echo "pinacle: waiting for the command of an earlier copy" >&2; flock 9; } || no "cannot lock $f" 98
[ "/proc/$$/fd/9" -ef "$f" ] && break
done
check
[ "${h:-0}" -eq "$n" ] || printf '%020d\n' "$n" 1<>"$f" || no "cannot write to $f" 98
exec "$@""#;

/// The line that the host's login shell is given. `limit` is when the host itself ends the command.
pub fn wrapped(line: &str, fence: Option<Fence>, limit: Duration) -> String {
    let seconds = limit.as_millis().div_ceil(1000).max(1);
    let fence = fence.map_or(String::new(), |fence| {
        format!("sh -c {} pinacle {} {} ", quote(FENCE), fence_file(fence.pod_id), fence.number)
    });
    format!("echo {GROUP}$$ >&2; exec timeout -s KILL {seconds} {fence}{line}")
}

/// Finds the line that tells the process group in what came of standard error so far: what came before it, the group,
/// and what came after.
pub fn group(stderr: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let start = stderr.windows(GROUP.len()).position(|window| window == GROUP.as_bytes())?;
    let (before, line) = stderr.split_at_checked(start)?;
    let length = line.iter().position(|byte| *byte == b'\n')?;
    let (line, after) = line.split_at_checked(length)?;
    let number = str::from_utf8(line.strip_prefix(GROUP.as_bytes())?).ok()?;
    Some((before, number.parse().ok()?, after.get(1..)?))
}

/// Ends a process group of the host. As dash, bash and busybox all take it: not all know `--` here.
pub fn kill(group: u32) -> String {
    format!("kill -KILL -{group}")
}

/// Where a host keeps a pod's fence: to be removed once nobody remembers the pod.
pub fn fence_file(pod: PodId) -> String {
    format!("{FENCES}/{pod}")
}

/// Whether the fence, rather than the command, ended it.
pub fn refusal(fence: Option<Fence>, exit_code: i32, stderr: &str) -> Option<SshError> {
    fence?;
    let said = stderr.lines().rev().find_map(|line| line.strip_prefix(PREFIX))?.to_owned();
    match exit_code {
        FENCED => Some(SshError::Fenced(said)),
        UNUSABLE => Some(SshError::FenceUnusable(said)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
