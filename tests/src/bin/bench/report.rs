//! A benchmark's result as people read it: printed, and kept in its section of docs/BENCHMARKS.md.

use std::fmt::Write;

use pinacle_tests::machine;

/// A title, what was measured and how, and a table.
pub struct Report {
    title: String,
    text: String,
}

impl Report {
    pub fn new(title: &str, how: &str) -> Self {
        Self { title: title.into(), text: format!("{how}\n\n") }
    }

    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        writeln!(self.text, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len())).unwrap();
        for row in rows {
            writeln!(self.text, "| {} |", row.join(" | ")).unwrap();
        }
        self.text.push('\n');
    }

    /// Says whether a figure reaches its goal, and by how much it misses it otherwise.
    pub fn goal(&mut self, what: &str, got: f64, goal: f64, at_least: bool) {
        let (reached, sign) = if at_least { (got >= goal, "≥") } else { (got <= goal, "≤") };
        let verdict = if reached {
            "reached".to_owned()
        } else {
            format!("missed by {:.0} %", ((got - goal) / goal * 100.0).abs())
        };
        writeln!(self.text, "- {what}: {got:.3}, goal {sign} {goal}: **{verdict}**").unwrap();
    }

    pub fn note(&mut self, text: &str) {
        writeln!(self.text, "{text}\n").unwrap();
    }

    /// Prints it and puts it in the place of the section `name`; other sections stay as they are.
    pub fn keep(&self, name: &str) {
        let text = self.text.trim_end();
        println!("\n## {}\n\n{text}\n", self.title);
        let path = machine::repository().join("docs/BENCHMARKS.md");
        let page = std::fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
        let section = format!(
            "{begin}## {}\n\n`make bench ARGS={name}`, {}, on {}.\n\n{text}\n{end}",
            self.title,
            chrono::Utc::now().format("%Y-%m-%d"),
            machine_in_words()
        );
        let page = match (page.find(&begin), page.find(&end)) {
            (Some(from), Some(to)) => format!("{}{section}{}", &page[..from], &page[to + end.len()..]),
            _ => format!("{page}\n{section}"),
        };
        std::fs::write(path, page).unwrap();
    }
}

const HEAD: &str = "# Benchmarks\n\nEach figure stands beside its reference, measured in the same run; the command that printed it stands above it.\n\
Absolute times belong to the machine; ratios travel better.\n";

fn machine_in_words() -> String {
    let field = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores ({}), {} GiB of memory", field("/proc/cpuinfo", "model name"), memory_kib / 1024 / 1024)
}

/// The middle one of some values; of an even number the lower of the two.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// The value that a share of all values does not exceed: 0.5 = the median, 1 = the greatest.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// How often to measure, unless the environment says otherwise: for a short look.
pub fn rounds(usual: usize) -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
