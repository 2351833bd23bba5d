//! The command line: parses arguments, loads the configuration, and runs the hub.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use presence_hub::app;
use presence_hub::auth::{Algorithm, mint};
use presence_hub::bench;
use presence_hub::clock::Clock;
use presence_hub::config::{
    self, Config, DEVELOPMENT_CLOCK, DEVELOPMENT_SECRET, Faults, Loaded, load,
};
use presence_hub::duration;
use presence_hub::follow;
use presence_hub::presence::{Devices, Platform, UserId, explain};
use presence_hub::simulate;

// The system allocator's per-thread caches grow while many threads come and go. mimalloc returns the
// memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for an invalid configuration.
const EXIT_CONFIG: u8 = 2;

/// A WebSocket-first realtime presence hub.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(subcommand)]
    action: Option<Subcommands>,
    #[command(flatten)]
    source: Source,
}

#[derive(Args, Default)]
struct Source {
    /// The configuration file. Default: PRESENCE_HUB_CONFIG, else ./config.toml, else the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Run the hub.
    Serve(Source),
    /// Read and check the configuration, and print the effective settings.
    CheckConfig(Source),
    /// Ask the hub that runs here with this configuration whether it lives, for health checks.
    Health(Health),
    /// Mint a token with the configured secret, for tests.
    Token(Token),
    /// Explain which devices a login would kick.
    Policy(Explain),
    /// Write the events of a hub to standard output, as lines of JSON.
    Follow(follow::Options),
    /// Play a scenario of users, devices and networks on a hub of its own, with a clock that is moved.
    Simulate(simulate::Options),
    /// Benchmark the hub on this machine, next to a minimal server.
    Bench(bench::Options),
    /// One part of the benchmark, in its own process.
    #[command(hide = true)]
    BenchPart { part: bench::Part },
}

#[derive(Args)]
struct Health {
    /// Ask whether the hub is ready for clients: not while it drains, or while its store is unavailable.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    source: Source,
}

#[derive(Args)]
struct Token {
    /// The user that the token is for.
    #[arg(long)]
    user: UserId,
    /// The only platform that the token may log in on. Default: any.
    #[arg(long)]
    platform: Option<Platform>,
    /// The time until the token expires.
    #[arg(long, default_value = "1h", value_parser = duration::parse)]
    ttl: Duration,
    /// A user that the token may watch: an id, or a prefix ending in *. May be repeated.
    #[arg(long)]
    watch: Vec<String>,
    #[command(flatten)]
    source: Source,
}

#[derive(Args)]
struct Explain {
    /// The devices that are logged in, oldest first: web,android:2.
    #[arg(long, default_value = "")]
    existing: Devices,
    /// The platform that logs in.
    #[arg(long)]
    login: Platform,
    #[command(flatten)]
    source: Source,
}

