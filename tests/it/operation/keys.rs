//! Secrets and keys in the configuration: which are refused, and the errors.

use super::configuration::{effective, faults, in_a_directory};
use crate::support::{SECRET, Server};

const OTHER: &str = "another secret of at least 32 bytes";

/// Asserts that a file has one fault, on its second line, with all of these texts and no secret.
fn check(file: &str, key: &str, parts: &[&str]) {
    let found = faults(Some(file), &[]);
    assert_eq!(found.len(), 1, "{file}: {found:#?}");
    assert!(found[0].starts_with(&format!("config.toml:2:1: {key}: ")), "{file}: {found:#?}");
    for part in parts {
        assert!(found[0].contains(part), "{part}: {found:#?}");
    }
    let lines = file.lines().skip(1);
    let texts = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    for secret in texts.filter(|text| text.len() > 4 && !text.ends_with(".pem") && *text != "ES256")
    {
        assert!(!found[0].contains(secret.trim()), "{secret} is printed: {found:#?}");
    }
}

#[test]
fn an_invalid_secret_is_refused_with_its_index_and_advice() {
    let rows = [
        (format!("\"{SECRET}\", \"too short\""), "auth.secrets[1] has 9 bytes", "at least 32"),
        (format!("\"\", \"{SECRET}\""), "auth.secrets[0] is empty", "remove the entry"),
        (format!("\"{SECRET}\", \"\""), "auth.secrets[1] is empty", "openssl rand -base64 32"),
        (
            format!("\"{SECRET}\", \"{OTHER}\", \"{SECRET}\""),
            "auth.secrets[2] is the same as auth.secrets[0]",
            "remove one of them",
        ),
        (format!("\"{SECRET}\\n\""), "auth.secrets[0] ends with white space", "remove it"),
        (format!("\" {SECRET}\""), "auth.secrets[0] begins with white space", "remove it"),
        (format!("\"{SECRET}\\u0000x\""), "auth.secrets[0] contains a control character", "38"),
    ];
    for (list, what, advice) in rows {
        check(&format!("[auth]\nsecrets = [{list}]\n"), "auth.secrets", &[what, advice]);
    }
    check("[auth]\nsecret = \"short\"\n", "auth.secret", &["auth.secret has 5 bytes", "32"]);
    let ended = format!("[auth]\nsecret = \"{SECRET}\\r\\n\"\n");
    check(&ended, "auth.secret", &["auth.secret ends with white space or a line break"]);

    let many: Vec<_> = (0..17).map(|n| format!("\"{SECRET} {n}\"")).collect();
    let many = format!("[auth]\nsecrets = [{}]\n", many.join(", "));
    check(&many, "auth.secrets", &["has 17 entries", "at most 16"]);
}

#[test]
fn the_single_setting_and_the_list_cannot_both_be_set() {
    let file = format!("[auth]\nsecrets = [\"{OTHER}\"]\nsecret = \"{SECRET}\"\n");
    check(&file, "auth.secrets", &["auth.secret and auth.secrets are both set", "remove"]);
    let file = "[auth]\npublic_keys = [\"a.pem\"]\nalgorithm = \"RS256\"\npublic_key = \"b.pem\"\n";
    let found = faults(Some(file), &[]);
    assert!(found[0].contains("auth.public_key and auth.public_keys are both set"), "{found:#?}");

    let list = format!("[\"{OTHER}\"]");
    let both = [("auth.secret", SECRET), ("auth.secrets", list.as_str())];
    let found = faults(None, &both);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("PRESENCE_HUB__AUTH__SECRETS: "), "{found:#?}");
}

