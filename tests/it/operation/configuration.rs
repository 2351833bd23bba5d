//! The configuration: `config.toml`, variables, defaults, and errors with their positions.

use std::collections::BTreeSet;
use std::path::Path;

use toml::{Table, Value};

use super::commands::{complained, run, said};
use crate::support::SECRET;

/// The repository's file, which documents every key.
const DOCUMENTED: &str = include_str!("../../../config.toml");

pub(super) fn in_a_directory(file: Option<&str>) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    if let Some(file) = file {
        std::fs::write(directory.path().join("config.toml"), file).expect("to write");
    }
    directory
}

/// Runs `check-config`, which must succeed; returns its output.
pub(super) fn effective(directory: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let output = run(directory, &[&["check-config"], arguments].concat(), settings);
    assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
    assert_eq!(complained(&output), "");
    said(&output)
}

/// Runs `check-config`, which must fail; returns the faults, one per line.
pub(super) fn faults(file: Option<&str>, settings: &[(&str, &str)]) -> Vec<String> {
    let directory = in_a_directory(file);
    let output = run(directory.path(), &["check-config"], settings);
    assert_eq!(output.status.code(), Some(2), "{file:?} {settings:?}: {}", said(&output));
    assert_eq!(said(&output), "");
    let served = run(directory.path(), &["serve"], settings);
    assert_eq!(served.status.code(), Some(2), "{file:?}");
    assert_eq!(complained(&served), complained(&output), "`serve` fails in the same way");
    complained(&output).lines().map(str::to_owned).collect()
}

fn at<'a>(table: &'a Table, key: &str) -> &'a Value {
    let (section, key) = key.split_once('.').expect("a section");
    table[section].get(key).unwrap_or_else(|| panic!("{section}.{key} is missing"))
}

fn keys(table: &Table) -> BTreeSet<String> {
    let sections = table.iter().flat_map(|(section, inner)| {
        let inner = inner.as_table().expect("a section");
        inner.keys().map(move |key| format!("{section}.{key}"))
    });
    sections.collect()
}

#[test]
fn config_toml_documents_every_key() {
    let documented: Table = DOCUMENTED.parse().expect("TOML");
    let directory = in_a_directory(None);
    let printed = effective(directory.path(), &[], &[]);
    let printed: Table = printed.parse().expect("TOML");
    assert_eq!(keys(&documented), keys(&printed), "no key more and none less");

    // Every key follows a comment, its own or one shared with adjacent keys.
    let mut explained = false;
    for line in DOCUMENTED.lines() {
        match line.trim() {
            "" => explained = false,
            line if line.starts_with('#') => explained = true,
            // A section header does not reset this: its comment can document the first key.
            line if line.starts_with('[') => (),
            line => assert!(explained, "{line}"),
        }
    }
    // The file has the same effect as no file.
    let given = in_a_directory(Some(DOCUMENTED));
    let again: Table = effective(given.path(), &[], &[]).parse().expect("TOML");
    assert_eq!(again, printed);
}

/// The defaults that the documents promise.
const PROMISED: &str = r#"
        server.production = false
        server.listen = "127.0.0.1:7800"
        server.allowed_origins = []
        server.max_connections = 200000
        server.max_message_bytes = 65536
        server.handshake_timeout = "5s"
        server.keep_alive = "75s"
        server.drain = "10s"
        server.metrics_listen = ""
        server.admin_listen = ""
        server.plain_listen = ""
        server.trusted_proxies = []
        auth.algorithm = "HS256"
        auth.secret = ""
        auth.secrets = []
        auth.public_key = ""
        auth.public_keys = []
        auth.jwks_url = ""
        auth.issuer = ""
        auth.audience = ""
        auth.leeway = "5s"
        auth.max_token_ttl = "365d"
        auth.api_keys = []
        auth.admin_keys = []
        auth.viewer_keys = []
        auth.proxy_user_header = ""
        auth.proxy_role_header = ""
        auth.proxy_admins = []
        auth.proxy_viewers = []
        auth.default_watch = ["*"]
        login.policy = "single"
        login.on_conflict = "kick_old"
        login.timeout = "10s"
        login.web_tabs = "share"
        login.miniprogram_as_web = true
        login.max_instances = { web = 1 }
        liveness.web_ping = "20s"
        liveness.web_silence = "60s"
        liveness.native_ping = "120s"
        liveness.native_silence = "400s"
        liveness.background = "30s"
        liveness.exit = "4s"
        liveness.push_online_ttl = "7d"
        liveness.web_close_grace = "1s"
        limits.subscriptions = 1000
        limits.messages_per_second = 50
        limits.message_burst = 200
        limits.connections_per_address_per_second = 10
        limits.connection_burst = 100
        limits.sockets_per_address = 10000
        limits.bad_logins_per_minute = 60
        limits.work_per_second = 1000
        limits.work_burst = 5000
        limits.slow_consumer = "30s"
        limits.changes_per_user_per_minute = 120
        limits.lookups_per_user_per_minute = 2000
        limits.lookups_burst = 20000
        limits.requests_per_key_per_second = 1000
        limits.request_burst = 4000
        limits.streams_per_key = 32
        store.path = "data"
        store.log_ttl = "7d"
        store.record_ttl = "30d"
        outgoing.allow_private = true
        store.log_bytes_per_user = "16MiB"
        store.min_free = "256MiB"
        tencent.sdk_app_id = 0
        tencent.secret_key = ""
        tencent.administrators = ["administrator"]
        tencent.callback_token = ""
        tencent.kick_sends_logout = false
        tencent.unknown_account_error = false
        log.format = "text"
        log.filter = "info"
        traces.endpoint = ""
        traces.headers = []
        traces.sample = 0.01
        traces.service_name = "presence-hub"
    "#;

