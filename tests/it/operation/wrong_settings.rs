//! Error messages for invalid settings, word for word: each must say what to change.

use super::commands::{complained, run};
use super::configuration::faults;

/// Invalid files, and the error of each.
const FILES: &[(&str, &str)] = &[
    (
        "[traces]\nendpoint = \"localhost:4318\"\n",
        "config.toml:2:1: traces.endpoint: expected a URL with http or https, not localhost",
    ),
    (
        "[traces]\nendpoint = \"http://169.254.169.254/v1/traces\"\n",
        "config.toml:2:1: traces.endpoint: 169.254.169.254 is a link-local address, where clouds offer credentials, to which the hub never connects: use the address of your server",
    ),
    (
        "[traces]\nheaders = [\"x-tenant: presence\", \"Bearer tell-nobody\"]\n",
        r#"config.toml:2:1: traces.headers: traces.headers[1]: expected a header's name, a colon and its value, as in "authorization: Bearer ...""#,
    ),
    (
        "[traces]\nsample = 1.5\n",
        "config.toml:2:1: traces.sample: expected a share from 0 to 1, such as 0.01, got 1.5",
    ),
    (
        "[traces]\nservice_name = \"\"\n",
        r#"config.toml:2:1: traces.service_name: expected a name, such as "presence-hub""#,
    ),
    (
        "[liveness]\nweb_silence = 45\n",
        r#"config.toml:2:1: liveness.web_silence: expected a duration such as "20s", "7d" or "1500ms", got the number 45"#,
    ),
    (
        "[liveness]\nweb_silence = \"45\"\n",
        r#"config.toml:2:1: liveness.web_silence: expected a duration such as "20s", "7d" or "1500ms", got "45""#,
    ),
    (
        "[liveness]\nweb_ping = \"30s\"\n",
        "config.toml:2:1: liveness.web_ping: liveness.web_silence must be longer than twice liveness.web_ping, or one lost ping ends a session: expected more than 1m, got 1m",
    ),
    (
        "[server]\nlisten = \"localhost\"\n",
        r#"config.toml:2:1: server.listen: expected an IP address and a port such as "127.0.0.1:7800" or "[::]:7800", got "localhost""#,
    ),
    (
        "[server]\nlisten = \"0.0.0.0:7800\"\n",
        r#"config.toml:2:1: server.listen: other machines can reach `0.0.0.0:7800`, and without a secret the hub is in development mode, which listens on loopback only: set auth.secrets, or listen on 127.0.0.1"#,
    ),
    (
        "[server]\nproduction = \"yes\"\n",
        r#"config.toml:2:1: server.production: expected true or false, got "yes""#,
    ),
    (
        "[server]\nmax_connections = -1\n",
        "config.toml:2:1: server.max_connections: expected a whole number, 0 or more, got the number -1",
    ),
    (
        "[server]\nmax_connections = 0\n",
        "config.toml:2:1: server.max_connections: expected 1 or more, got 0",
    ),
    (
        "[server]\nmax_message_bytes = 100\n",
        "config.toml:2:1: server.max_message_bytes: expected 1024 or more, because a login must fit, got 100",
    ),
    (
        "[server]\nallowed_origins = \"https://app.example.com\"\n",
        r#"config.toml:2:1: server.allowed_origins: expected a list, got "https://app.example.com""#,
    ),
    (
        "[server]\nallowed_origins = [\"https://a.example\", \"https://app.example.com/path\"]\n",
        r#"config.toml:2:1: server.allowed_origins: allowed_origins[1]: "https://app.example.com/path" is not an origin: an origin has no path; write "https://app.example.com""#,
    ),
    (
        "[server]\nallowed_origins = [\"https://a.example\", 7]\n",
        "config.toml:2:1: server.allowed_origins: `server.allowed_origins[1]`: expected a text, got the number 7",
    ),
    (
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"proxy.example\"]\n",
        r#"config.toml:2:1: server.trusted_proxies: trusted_proxies[1]: expected an address or a network, such as "10.0.0.5" or "10.0.0.0/8", got "proxy.example""#,
    ),
    (
        "[server]\ntrusted_proxies = [\"::ffff:127.0.0.0/8\"]\n",
        r#"config.toml:2:1: server.trusted_proxies: trusted_proxies[0]: "::ffff:127.0.0.0/8" matches no IPv4 address: write IPv4 networks as IPv4, such as "127.0.0.0/8""#,
    ),
    (
        "[server]\ntrusted_proxies = [\"::ffff:10.0.0.7/95\"]\n",
        r#"config.toml:2:1: server.trusted_proxies: trusted_proxies[0]: "::ffff:10.0.0.7/95" matches no IPv4 address: write IPv4 networks as IPv4, such as "10.0.0.7""#,
    ),
    (
        "[server]\nallowed_origin = [\"https://app.example.com\"]\n",
        "config.toml:2:1: server.allowed_origin: not known here: expected one of `production`, `listen`, `allowed_origins`, `max_connections`, `max_message_bytes`, `handshake_timeout`, `keep_alive`, `drain`, `metrics_listen`, `admin_listen`, `trusted_proxies`, `tls_certificate`, `tls_key`, `plain_listen`",
    ),
    (
        "[server]\ntls_key = \"key.pem\"\n",
        "config.toml:2:1: server.tls_key: server.tls_certificate is missing: TLS needs both files",
    ),
    (
        "[server]\nplain_listen = \"127.0.0.1:7801\"\n",
        "config.toml:2:1: server.plain_listen: server.plain_listen is an address without TLS beside those with TLS, but the hub has no TLS: remove it, or set server.tls_certificate and server.tls_key",
    ),
    (
        "[server]\nkeep_alive = \"0s\"\n",
        "config.toml:2:1: server.keep_alive: expected more than 0s, got 0s",
    ),
    (
        "[sever]\nlisten = \"127.0.0.1:1\"\n",
        "config.toml:2:1: sever.listen: `sever` is not known here: expected one of `server`, `auth`, `login`, `liveness`, `visibility`, `limits`, `store`, `webhook`, `webhooks`, `outgoing`, `tencent`, `log`, `traces`",
    ),
    (
        "[login]\npolicy = \"singel\"\n",
        r#"config.toml:2:1: login.policy: expected one of "single", "dual", "triple", "multi", "custom", got "singel""#,
    ),
    (
        "[login]\npolicy = \"custom\"\ngroups = [[\"android\", \"android\"], [\"ios\", \"ipad\", \"linux\", \"mac\", \"miniprogram\", \"web\", \"windows\"]]\n",
        "config.toml:3:1: login.groups: android is listed twice: each platform must be in exactly one group, once",
    ),
    (
        "[login]\npolicy = \"custom\"\ngroups = [[\"web\", \"toaster\"]]\n",
        r#"config.toml:3:1: login.groups: `login.groups[0][1]`: expected one of android, ios, ipad, linux, mac, miniprogram, web, windows, got "toaster""#,
    ),
    (
        "[login]\ngroups = [[\"web\"]]\n",
        r#"config.toml:2:1: login.groups: login.groups count only with login.policy = "custom": set that, or remove the groups"#,
    ),
    (
        "[login.max_instances]\nweb = 101\n",
        "config.toml:2:1: login.max_instances.web: expected a whole number from 1 to 100, got the number 101",
    ),
    (
        "[login.max_instances]\nweb = \"2\"\n",
        "config.toml:2:1: login.max_instances.web: expected a whole number from 1 to 100, got \"2\"",
    ),
    (
        "[login.max_instances]\nweb = 300\n",
        "config.toml:2:1: login.max_instances.web: expected a whole number from 1 to 100, got the number 300",
    ),
    (
        "[login.max_instances]\ntoaster = 1\n",
        r#"config.toml:2:1: login.max_instances.toaster: expected one of android, ios, ipad, linux, mac, miniprogram, web, windows, got "toaster""#,
    ),
    (
        "[auth]\nsecret = \"a secret of thirty-two characters\"\nsecrets = [\"a secret of thirty-two characters\"]\n",
        "config.toml:3:1: auth.secrets: auth.secret and auth.secrets are both set: remove auth.secret, and list its secret in auth.secrets if tokens signed with it are to be accepted (the first entry signs)",
    ),
    (
        "[auth]\nsecrets = [\"a secret of thirty-two characters\", \"a secret of thirty-two characters\"]\n",
        "config.toml:2:1: auth.secrets: auth.secrets[1] is the same as auth.secrets[0]: remove one of them",
    ),
    (
        "[auth]\nsecret = 12345678\n",
        r#"config.toml:2:1: auth.secret: expected a text; write auth.secret = "..." (what was given is not shown)"#,
    ),
    (
        "[auth]\nalgorithm = \"HS512\"\n",
        r#"config.toml:2:1: auth.algorithm: expected one of "HS256", "RS256", "ES256", "EdDSA", got "HS512""#,
    ),
    (
        "[webhook]\nurl = \"app.example.com/presence\"\n",
        "config.toml:2:1: webhook.url: expected a full URL, such as https://app.example.com/presence",
    ),
    (
        "[webhook]\nurl = \"https://app.example.com/presence\"\n",
        r#"config.toml:2:1: webhook.url: webhook.secrets is empty, so receivers could not verify the sender: add one, "whsec_" and what `openssl rand -base64 32` prints"#,
    ),
    (
        "[webhook]\nurl = \"http://169.254.169.254/presence\"\n",
        "config.toml:2:1: webhook.url: 169.254.169.254 is a link-local address, where clouds offer credentials, to which the hub never connects: use the address of your server",
    ),
    (
        "[webhook]\nurl = \"http://10.0.0.5/presence\"\n[outgoing]\nallow_private = false\n",
        "config.toml:2:1: webhook.url: 10.0.0.5 is a private address, and outgoing.allow_private is false: use a public address, or set outgoing.allow_private = true",
    ),
    (
        "[auth]\nalgorithm = \"ES256\"\njwks_url = \"http://[fd00:ec2::254]/keys\"\n",
        "config.toml:3:1: auth.jwks_url: fd00:ec2::254 is the address of a cloud's metadata service, to which the hub never connects: use the address of your server",
    ),
    (
        "[auth]\nalgorithm = \"ES256\"\njwks_url = \"https://a:b@login.example.com/keys\"\n",
        "config.toml:3:1: auth.jwks_url: a URL with a name or a password is not supported, because URLs are logged: remove them",
    ),
    (
        "[[webhooks]]\nname = \"a b\"\nurl = \"http://127.0.0.1/x\"\n",
        r#"config.toml:1:3: webhooks: `webhooks[0].name`: expected a name of 1 to 32 letters a to z, digits, `-` and `_`, got "a b""#,
    ),
    (
        "[[webhooks]]\nname = \"a\"\nurl = \"http://127.0.0.1/x\"\n",
        r#"config.toml:1:3: webhooks: webhooks[0].url (a): webhooks[0].secrets is empty, so receivers could not verify the sender: add one, "whsec_" and what `openssl rand -base64 32` prints"#,
    ),
    (
        "[webhook]\ncauses = [\"login\", \"idel\"]\n",
        r#"config.toml:2:1: webhook.causes: `webhook.causes[1]`: expected one of "login", "resume", "logout", "close", "silence", "background", "exit", "expired", "kicked", "token_expired", "node_lost", "custom", "recovered", "visibility", "idle", "active", got "idel""#,
    ),
    (
        "[[webhooks]]\nname = \"a\"\nurl = \"http://127.0.0.1/x\"\ncauses = [\"idel\"]\n",
        r#"config.toml:1:3: webhooks: `webhooks[0].causes[0]`: expected one of "login", "resume", "logout", "close", "silence", "background", "exit", "expired", "kicked", "token_expired", "node_lost", "custom", "recovered", "visibility", "idle", "active""#,
    ),
    ("[webhook]\nparallel = 65\n", "config.toml:2:1: webhook.parallel: expected 1 to 64, got 65"),
    (
        "[webhook]\nmax_backlog = \"lots\"\n",
        r#"config.toml:2:1: webhook.max_backlog: expected a size such as "10GiB", got "lots""#,
    ),
    (
        "[tencent]\nsdk_app_id = 1400000000\n",
        "config.toml:2:1: tencent.sdk_app_id: the application's secret key is missing: set tencent.secret_key, or tencent.sdk_app_id = 0 for no compatible API",
    ),
    (
        "[log]\nformat = \"xml\"\n",
        r#"config.toml:2:1: log.format: expected "text" or "json", got "xml""#,
    ),
    (
        "[log]\nfilter = \"hub=lots\"\n",
        r#"config.toml:2:1: log.filter: expected levels such as "info" or "presence_hub=debug,warn", got "hub=lots" (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5)"#,
    ),
    ("[log\n", "config.toml:1:5: unclosed table, expected `]`"),
    ("server = 5\n", "config.toml:1:1: server: expected a section, got the number 5"),
];

