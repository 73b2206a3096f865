#![doc = include_str!("../README.md")]

mod api;
mod args;
mod audit;
mod completions;
mod dead;
mod events;
mod exec;
mod failure;
mod figures;
mod host;
mod live;
mod local;
mod login;
mod migrate;
mod op;
mod people;
mod place;
mod pod;
mod progress;
mod prompt;
mod replay;
mod secret;
mod session;
mod sim;
mod status;
mod team;
mod terminal;
mod token;
mod top;
mod up;
mod user;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::{Failure, refuse};
use terminal::Terminal;

/// Parses the command line, runs the command and says how it went.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, std::env::args_os().map(|word| word.to_string_lossy().into_owned())),
    };
    // One thread: children are told to die with the thread that started them, so that thread must last.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("cannot start: {error}")).report(),
    };
    let outcome = runtime.block_on(run(cli));
    // What still blocks on a terminal or a pipe is not worth waiting for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let terminal = Terminal::new(&global);
    match command {
        Command::Up(args) => up::run(args, &global, &terminal).await,
        Command::Host(command) => host::run(&global, &terminal, command).await,
        Command::Pod(command) => pod::run(&global, &terminal, command).await,
        Command::Op(command) => op::run(&global, &terminal, command).await,
        Command::Login(args) => login::run(&global, &terminal, args).await,
        Command::Logout => login::logout(&global, &terminal).await,
        Command::Whoami => login::whoami(&global, &terminal).await,
        Command::Session(command) => session::run(&global, &terminal, command).await,
        Command::Token(command) => token::run(&global, &terminal, command).await,
        Command::Team(command) => team::run(&global, &terminal, command).await,
        Command::User(command) => user::run(&global, &terminal, command).await,
        Command::Status => status::run(&global, &terminal).await,
        Command::Watch(args) => watch::run(&global, &terminal, args).await,
        Command::Events(args) => events::run(&global, &terminal, args).await,
        Command::Audit(command) => audit::run(&global, &terminal, command).await,
        Command::Dead(command) => dead::run(&global, &terminal, command).await,
        Command::Secrets(command) => secret::run(&global, &terminal, command).await,
        Command::SshKey(command) => secret::ssh_key(&global, &terminal, command).await,
        Command::Migrate(args) => migrate::run(&global, &terminal, args).await,
        Command::Replay(args) => replay::run(&global, &terminal, args).await,
        Command::Sim(args) => sim::run(&global, &terminal, args).await,
        Command::Subjects => completions::subjects(&terminal),
        Command::Completions { shell } => completions::print(&terminal, shell),
    }
}