#[test]
fn defaults_are_the_specified_ones() {
    let promised: Table = PROMISED.parse().expect("TOML");
    let documented: Table = DOCUMENTED.parse().expect("TOML");
    for key in keys(&promised) {
        assert_eq!(at(&documented, &key), at(&promised, &key), "{key}");
    }
}

#[test]
fn check_config_output_hides_secrets_and_can_be_read_back() {
    let file = format!(
        "[auth]\nsecret = \"{SECRET}\"\napi_keys = [\"tell-nobody-an-api-key\"]\n\
         admin_keys = [\"tell-nobody-an-admin-key\"]\nviewer_keys = [\"tell-nobody-a-viewer-key\"]\n\
         [liveness]\nweb_silence = \"90s\"\nbackground = \"1500ms\"\n\
         [tencent]\nsecret_key = \"tell-nobody-the-key\"\ncallback_token = \"tell-nobody-a-token\"\n"
    );
    let directory = in_a_directory(Some(&file));
    let printed = effective(directory.path(), &[], &[]);
    assert!(!printed.contains(SECRET) && !printed.contains("tell-nobody"), "{printed}");
    let table: Table = printed.parse().expect("TOML");
    assert_eq!(at(&table, "auth.secret").as_str(), Some("(hidden)"));
    assert_eq!(at(&table, "auth.api_keys").as_array().map(Vec::len), Some(1));
    assert_eq!(at(&table, "liveness.background").as_str(), Some("1500ms"));
    let back = printed.replace("(hidden)", "0123456789012345678901234567890123456789");
    let again = effective(in_a_directory(Some(&back)).path(), &[], &[]);
    assert_eq!(again, printed);
}

#[test]
fn config_file_is_found_and_variables_override_it() {
    let directory = in_a_directory(Some("[limits]\nsubscriptions = 1\nmessage_burst = 7\n"));
    let other = directory.path().join("other.toml");
    std::fs::write(&other, "[limits]\nsubscriptions = 2\n").expect("to write");
    let subscriptions = |arguments: &[&str], settings: &[(&str, &str)]| {
        let table: Table = effective(directory.path(), arguments, settings).parse().expect("TOML");
        let burst = at(&table, "limits.message_burst").as_integer().expect("a number");
        (at(&table, "limits.subscriptions").as_integer().expect("a number"), burst)
    };
    assert_eq!(subscriptions(&[], &[]), (1, 7));
    assert_eq!(subscriptions(&["--config", "other.toml"], &[]), (2, 200));
    assert_eq!(subscriptions(&[], &[("limits.subscriptions", "3")]), (3, 7));
    let mut command = crate::support::command(directory.path(), &[]);
    let output = command.arg("check-config").env("PRESENCE_HUB_CONFIG", &other).output();
    assert!(said(&output.expect("the command to run")).contains("subscriptions = 2"));
    let mut command = crate::support::command(directory.path(), &[]);
    let output = command.arg("check-config").env("PRESENCE_HUB_CONFIG", "").output();
    let output = output.expect("the command to run");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    let expected = "PRESENCE_HUB_CONFIG: is empty; name a configuration file, or leave it out";
    assert!(message.contains(expected), "{message}");

    let variables = [
        ("server.allowed_origins", "[\"https://a.example\", \"https://b.example\"]"),
        ("server.production", "false"),
        ("server.listen", "127.0.0.1:1"),
        ("liveness.web_silence", "45s"),
        ("login.max_instances", "{ web = 3, android = 2 }"),
        ("login.max_instances.mac", "4"),
        ("auth.secret", "12345678901234567890123456789012"),
        ("log.filter", "debug"),
    ];
    let table: Table = effective(directory.path(), &[], &variables).parse().expect("TOML");
    assert_eq!(at(&table, "server.allowed_origins").as_array().map(Vec::len), Some(2));
    assert_eq!(at(&table, "liveness.web_silence").as_str(), Some("45s"));
    let instances = at(&table, "login.max_instances");
    let count = |platform: &str| instances[platform].as_integer();
    assert_eq!((count("web"), count("android"), count("mac")), (Some(3), Some(2), Some(4)));
}

