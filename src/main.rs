//! The command: reads its arguments and the configuration, and runs the hub.

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
use presence_hub::config::{self, Config, DEVELOPMENT_SECRET, Faults, Loaded, load};
use presence_hub::duration;
use presence_hub::presence::{Devices, Platform, UserId, explain};

/// What the system's own keeps for each thread grows while many come and go; this gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a configuration that does not hold exits with.
const EXIT_CONFIG: u8 = 2;

/// A WebSocket-first realtime presence hub.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    source: Source,
}

#[derive(Args, Default)]
struct Source {
    /// The configuration file; else PRESENCE_HUB_CONFIG, else ./config.toml, else the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// Run the hub.
    Serve(Source),
    /// Read and check the configuration, and print the effective settings.
    CheckConfig(Source),
    /// Mint a token with the configured secret, for trying things out.
    Token(Token),
    /// Say whom a login would kick.
    Policy(Explain),
    /// Measure what the hub costs on this machine, beside the least that a server could.
    Bench(bench::Options),
    /// A part of that.
    #[command(hide = true)]
    BenchPart { part: bench::Part },
}

#[derive(Args)]
struct Token {
    /// Whom it is for.
    #[arg(long)]
    user: UserId,
    /// The only platform it may log in on.
    #[arg(long)]
    platform: Option<Platform>,
    /// How long it lives.
    #[arg(long, default_value = "1h", value_parser = duration::parse)]
    ttl: Duration,
    /// Whom it may watch: an id, or a prefix ending in *; may be given more than once.
    #[arg(long)]
    watch: Vec<String>,
    #[command(flatten)]
    source: Source,
}

#[derive(Args)]
struct Explain {
    /// What is logged in, in this order: web,android:2.
    #[arg(long, default_value = "")]
    existing: Devices,
    /// What comes.
    #[arg(long)]
    login: Platform,
    #[command(flatten)]
    source: Source,
}

fn main() -> ExitCode {
    let Command { action, source } = Command::parse();
    let outcome = match action.unwrap_or(Action::Serve(source)) {
        Action::Serve(source) => serve(&source),
        Action::CheckConfig(source) => check_config(&source),
        Action::Token(token) => print_token(&token),
        Action::Policy(asked) => print_policy(&asked),
        Action::Bench(options) => {
            bench::run(&options, &mut io::stdout()).map_err(failed).map(|()| ExitCode::SUCCESS)
        }
        Action::BenchPart { part } => {
            bench::run_part(part).map_err(failed).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|Stop { code, message }| {
        // Where standard error cannot be written, the exit code must do.
        app::briefly(move || drop(writeln!(io::stderr(), "{message}")));
        ExitCode::from(code)
    })
}

/// Why the command did not do what it was asked.
struct Stop {
    code: u8,
    message: String,
}

fn failed(error: impl std::fmt::Display) -> Stop {
    Stop { code: 1, message: format!("{error}") }
}

fn loaded(source: &Source) -> Result<Loaded, Stop> {
    load(source.config.as_deref(), &variables()).map_err(wrong)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
fn wrong(faults: Faults) -> Stop {
    Stop { code: EXIT_CONFIG, message: faults.to_string() }
}

fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn serve(source: &Source) -> Result<ExitCode, Stop> {
    let loaded = loaded(source)?;
    let log = app::Log::start(&loaded.config.log)
        .map_err(|error| failed(format!("standard error: {error}")))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(app::run(loaded, &variables(), &log)).map_err(failed)?;
    // What still runs, as a client that does not read its end, is not waited for.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

fn check_config(source: &Source) -> Result<ExitCode, Stop> {
    let effective = toml::to_string(&loaded(source)?.config).map_err(failed)?;
    print(&effective)
}

fn print_token(token: &Token) -> Result<ExitCode, Stop> {
    let variables = variables();
    let Loaded { config, file } =
        load(token.source.config.as_deref(), &variables).map_err(wrong)?;
    if config.auth.algorithm != Algorithm::HS256 {
        let algorithm = config.auth.algorithm;
        return Err(failed(format!(
            "auth.algorithm is {algorithm:?}: the hub has only the public key, and cannot sign; sign \
             with the private key where your back end does"
        )));
    }
    let read = match &file {
        Some(file) => format!("the configuration {}", whole(file)),
        None => {
            format!("the default configuration (there is no {})", whole("config.toml".as_ref()))
        }
    };
    let (secret, from) = match config.signing_secret() {
        Some((name, secret)) => {
            (secret.expose().to_owned(), setting_source(&name, &variables, file.as_deref()))
        }
        None => development_secret(&config, &read)?,
    };
    let (rules, wall) = (config.token_rules(), Clock::system().wall());
    let Token { user, platform, ttl, watch, .. } = token;
    if *ttl < Duration::from_secs(1) || *ttl > rules.max_ttl {
        let max = duration::format(rules.max_ttl);
        let message = format!("--ttl: expected 1s to auth.max_token_ttl, which is {max}");
        return Err(failed(message));
    }
    let minted = mint(secret.as_bytes(), &rules, user, *platform, watch, wall, *ttl);
    let minted = minted.map_err(failed)?;
    // Standard output has the token alone, so that it can be taken from there.
    writeln!(io::stderr(), "signed with {from}, by {read}").ok();
    print(&format!("{minted}\n"))
}

/// Where the secret of a setting was given.
fn setting_source(name: &str, variables: &BTreeMap<String, String>, file: Option<&Path>) -> String {
    let setting = name.split('[').next().unwrap_or(name);
    let variable = format!("PRESENCE_HUB__{}", setting.replace('.', "__").to_uppercase());
    match file {
        _ if variables.contains_key(&variable) => format!("{name} of the variable {variable}"),
        Some(file) => format!("{name} of {}", whole(file)),
        None => name.to_owned(),
    }
}

/// The secret that a hub in development mode has made; a token of any other one no hub would accept.
fn development_secret(config: &Config, read: &str) -> Result<(String, String), Stop> {
    let directory = &config.store.path;
    let path = whole(&directory.join(DEVELOPMENT_SECRET));
    let secret = config::development_secret(directory).ok_or_else(|| {
        failed(format!(
            "no secret to sign with: {read} has no auth.secrets, and there is no development secret \
             at {path}. Run this where the hub runs, or name its configuration with --config; a hub \
             in development mode makes the secret when it is started"
        ))
    })?;
    Ok((secret, format!("the development secret {path}")))
}

/// A path from the root on, so that it says where it was looked for.
fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn print_policy(asked: &Explain) -> Result<ExitCode, Stop> {
    let config = loaded(&asked.source)?.config;
    let policy = config.policy().map_err(|_| failed("the policy does not hold"))?;
    let explanation = explain(&asked.existing, asked.login, &policy.login);
    let explanation = serde_json::to_string_pretty(&explanation).map_err(failed)?;
    print(&format!("{explanation}\n"))
}

fn print(text: &str) -> Result<ExitCode, Stop> {
    io::stdout().write_all(text.as_bytes()).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
