//! Configurations: files, and variables with secrets.
//!
//! An input that begins with `$` and a digit is the value of a variable. Any other is a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use presence_hub::config::{AtStart, Config, Faults, Settings, load};
use tempfile::TempDir;

use super::engine::fuzz;

/// Part of every secret here: no message may show it.
const CANARY: &str = "canary-in-a-secret";
/// The variables of secrets.
const SECRETS: [&str; 8] = [
    "AUTH__SECRET",
    "AUTH__SECRETS",
    "AUTH__API_KEYS",
    "AUTH__ADMIN_KEYS",
    "AUTH__VIEWER_KEYS",
    "WEBHOOK__SECRETS",
    "TENCENT__SECRET_KEY",
    "TENCENT__CALLBACK_TOKEN",
];
const WORDS: &str = r#"
    [server] [auth] [login] [liveness] [limits] [store] [webhook] [tencent] [log] listen =
    allowed_origins max_connections max_message_bytes handshake_timeout trusted_proxies algorithm
    "HS256" "ES256" secrets api_keys leeway policy "custom" groups [["web"],["android"]]
    max_instances web_ping web_silence push_online_ttl sync url = "https://a.example/" max_backlog
    "10GiB" parallel sdk_app_id filter "info,presence_hub=debug" "0s" "7d" "1e9d" 0 -1 4294967296
    9223372036854775808 true "" [ ] { } , # """ 1979-05-27 nan 0x $1 canary-in-a-secret"#;

#[test]
fn configuration() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("config.toml");
    fuzz("configuration", WORDS, |input| match input {
        [b'$', digit @ b'0'..=b'7', value @ ..] => {
            let name = SECRETS[usize::from(digit - b'0')];
            check_variable(name, &String::from_utf8_lossy(value))
        }
        text => {
            fs::write(&file, text).expect("to write");
            check_file(&file)
        }
    });
}

fn check_file(file: &Path) -> String {
    match load(Some(file), &BTreeMap::new()) {
        Ok(loaded) => check_loaded(&loaded.config),
        Err(faults) => {
            let place = file.display().to_string();
            let is_placed = |named: &Option<String>| {
                named.as_ref().is_none_or(|named| named.starts_with(&place))
            };
            assert!(faults.0.iter().all(|fault| is_placed(&fault.place)), "{faults}");
            check_faults(&faults)
        }
    }
}

fn check_variable(name: &str, value: &str) -> String {
    let variables = BTreeMap::from([(format!("PRESENCE_HUB__{name}"), value.to_owned())]);
    match load(Some(Path::new("/dev/null")), &variables) {
        Ok(loaded) => check_loaded(&loaded.config),
        Err(faults) => {
            assert!(!faults.to_string().contains(CANARY), "{name}: {faults}");
            check_faults(&faults)
        }
    }
}

fn check_faults(faults: &Faults) -> String {
    assert!(!faults.0.is_empty());
    let says = faults.0.iter().map(|fault| {
        assert!(!fault.message.is_empty(), "{fault:?}");
        let says = fault.message.split(['`', '"', ',']).next().unwrap_or_default();
        says.chars().filter(|c| c.is_alphabetic()).take(40).collect::<String>()
    });
    says.take(2).collect::<Vec<_>>().join(", ")
}

/// What was accepted must be printable, and usable without another fault.
fn check_loaded(config: &Config) -> String {
    let printed = toml::to_string(config).expect("a printable configuration");
    assert!(toml::from_str::<Config>(&printed).is_ok(), "{printed}");
    if !config.is_development() {
        let at_start = AtStart::new(config, config.server.max_connections);
        if let Err(fault) = Settings::of(config, None, &at_start) {
            panic!("a checked configuration cannot be used: {fault}");
        }
    }
    let kinds = (config.login.policy, config.auth.algorithm, config.webhook.format);
    format!("accepted {kinds:?} {}", config.is_development())
}