#[test]
fn several_secrets_are_read_from_a_variable_and_hidden() {
    let list = format!("[\"{SECRET}\", \"{OTHER}\"]");
    let printed = effective(in_a_directory(None).path(), &[], &[("auth.secrets", &list)]);
    assert!(!printed.contains(SECRET) && !printed.contains(OTHER), "{printed}");
    assert!(printed.contains("secrets = [\"(hidden)\", \"(hidden)\"]"), "{printed}");

    for wrong in [SECRET, "[1, 2]", "{ a = 1 }"] {
        let found = faults(None, &[("auth.secrets", wrong)]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with("PRESENCE_HUB__AUTH__SECRETS: "), "{found:#?}");
        assert!(found[0].contains("write auth.secrets = [\"...\", \"...\"]"), "{found:#?}");
        assert!(!found[0].contains(SECRET), "{found:#?}");
    }
}

#[test]
fn secrets_and_public_keys_must_fit_the_algorithm() {
    let with = |more: &str| format!("[auth]\nalgorithm = \"ES256\"\n{more}");
    let secret = with(&format!("secrets = [\"{SECRET}\"]\n"));
    let found = faults(Some(&secret), &[]);
    assert!(found[0].starts_with("config.toml:3:1: auth.secrets: "), "{found:#?}");
    assert!(found[0].contains("set auth.algorithm = \"HS256\""), "{found:#?}");
    let key = ["auth.public_keys (PEM files) or auth.jwks_url", "neither is set"];
    check(&with(""), "auth.algorithm", &key);
    let both = with("public_keys = [\"a.pem\"]\njwks_url = \"https://x.example\"\n");
    check(&both, "auth.algorithm", &["both are set"]);
    check(
        "[auth]\npublic_keys = [\"a.pem\"]\n",
        "auth.public_keys",
        &["auth.algorithm is HS256", "set auth.algorithm to RS256, ES256 or EdDSA"],
    );
}

#[test]
fn issuer_and_audience_with_white_space_are_refused() {
    for key in ["issuer", "audience"] {
        for value in ["https://login.example.com ", "\\tpresence", "pre\\nsence"] {
            let file = format!("[auth]\n{key} = \"{value}\"\n");
            let found = faults(Some(&file), &[]);
            let start = format!("config.toml:2:1: auth.{key}: auth.{key} is ");
            assert!(found[0].starts_with(&start), "{found:#?}");
            assert!(found[0].contains("remove white space"), "{found:#?}");
        }
    }
}

#[test]
fn an_invalid_api_key_is_refused_with_its_index() {
    let good = "an-api-key-of-25-letters";
    let rows = [
        ("short", "has 5 characters", "at least 16"),
        ("", "is empty", "remove the entry"),
        ("an-api-key-of-25-letters\\n", "ends with white space or a line break", "remove it"),
        (" an-api-key-of-25-letters", "begins with white space", "remove it"),
        ("an-api-key\\nof-25-letters", "control character", "position 11"),
        ("an-api-key\\tof-25-letters", "control character", "position 11"),
        ("an-api-key-of-25-lettérs", "not ASCII", "position 22"),
    ];
    for list in ["api_keys", "admin_keys", "viewer_keys"] {
        for (key, what, advice) in rows {
            let file = format!("[auth]\n{list} = [\"{good}\", \"{key}\"]\n");
            let name = format!("auth.{list}[1] ");
            check(&file, &format!("auth.{list}"), &[&name, what, advice]);
        }
    }
    let file = format!("[auth]\napi_keys = [\"{good}\", \"x-{good}\", \"{good}\"]\n");
    check(&file, "auth.api_keys", &["auth.api_keys[2] is the same key as auth.api_keys[0]"]);
}

/// The SHA-256 of `an-api-key-of-ours-abc`, as `sha256sum` prints it.
const HASH: &str = "d6a4561f2a2a9bc0a3e80e8988684dac8a7eaf7ed1eef949330f2eafe94db054";
const HASHED_KEY: &str = "an-api-key-of-ours-abc";

