//! Reading the kernel's small files again and again, cheaply: one buffer for all, and descriptors that stay open.
//!
//! Invariant: a file is read whole and from its beginning in one go, so that what is parsed is one state of the kernel
//! and not two halves; nothing here panics on what a file holds.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A buffer that many reads share.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

/// The kernel hands seq files out a page at a time, and most of ours fit one.
const PAGE: usize = 4096;
/// No file of ours is larger; one that is would be a fault of the kernel's or a trap.
const MOST: usize = 16 * 1024 * 1024;

impl Scratch {
    /// Reads a file that is not kept open.
    ///
    /// # Errors
    /// What the system says: the file is gone, may not be read, or has more than 16 MiB.
    pub fn read(&mut self, path: &Path) -> io::Result<&str> {
        self.fill(&File::open(path)?)
    }

    fn fill(&mut self, file: &File) -> io::Result<&str> {
        let mut length = 0;
        loop {
            if self.0.len() < length + PAGE {
                self.0.resize(length + PAGE, 0);
            }
            let free = self.0.get_mut(length..).unwrap_or_default();
            match file.read_at(free, length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if length > MOST {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file has more than 16 MiB"));
            }
        }
        let bytes = self.0.get(..length).unwrap_or_default();
        // All that is read here is ASCII, but for names that a person gave: a line with a broken one is cut there.
        Ok(match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                bytes.get(..error.valid_up_to()).and_then(|valid| str::from_utf8(valid).ok()).unwrap_or_default()
            }
        })
    }
}

/// A file that is read each interval.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    open: Option<File>,
}

impl Source {
    /// Opens nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), open: None }
    }

    /// Reads it whole. With `keep` the descriptor stays open for the next time, which saves the walk along the path.
    ///
    /// # Errors
    /// As [`Scratch::read`]. The next read opens the file anew.
    pub fn read<'a>(&mut self, scratch: &'a mut Scratch, keep: bool) -> io::Result<&'a str> {
        let file = match self.open.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        let text = scratch.fill(&file)?;
        if keep {
            self.open = Some(file);
        }
        Ok(text)
    }
}

/// The number that a file consists of.
pub fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value behind `key` in a file of lines `key value`, as `memory.stat` and `cpu.stat` are.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next()? == key { words.next()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_kept_file_is_read_from_its_beginning_each_time() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut scratch = Scratch::default();
        let mut source = Source::new(file.path());
        file.write_all(&vec![b'x'; 10_000]).unwrap();
        assert_eq!(source.read(&mut scratch, true).unwrap().len(), 10_000);
        file.write_all(b"yz").unwrap();
        assert!(source.read(&mut scratch, true).unwrap().ends_with("xyz"));
    }

    #[test]
    fn bytes_that_are_no_text_cut_the_file_and_a_missing_file_is_an_error() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"good \xff bad").unwrap();
        let mut scratch = Scratch::default();
        assert_eq!(scratch.read(file.path()).unwrap(), "good ");
        assert!(scratch.read(Path::new("/nonexistent/file")).is_err());
    }

    #[test]
    fn a_key_is_matched_whole() {
        let text = "inactive_file_x 1\ninactive_file 22\nbroken\nnan x\n";
        assert_eq!(keyed(text, "inactive_file"), Some(22));
        assert_eq!(keyed(text, "broken"), None);
        assert_eq!(keyed(text, "nan"), None);
        assert_eq!(keyed(text, "missing"), None);
    }
}