#[test]
fn each_config_error_has_its_position() {
    let rows = [
        ("[server]\nport = 7800\n", "config.toml:2:1: server.port: "),
        ("[sever]\nlisten = \"x\"\n", "config.toml:2:1: sever.listen: "),
        ("x = 1\n", "config.toml:1:1: x: "),
        ("[server]\n\n  production = \"yes\"\n", "config.toml:3:3: server.production: "),
        ("[server]\nmax_connections = -1\n", "config.toml:2:1: server.max_connections: "),
        ("[server]\nmax_connections = 0\n", "config.toml:2:1: server.max_connections: "),
        ("[server]\nlisten = 7800\n", "config.toml:2:1: server.listen: "),
        ("[server]\nlisten = \"localhost\"\n", "config.toml:2:1: server.listen: "),
        ("[server]\nlisten = \"0.0.0.0:7800\"\n", "config.toml:2:1: server.listen: "),
        ("[server]\nadmin_listen = \"[::]:1\"\n", "config.toml:2:1: server.admin_listen: "),
        ("[server]\nproduction = true\n", "config.toml:2:1: server.production: "),
        ("[server]\nallowed_origins = [\"x\"]\n", "config.toml:2:1: server.allowed_origins: "),
        ("[server]\ntrusted_proxies = [\"x\"]\n", "config.toml:2:1: server.trusted_proxies: "),
        ("[server]\ntls_key = \"key.pem\"\n", "config.toml:2:1: server.tls_key: "),
        (
            "[server]\ntls_key = \"key.pem\"\ntls_certificate = \"absent.pem\"\n",
            "config.toml:3:1: server.tls_certificate: absent.pem: ",
        ),
        ("server.drain = 10\n", "config.toml:1:8: server.drain: "),
        ("[liveness]\nweb_silence = 60\n", "config.toml:2:1: liveness.web_silence: "),
        ("[liveness]\nweb_silence = \"60\"\n", "config.toml:2:1: liveness.web_silence: "),
        ("[liveness]\nweb_silence = \"-60s\"\n", "config.toml:2:1: liveness.web_silence: "),
        ("[liveness]\nweb_silence = \"40s\"\n", "config.toml:2:1: liveness.web_silence: "),
        ("[liveness]\nweb_ping = \"30s\"\n", "config.toml:2:1: liveness.web_ping: "),
        ("[liveness]\nnative_ping = \"200s\"\n", "config.toml:2:1: liveness.native_ping: "),
        ("[liveness]\nexit = \"0s\"\n", "config.toml:2:1: liveness.exit: "),
        ("[login]\npolicy = \"quadruple\"\n", "config.toml:2:1: login.policy: "),
        ("[login]\ngroups = [[\"web\"]]\n", "config.toml:2:1: login.groups: "),
        ("[login.max_instances]\nminiprogram = 2\n", "config.toml:2:1: login.max_instances"),
        (
            "[login.max_instances]\nmac = 2\nweb = 101\n",
            "config.toml:3:1: login.max_instances.web: ",
        ),
        ("[login.max_instances]\nweb = 0\n", "config.toml:2:1: login.max_instances"),
        ("[login.max_instances]\ntoaster = 1\n", "config.toml:2:1: login.max_instances.toaster: "),
        ("[auth]\nalgorithm = \"none\"\n", "config.toml:2:1: auth.algorithm: "),
        ("[auth]\nalgorithm = \"RS256\"\n", "config.toml:2:1: auth.algorithm: "),
        ("[auth]\nsecret = \"short\"\n", "config.toml:2:1: auth.secret: "),
        ("[auth]\napi_keys = [\"short\"]\n", "config.toml:2:1: auth.api_keys: "),
        ("[auth]\njwks_url = \"https://x\"\n", "config.toml:2:1: auth.jwks_url: "),
        ("[tencent]\nsdk_app_id = 1400000000\n", "config.toml:2:1: tencent.sdk_app_id: "),
        ("[tencent]\nsdk_app_id = -1\n", "config.toml:2:1: tencent.sdk_app_id: "),
        ("[log]\nfilter = \"hub=lots\"\n", "config.toml:2:1: log.filter: "),
        ("[log\n", "config.toml:1:5: "),
        ("[log]\nformat = \"text\"\nformat = \"json\"\n", "config.toml:3:1: "),
    ];
    for (file, start) in rows {
        let faults = faults(Some(file), &[]);
        assert!(faults.len() == 1 && faults[0].starts_with(start), "{file}: {faults:#?}");
        assert!(faults[0].len() > start.len() + 5, "{faults:?}");
    }
}