#[test]
fn an_invalid_hash_of_a_key_is_refused_with_its_index() {
    let hex = "0123456789abcdef".repeat(4);
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let rows = [
        (format!("sha256:{}", &hex[1..]), "is not a hash", "got 63 characters; hash a key with"),
        (format!("sha256:{hex}0"), "expected 64 hexadecimal digits", "got 65 characters"),
        (format!("sha256:{}g", &hex[1..]), "is not a hash", "not hexadecimal digits"),
        (format!("sha256:{hex}  -"), "is not a hash", "printf %s \"$KEY\" | sha256sum"),
        ("sha256:12".to_owned(), "is not a hash", "got 2 characters"),
        (format!("SHA256: {hex}"), "is not a hash", "got 65 characters"),
        (format!("sha256:{empty}"), "is the hash of an empty text", "variable"),
    ];
    for list in ["api_keys", "admin_keys", "viewer_keys"] {
        for (key, what, advice) in &rows {
            let file = format!("[auth]\n{list} = [\"sha256:{hex}\", \"{key}\"]\n");
            let name = format!("auth.{list}[1] ");
            check(&file, &format!("auth.{list}"), &[&name, what, advice]);
        }
    }
}

#[test]
fn a_hash_and_its_key_are_recognised_as_the_same() {
    let upper = format!("SHA256:{}", HASH.to_uppercase());
    for [one, other] in [
        [format!("sha256:{HASH}"), HASHED_KEY.to_owned()],
        [HASHED_KEY.to_owned(), upper.clone()],
        [format!("sha256:{HASH}"), upper],
    ] {
        let file = format!("[auth]\napi_keys = [\"{one}\", \"{other}\"]\n");
        check(&file, "auth.api_keys", &["auth.api_keys[1] is the same key as auth.api_keys[0]"]);
    }
}

#[tokio::test]
async fn a_key_given_as_its_hash_is_accepted_and_its_hash_is_not() {
    let (viewers, apis) = (format!("[\"sha256:{HASH}\"]"), format!("[\"{HASHED_KEY}\"]"));
    let role = async |server: &Server, key: &str| {
        let request = server.http("GET", "/v1/admin/session").bearer_auth(key);
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let body: serde_json::Value = answer.json().await.expect("JSON");
        (status, body["role"].as_str().unwrap_or_default().to_owned())
    };
    let server = Server::start(&[("auth.viewer_keys", &viewers)]);
    assert_eq!(role(&server, HASHED_KEY).await, (200, "viewer".to_owned()));
    for wrong in [HASH, &format!("sha256:{HASH}"), "an-api-key-of-ours-abd"] {
        assert_eq!(role(&server, wrong).await.0, 401, "{wrong}");
    }
    let login = serde_json::json!({ "key": HASHED_KEY });
    let login = server.http("POST", "/v1/admin/session").json(&login).send().await;
    assert_eq!(login.expect("an answer").status(), 200);
    // The plain key in another list gives it the greater role.
    let server = Server::start(&[("auth.viewer_keys", &viewers), ("auth.api_keys", &apis)]);
    server.until_logged(&["auth.viewer_keys[0] is the same key as auth.api_keys[0]"]).await;
    assert_eq!(role(&server, HASHED_KEY).await, (200, "api".to_owned()));
}

#[tokio::test]
async fn a_key_in_two_lists_has_the_greater_role_and_a_warning() {
    let (viewers, admins) =
        ("[\"a-viewer-key-of-ours\", \"an-admin-key-of-ours\"]", "[\"an-admin-key-of-ours\"]");
    let server = Server::start(&[("auth.viewer_keys", viewers), ("auth.admin_keys", admins)]);
    let words = "auth.viewer_keys[1] is the same key as auth.admin_keys[0]";
    let line = server.until_logged(&["WARN", words, "greater role"]).await;
    assert!(!line.contains("an-admin-key-of-ours"), "{line}");
    let config = server.http("GET", "/v1/config").bearer_auth("an-admin-key-of-ours").send().await;
    assert_eq!(config.expect("an answer").status(), 200);
}

