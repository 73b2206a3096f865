//! The figures of docs/BENCHMARKS.md, each beside its reference in the same run: `bench ingest lag`, for example, and all
//! of them without arguments. Run it with `make bench`, which builds everything in release first.
//!
//! A figure that misses its goal is printed as such; nothing here fails for being slow.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measuring program ends at the first thing that goes wrong, and prints for people"
)]

mod agent;
mod by_hand;
mod fleet;
mod ingest;
mod lag;
mod live;
mod lost;
mod placement;
mod pod;
mod pods;
mod report;
mod ssh;
mod thirty;
mod usage;

use report::Report;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let known = ["agent", "ingest", "lag", "live", "pod", "thirty", "ssh", "placement", "lost"];
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        println!("there is no benchmark {unknown:?}; there are {}", known.join(", "));
        std::process::exit(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for name in known.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|one| one == name)) {
        println!("── {name}");
        // On this thread: the servers under test die with the thread that started them.
        let report: Report = runtime.block_on(async {
            match name {
                "agent" => agent::run().await,
                "ingest" => ingest::run().await,
                "lag" => lag::run().await,
                "live" => live::run().await,
                "pod" => pod::run().await,
                "thirty" => thirty::run().await,
                "ssh" => ssh::run().await,
                "placement" => placement::run().await,
                _ => lost::run().await,
            }
        });
        report.keep(name);
    }
}