#[test]
fn groups_must_be_a_partition() {
    let every = r#"["android", "ios", "ipad"], ["windows", "mac", "linux"]"#;
    let custom = |groups: String| format!("[login]\npolicy = \"custom\"\ngroups = [{groups}]\n");
    let good = custom(format!(r#"{every}, ["web", "miniprogram"]"#));
    effective(in_a_directory(Some(&good)).path(), &[], &[]);
    for (groups, word) in [
        (format!(r#"{every}, ["web"]"#), "miniprogram"),
        (format!(r#"{every}, ["web", "miniprogram", "mac"]"#), "mac"),
        (format!(r#"{every}, ["web"], ["miniprogram"]"#), "miniprogram"),
    ] {
        let faults = faults(Some(&custom(groups)), &[]);
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(faults[0].starts_with("config.toml:3:1: login.groups: "), "{faults:#?}");
        assert!(faults.iter().any(|fault| fault.contains(word)), "{faults:#?}");
    }
}

#[test]
fn each_missing_platform_is_named() {
    let faults = faults(Some("[login]\npolicy = \"custom\"\ngroups = []\n"), &[]);
    assert_eq!(faults.len(), 8, "{faults:#?}");
    for platform in presence_hub::presence::Platform::ALL {
        let told = faults.iter().any(|fault| fault.contains(&format!(": {platform} ")));
        assert!(told, "{platform}: {faults:#?}");
    }
}

#[test]
fn all_config_errors_are_reported_at_once() {
    let file = "[server]\nport = 1\nlisten = 2\n[liveness]\nweb_silence = \"1s\"\n";
    let variables = [("limits.subscriptions", "many"), ("nothing.here", "1")];
    let faults = faults(Some(file), &variables);
    let starts = [
        "config.toml:2:1: server.port: ",
        "config.toml:3:1: server.listen: ",
        "config.toml:5:1: liveness.web_silence: ",
        "PRESENCE_HUB__LIMITS__SUBSCRIPTIONS: ",
        "PRESENCE_HUB__NOTHING__HERE: ",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:#?}");
    for start in starts {
        assert!(faults.iter().any(|fault| fault.starts_with(start)), "{start}: {faults:#?}");
    }
}

#[test]
fn a_missing_config_file_is_an_error() {
    let directory = in_a_directory(None);
    let output = run(directory.path(), &["check-config", "--config", "absent.toml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complained(&output).starts_with("absent.toml: "), "{}", complained(&output));
}

#[test]
fn a_secret_of_the_wrong_type_is_not_printed() {
    for (section, key) in [
        ("auth", "secret"),
        ("auth", "secrets"),
        ("auth", "api_keys"),
        ("auth", "admin_keys"),
        ("auth", "viewer_keys"),
        ("webhook", "secrets"),
        ("tencent", "secret_key"),
        ("tencent", "callback_token"),
    ] {
        for value in
            ["7777777", "{ canary = \"7777777\" }", "[[\"7777777\"]]", "7777777.5", "\"7777777"]
        {
            let file = format!("[{section}]\n{key} = {value}\n");
            for fault in faults(Some(&file), &[]) {
                assert!(fault.starts_with("config.toml:2:"), "{fault}");
                assert!(!fault.contains("7777777"), "{fault}");
            }
        }
    }
    let lists = ["auth.api_keys", "auth.admin_keys", "auth.viewer_keys"];
    for (key, value) in lists.map(|key| (key, "canary-7777777-canary")) {
        let faults = faults(None, &[(key, value)]);
        let variable = format!("PRESENCE_HUB__{}: ", key.replace('.', "__").to_uppercase());
        assert!(faults.len() == 1 && faults[0].starts_with(&variable), "{faults:?}");
        assert!(!faults[0].contains("7777777"), "{faults:?}");
    }
    for file in ["auth = \"7777777\"\n", "[auth]\nsecrets = \"7777777\"\n"] {
        let faults = faults(Some(file), &[]);
        assert!(!faults[0].contains("7777777"), "{faults:?}");
    }
}