#[test]
fn tencent_and_webhook_secrets_are_checked_too() {
    let file = "[tencent]\nsecret_key = \"a-secret-key-of-theirs\\n\"\nsdk_app_id = 1400000000\n";
    check(file, "tencent.secret_key", &["ends with white space or a line break"]);
    let file = "[tencent]\ncallback_token = \" a-token-of-theirs\"\n";
    check(file, "tencent.callback_token", &["begins with white space"]);
    let good = crate::support::WEBHOOK_SECRET;
    let file = format!("[webhook]\nsecrets = [\"{good}\", \"{good}\\n\"]\n");
    check(&file, "webhook.secrets", &["webhook.secrets[1] ends with white space"]);
    let file = format!("[webhook]\nsecrets = [\"{good}\", \"no prefix at all\"]\n");
    check(&file, "webhook.secrets", &["webhook.secrets[1]", "whsec_"]);
}

#[tokio::test]
async fn secret_parts_of_urls_are_hidden_everywhere() {
    let jwks = "http://127.0.0.1:9/keys/set.json?key=canary-2#canary-3";
    let webhook = "http://127.0.0.1:9/hooks/presence?sig=canary-4#canary-5";
    let secrets = format!("[\"{}\"]", crate::support::WEBHOOK_SECRET);
    let admins = "[\"an-admin-key-of-ours\"]";
    let settings = [
        ("auth.secret", ""),
        ("auth.algorithm", "ES256"),
        ("auth.jwks_url", jwks),
        ("auth.admin_keys", admins),
        ("webhook.url", webhook),
        ("webhook.secrets", &secrets),
        ("log.filter", "trace"),
    ];
    let printed = effective(in_a_directory(None).path(), &[], &settings);
    for part in [
        "jwks_url = \"http://127.0.0.1:9/keys/set.json?(hidden)#(hidden)\"",
        "url = \"http://127.0.0.1:9/hooks/presence?(hidden)#(hidden)\"",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }

    let server = Server::start(&settings);
    let get = async |path: &str| {
        let request = server.http("GET", path).bearer_auth("an-admin-key-of-ours");
        request.send().await.expect("an answer").text().await.expect("a body")
    };
    let config = get("/v1/config").await;
    assert!(config.contains("127.0.0.1:9/keys/set.json?(hidden)"), "{config}");
    // The login's key fetch and the webhook's test both fail.
    let mut client = server.connect().await;
    let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhIn0.AAAA";
    let login = serde_json::json!({
        "type": "login", "token": token, "platform": "web", "device": "d",
    });
    let reply = client.request(login).await.to_string();
    assert!(reply.contains("unavailable"), "{reply}");
    let (_, tested) = server.call("POST", "/v1/webhooks/test", None).await;
    server.until_logged(&["the JWK set cannot be fetched"]).await;
    let all = [printed, config, get("/v1/webhooks").await, reply, tested.to_string(), server.log()];
    for text in all {
        let line = text.lines().find(|line| line.contains("canary"));
        assert_eq!(line, None);
    }

    for (key, value) in [
        ("webhook.url", "https://name:canary@app.example.com/"),
        ("webhook.url", "ftp://app.example.com/?canary"),
        ("webhook.url", "//canary"),
        ("webhook.url", "[\"https://app.example.com/?canary\"]"),
    ] {
        let found = faults(None, &[(key, value)]);
        assert!(!found.concat().contains("canary"), "{found:#?}");
    }
    for value in
        ["ftp://idp.example.com/?canary", "https://canary@x", "//canary", "{ a = \"canary\" }"]
    {
        let found = faults(None, &[("auth.algorithm", "RS256"), ("auth.jwks_url", value)]);
        assert!(!found.concat().contains("canary"), "{found:#?}");
    }
}

#[test]
fn a_url_of_the_wrong_type_is_not_printed() {
    for setting in ["[webhook]\nurl", "[auth]\njwks_url"] {
        for wrong in ["[\"http://u:canary@x/?token=canary\"]", "{ a = \"canary\" }"] {
            let found = faults(Some(&format!("{setting} = {wrong}\n")), &[]);
            assert!(!found.join("\n").contains("canary"), "{found:#?}");
        }
    }
}