#[test]
fn config_errors_name_the_key_the_given_value_and_the_expected_one() {
    let mut wrong = Vec::new();
    for (file, expected) in FILES {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("config.toml"), file).expect("to write");
        let output = run(directory.path(), &["check-config"], &[]);
        assert_eq!(output.status.code(), Some(2), "{file}");
        if complained(&output).trim_end() != *expected {
            wrong.push(format!("{file:?}: {}", complained(&output).trim_end()));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_proxys_login_needs_headers_lists_and_an_address_of_its_own() {
    let with = |more: &str, server: &str| {
        let file = format!("[auth]\n{more}[server]\n{server}");
        faults(Some(&file), &[])
    };
    let server = "trusted_proxies = [\"10.0.0.5\"]\nadmin_listen = \"127.0.0.1:1\"\n";
    let headers = "proxy_user_header = \"X-User\"\nproxy_role_header = \"X-Groups\"\n";
    let whole = format!("{headers}proxy_admins = [\"ops\"]\n");
    let rows = [
        (whole.clone(), "admin_listen = \"127.0.0.1:1\"\n", "set server.trusted_proxies"),
        (whole, "trusted_proxies = [\"10.0.0.5\"]\n", "set server.admin_listen"),
        (headers.to_owned(), server, "no user could log in"),
        ("proxy_viewers = [\"ops\"]\n".to_owned(), server, "auth.proxy_viewers counts only with"),
        ("proxy_user_header = \"X-User\"\nproxy_admins = [\"a\"]\n".to_owned(), server, "is empty"),
        (headers.replace("X-User", "X User"), server, "expected the name of a header"),
        (headers.replace("X-User", "X-Forwarded-For"), server, "has another meaning"),
        (headers.replace("X-Groups", "authorization"), server, "has another meaning"),
        (format!("{headers}proxy_admins = [\" ops\"]\n"), server, "white space at its ends"),
        (format!("{headers}proxy_viewers = [\"\"]\n"), server, "white space at its ends"),
    ];
    for (auth, server, expected) in rows {
        let found = with(&auth, server);
        assert_eq!(found.len(), 1, "{auth}{server}: {found:#?}");
        assert!(found[0].contains(expected), "{expected}: {found:#?}");
        // A setting that is missing has no line.
        let start = if expected == "is empty" { "auth.proxy_role_header" } else { "config.toml:" };
        assert!(found[0].starts_with(start), "{found:#?}");
    }
}

#[test]
fn the_quota_of_the_log_is_not_too_small() {
    let found = faults(Some("[store]\nlog_bytes_per_user = \"1KiB\"\n"), &[]);
    assert_eq!(found.len(), 1, "{found:#?}");
    let start = "config.toml:2:1: store.log_bytes_per_user: expected 64.0 KiB or more";
    assert!(found[0].starts_with(start), "{found:#?}");
}
