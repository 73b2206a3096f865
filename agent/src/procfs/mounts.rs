//! Which real file systems are mounted, each once.

use std::collections::HashSet;

/// A file system on a real disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Such as `/dev/sda1`.
    pub device: String,
    /// Where it is mounted.
    pub point: String,
    /// Such as `ext4`.
    pub file_system: String,
}

/// From a `mountinfo`: each real file system once, at the mount that shows the whole of it.
///
/// Real is what lies on a block device, and ZFS, which names a pool instead. Network file systems are left out: they
/// are another machine's disk, and asking a dead one for its size would hang. Read-only images (snaps, CDs) are always
/// full and say nothing.
pub fn mounts(text: &str) -> Vec<Mount> {
    let mut found: Vec<Line<'_>> = text.lines().filter_map(line).filter(Line::is_real).collect();
    // Bind mounts show a part of a file system (their root is not `/`), and later mounts may cover earlier ones.
    found.sort_by_key(|line| (line.root != "/", line.point.len()));
    let mut numbers = HashSet::new();
    let mut devices = HashSet::new();
    found
        .into_iter()
        // Both: one device can have several numbers (subvolumes of btrfs) and several names (/dev/root).
        .filter(|line| numbers.insert(line.number) && devices.insert(line.pool()))
        .map(|line| Mount {
            device: unescape(line.source),
            point: unescape(line.point),
            file_system: line.file_system.to_owned(),
        })
        .collect()
}

#[derive(Debug)]
struct Line<'a> {
    number: &'a str,
    root: &'a str,
    point: &'a str,
    file_system: &'a str,
    source: &'a str,
}

impl<'a> Line<'a> {
    fn is_real(&self) -> bool {
        match self.file_system {
            "zfs" => true,
            "squashfs" | "iso9660" | "udf" | "erofs" => false,
            _ => self.source.starts_with("/dev/") && !self.file_system.starts_with("fuse."),
        }
    }

    /// Datasets of a ZFS pool share its space.
    fn pool(&self) -> &'a str {
        match self.file_system {
            "zfs" => self.source.split('/').next().unwrap_or(self.source),
            _ => self.source,
        }
    }
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw`: a varying number of fields before the dash.
fn line(text: &str) -> Option<Line<'_>> {
    let (mount, file_system) = text.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let mut file_system = file_system.split(' ');
    Some(Line {
        number: mount.next()?,
        root: mount.next()?,
        point: mount.next()?,
        file_system: file_system.next()?,
        source: file_system.next()?,
    })
}

/// Blanks and the like stand as `\040`, three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