fn main() -> ExitCode {
    let Command { action, source } = Command::parse();
    let outcome = match action.unwrap_or(Subcommands::Serve(source)) {
        Subcommands::Serve(source) => serve(&source),
        Subcommands::CheckConfig(source) => check_config(&source),
        Subcommands::Health(asked) => ask_health(&asked),
        Subcommands::Token(token) => print_token(&token),
        Subcommands::Policy(asked) => print_policy(&asked),
        Subcommands::Follow(options) => follow_events(&options),
        Subcommands::Simulate(options) => play(&options),
        Subcommands::Bench(options) => {
            bench::run(&options, &mut io::stdout()).map_err(failed).map(|()| ExitCode::SUCCESS)
        }
        Subcommands::BenchPart { part } => {
            bench::run_part(part).map_err(failed).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|Failure { code, message }| {
        // If standard error cannot be written, the exit code must do.
        app::briefly(move || drop(writeln!(io::stderr(), "{message}")));
        ExitCode::from(code)
    })
}

/// Why the command failed.
struct Failure {
    code: u8,
    message: String,
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure { code: 1, message: format!("{error}") }
}

fn loaded(source: &Source) -> Result<Loaded, Failure> {
    load(source.config.as_deref(), &variables()).map_err(wrong)
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` passes it by value")]
fn wrong(faults: Faults) -> Failure {
    Failure { code: EXIT_CONFIG, message: faults.to_string() }
}

fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn serve(source: &Source) -> Result<ExitCode, Failure> {
    let loaded = loaded(source)?;
    let log = app::Log::start(&loaded.config.log)
        .map_err(|error| failed(format!("standard error: {error}")))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let end = runtime.block_on(app::run(loaded, &variables(), &log));
    // Does not wait for tasks that still run, such as a write to a client that does not read.
    runtime.shutdown_background();
    end.map_err(failed).map(|()| ExitCode::SUCCESS)
}

fn follow_events(options: &follow::Options) -> Result<ExitCode, Failure> {
    // Not the hub's configuration: the command may run on another machine.
    let log = app::Log::start(&Config::default().log).map_err(failed)?;
    let key = variables().remove(follow::KEY_VARIABLE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let end = runtime.block_on(follow::run(options, key));
    // Does not wait for a write that the reader of standard output does not take.
    runtime.shutdown_background();
    // The log is written first, so that the reason is the last line.
    drop(log);
    let fault =
        |fault: follow::Fault| Failure { code: fault.exit_code(), message: fault.to_string() };
    end.map_err(fault).map(|()| ExitCode::SUCCESS)
}

fn play(options: &simulate::Options) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let end = runtime.map_err(failed)?.block_on(simulate::run(options, io::stdout()));
    let fault =
        |fault: simulate::Fault| Failure { code: fault.exit_code(), message: fault.to_string() };
    end.map_err(fault).map(|()| ExitCode::SUCCESS)
}

fn check_config(source: &Source) -> Result<ExitCode, Failure> {
    let config = loaded(source)?.config;
    let effective = toml::to_string(&config).map_err(failed)?;
    // A comment, so that the whole can be read as a configuration.
    let line = config.everybody_watches().map(|line| format!("# {line}\n"));
    print(&format!("{}{effective}", line.unwrap_or_default()))
}

fn ask_health(asked: &Health) -> Result<ExitCode, Failure> {
    let server = loaded(&asked.source)?.config.server;
    let path = if asked.ready { "/ready" } else { "/health" };
    let answer = app::ask(&server, path).map_err(failed)?;
    print(&format!("{}\n", answer.trim_end()))
}

fn print_token(token: &Token) -> Result<ExitCode, Failure> {
    let variables = variables();
    let Loaded { config, file } =
        load(token.source.config.as_deref(), &variables).map_err(wrong)?;
    if config.auth.algorithm != Algorithm::HS256 {
        let algorithm = config.auth.algorithm;
        return Err(failed(format!(
            "auth.algorithm is {algorithm:?}: the hub has only the public key and cannot sign; sign \
             with the private key in your back end"
        )));
    }
    let read = match &file {
        Some(file) => format!("the configuration {}", absolute(file)),
        None => {
            format!("the default configuration (there is no {})", absolute("config.toml".as_ref()))
        }
    };
    let (secret, from) = match config.signing_secret() {
        Some((name, secret)) => {
            (secret.expose().to_owned(), setting_source(&name, &variables, file.as_deref()))
        }
        None => development_secret(&config, &read)?,
    };
    let rules = config.token_rules();
    let wall = token_clock(&config)?.wall();
    let Token { user, platform, ttl, watch, .. } = token;
    if *ttl < Duration::from_secs(1) || *ttl > rules.max_ttl {
        let max = duration::format(rules.max_ttl);
        let message = format!("--ttl: expected 1s to auth.max_token_ttl, which is {max}");
        return Err(failed(message));
    }
    let minted = mint(secret.as_bytes(), &rules, user, *platform, watch, wall, *ttl);
    let minted = minted.map_err(failed)?;
    // Standard output has only the token, so that scripts can capture it.
    writeln!(io::stderr(), "signed with {from}, from {read}").ok();
    print(&format!("{minted}\n"))
}

/// The clock of the hub that a token is for: in development mode it may have been moved.
fn token_clock(config: &Config) -> Result<Clock, Failure> {
    if !config.is_development() {
        return Ok(Clock::system());
    }
    let file = config.store.path.join(DEVELOPMENT_CLOCK);
    let name = absolute(&file);
    Clock::system().movable(file).map_err(|error| failed(format!("{name}: {error}")))
}

/// The place where a setting's secret was given: a variable or a file.
fn setting_source(name: &str, variables: &BTreeMap<String, String>, file: Option<&Path>) -> String {
    let setting = name.split('[').next().unwrap_or(name);
    let variable = format!("PRESENCE_HUB__{}", setting.replace('.', "__").to_uppercase());
    match file {
        _ if variables.contains_key(&variable) => format!("{name} of the variable {variable}"),
        Some(file) => format!("{name} of {}", absolute(file)),
        None => name.to_owned(),
    }
}

/// The secret that a hub in development mode has generated; no hub accepts a token signed with another.
fn development_secret(config: &Config, read: &str) -> Result<(String, String), Failure> {
    let directory = &config.store.path;
    let path = absolute(&directory.join(DEVELOPMENT_SECRET));
    let secret = config::development_secret(directory).ok_or_else(|| {
        failed(format!(
            "no secret to sign with: {read} has no auth.secrets, and there is no development secret \
             at {path}. Run this where the hub runs, or give its configuration with --config; a hub \
             in development mode generates the secret when it starts"
        ))
    })?;
    Ok((secret, format!("the development secret {path}")))
}

/// The absolute path, so that messages say where the command looked.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn print_policy(asked: &Explain) -> Result<ExitCode, Failure> {
    let config = loaded(&asked.source)?.config;
    let policy = config.policy().map_err(|_| failed("the login policy is invalid"))?;
    let explanation = explain(&asked.existing, asked.login, &policy.login);
    let explanation = serde_json::to_string_pretty(&explanation).map_err(failed)?;
    print(&format!("{explanation}\n"))
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
