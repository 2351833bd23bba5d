use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::{SOON, Server, now_millis, now_secs};

/// What a pair of keys is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Rsa,
    Ec,
    Ed,
}

impl Kind {
    const fn algorithm(self) -> Algorithm {
        match self {
            Self::Rsa => Algorithm::RS256,
            Self::Ec => Algorithm::ES256,
            Self::Ed => Algorithm::EdDSA,
        }
    }

    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Rsa => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Self::Ec => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Self::Ed => &["-algorithm", "ED25519"],
        }
    }
}

/// A pair of keys in PEM files, made by OpenSSL.
pub(super) struct Pair {
    kind: Kind,
    directory: TempDir,
}

impl Pair {
    pub(super) fn new(kind: Kind) -> Self {
        let pair = Self { kind, directory: tempfile::tempdir().expect("a directory") };
        let path = pair.directory.path();
        openssl(path, &[&["genpkey", "-out", "private.pem"], kind.options()].concat());
        openssl(path, &["pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]);
        pair
    }

    pub(super) fn public(&self) -> String {
        self.directory.path().join("public.pem").display().to_string()
    }

    fn encoding(&self) -> EncodingKey {
        let pem = std::fs::read(self.directory.path().join("private.pem")).expect("a key");
        let key = match self.kind {
            Kind::Rsa => EncodingKey::from_rsa_pem(&pem),
            Kind::Ec => EncodingKey::from_ec_pem(&pem),
            Kind::Ed => EncodingKey::from_ed_pem(&pem),
        };
        key.expect("a key")
    }

    pub(super) fn sign(&self, user: &str, kid: Option<&str>) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.kind.algorithm()) };
        encode(&header, &claims(user), &self.encoding()).expect("a token")
    }

    pub(super) fn jwk(&self, kid: &str) -> Jwk {
        let mut jwk =
            Jwk::from_encoding_key(&self.encoding(), self.kind.algorithm()).expect("a key");
        jwk.common.key_id = Some(kid.to_owned());
        jwk
    }
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output();
    let output = output.expect("openssl to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn claims(user: &str) -> Value {
    json!({ "sub": user, "iat": now_secs(), "exp": now_secs() + 3600 })
}

/// Logs in; returns the code of the refusal.
pub(super) async fn attempt(server: &Server, token: &str) -> Result<(), String> {
    let mut client = server.connect().await;
    let login = json!({ "type": "login", "token": token, "platform": "linux", "device": "desk" });
    let reply = client.request(login).await;
    match reply["error"]["code"].as_str() {
        Some(code) => Err(code.to_owned()),
        None => Ok(()),
    }
}

#[tokio::test]
async fn a_public_key_verifies_only_its_own_algorithm() {
    for (name, kind) in [("RS256", Kind::Rsa), ("ES256", Kind::Ec), ("EdDSA", Kind::Ed)] {
        let pair = Pair::new(kind);
        let server = Server::start(&[
            ("auth.algorithm", name),
            ("auth.secret", ""),
            ("auth.public_key", &pair.public()),
        ]);
        assert_eq!(attempt(&server, &pair.sign("ann", None)).await, Ok(()), "{name}");
        assert_eq!(attempt(&server, &pair.sign("ann", Some("any"))).await, Ok(()), "{name}");

        let stranger = Pair::new(kind).sign("ann", None);
        // The public key taken for a secret, as it was in many a library.
        let public = std::fs::read(pair.public()).expect("a key");
        let secret = EncodingKey::from_secret(&public);
        let confused = encode(&Header::default(), &claims("ann"), &secret).expect("a token");
        for token in [stranger, confused] {
            let refused = Err("invalid_token".to_owned());
            assert_eq!(attempt(&server, &token).await, refused, "{name}");
        }
    }
}

/// Where a JWK set is fetched.
pub(super) struct KeyServer {
    pub(super) url: String,
    set: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    pub(super) async fn start(keys: &[Jwk]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let url = format!("http://{}/keys.json", listener.local_addr().expect("an address"));
        let this = Self { url, set: Arc::default(), asked: Arc::default() };
        this.offer(keys);
        let (set, asked) = (Arc::clone(&this.set), Arc::clone(&this.asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await.expect("a request");
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = set.lock().clone();
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        this
    }

    pub(super) fn offer(&self, keys: &[Jwk]) {
        self.answer(&json!({ "keys": keys }).to_string());
    }

    /// Answers with a body as it is written.
    pub(super) fn answer(&self, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n");
        *self.set.lock() = format!("{head}\r\n{body}");
    }

    pub(super) fn fail(&self) {
        let head = "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        head.clone_into(&mut self.set.lock());
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn hub(&self, algorithm: &str) -> Server {
        Server::start(&[
            ("auth.algorithm", algorithm),
            ("auth.secret", ""),
            ("auth.jwks_url", &self.url),
        ])
    }
}

#[tokio::test]
async fn a_key_set_is_fetched_once_and_again_for_a_new_kid() {
    let (one, two) = (Pair::new(Kind::Ec), Pair::new(Kind::Ec));
    let keys = KeyServer::start(&[one.jwk("one")]).await;
    let server = keys.hub("ES256");
    assert_eq!(keys.asked(), 0, "nobody asked yet");
    let began = now_millis();
    for _ in 0..3 {
        assert_eq!(attempt(&server, &one.sign("ann", Some("one"))).await, Ok(()));
    }
    assert_eq!(keys.asked(), 1);
    let invalid = Err("invalid_token".to_owned());
    assert_eq!(attempt(&server, &two.sign("ann", Some("one"))).await, invalid);

    // Keys made up, as many as one likes, are no reason to ask more often.
    keys.offer(&[one.jwk("one"), two.jwk("two")]);
    for n in 0..30 {
        let refused = attempt(&server, &two.sign("ann", Some(&format!("made-up-{n}")))).await;
        assert!(refused.is_err());
    }
    let lasted = usize::try_from(now_millis() - began).expect("a short time");
    assert!(keys.asked() <= 2 + lasted / 5000, "asked {} times in {lasted} ms", keys.asked());

    // Whoever has a new key is never told that its token is no good, only to come again.
    let login = async {
        while let Err(code) = attempt(&server, &two.sign("ann", Some("two"))).await {
            assert_eq!(code, "unavailable");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, login).await.expect("the new key to be fetched");
    assert_eq!(attempt(&server, &one.sign("ann", Some("one"))).await, Ok(()));
}

#[tokio::test]
async fn login_is_unavailable_while_the_key_set_cannot_be_fetched() {
    let pair = Pair::new(Kind::Ed);
    let keys = KeyServer::start(&[pair.jwk("one")]).await;
    keys.fail();
    let server = keys.hub("EdDSA");
    let token = pair.sign("ann", Some("one"));
    for _ in 0..3 {
        let mut client = server.connect().await;
        let login = json!({ "type": "login", "token": token, "platform": "linux", "device": "d" });
        assert_eq!(client.error(login).await, "unavailable");
        assert_eq!(client.until_closed().await, (vec![], Some(4006)));
    }
    server.until_logged(&["the JWK set cannot be fetched"]).await;
}

#[tokio::test]
async fn a_token_without_kid_is_accepted_and_a_kid_of_another_algorithm_is_not() {
    let (ed, rsa) = (Pair::new(Kind::Ed), Pair::new(Kind::Rsa));
    let mut nameless = rsa.jwk("");
    nameless.common.key_id = None;
    let keys = KeyServer::start(&[nameless, ed.jwk("ed")]).await;
    let server = keys.hub("RS256");
    assert_eq!(attempt(&server, &rsa.sign("ann", None)).await, Ok(()));
    let invalid = Err("invalid_token".to_owned());
    assert_eq!(attempt(&server, &ed.sign("ann", Some("ed"))).await, invalid, "its algorithm");
    assert_eq!(attempt(&server, &rsa.sign("ann", Some("ed"))).await, invalid, "its key");
}

#[tokio::test]
async fn a_token_that_any_of_several_public_keys_verifies_is_accepted() {
    for (name, kind) in [("RS256", Kind::Rsa), ("ES256", Kind::Ec), ("EdDSA", Kind::Ed)] {
        let pairs = [Pair::new(kind), Pair::new(kind)];
        let files: Vec<_> = pairs.iter().map(Pair::public).collect();
        let files = format!("{files:?}");
        let server = Server::start(&[
            ("auth.algorithm", name),
            ("auth.secret", ""),
            ("auth.public_keys", &files),
        ]);
        for pair in &pairs {
            assert_eq!(attempt(&server, &pair.sign("ann", None)).await, Ok(()), "{name}");
            assert_eq!(attempt(&server, &pair.sign("ann", Some("any"))).await, Ok(()), "{name}");
        }
        let stranger = Pair::new(kind).sign("ann", None);
        assert_eq!(attempt(&server, &stranger).await, Err("invalid_token".into()), "{name}");
    }
}

#[test]
fn an_unusable_public_key_is_refused_at_startup() {
    let (ec, rsa) = (Pair::new(Kind::Ec), Pair::new(Kind::Rsa));
    let path = ec.directory.path();
    let make = |name: &str, options: &[&str]| {
        let private = format!("{name}-private.pem");
        openssl(path, &[&["genpkey", "-out", &private], options].concat());
        openssl(path, &["pkey", "-in", &private, "-pubout", "-out", &format!("{name}.pem")]);
        path.join(format!("{name}.pem")).display().to_string()
    };
    let p384 = make("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let weak = make("weak", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    std::fs::write(path.join("text.pem"), "no key at all\n").expect("to write");
    let text = path.join("text.pem").display().to_string();
    let private = |pair: &Pair| pair.directory.path().join("private.pem").display().to_string();
    let rows = [
        ("ES256", p384, "an EC public key on the curve P-256"),
        ("ES256", rsa.public(), "an EC public key on the curve P-256"),
        ("RS256", weak, "an RSA public key of 2048 to 8192 bits"),
        ("EdDSA", ec.public(), "an Ed25519 public key"),
        ("RS256", private(&rsa), "-pubout"),
        ("ES256", private(&ec), "-pubout"),
        ("RS256", text, "-----BEGIN PUBLIC KEY-----"),
        ("RS256", "absent.pem".to_owned(), "absent.pem: No such file"),
        ("RS256", String::new(), "the name of the file is empty"),
    ];
    for (algorithm, file, part) in rows {
        let good = if algorithm == "ES256" { ec.public() } else { rsa.public() };
        let files = match algorithm {
            "EdDSA" => format!("[{file:?}]"),
            _ => format!("[{good:?}, {file:?}]"),
        };
        let settings = [("auth.algorithm", algorithm), ("auth.public_keys", &files)];
        let output = crate::support::command(path, &settings).arg("check-config").output();
        let output = output.expect("the command to run");
        assert_eq!(output.status.code(), Some(2), "{algorithm} {file}");
        let said = String::from_utf8(output.stderr).expect("a text");
        let index = if algorithm == "EdDSA" { 0 } else { 1 };
        let start = format!("PRESENCE_HUB__AUTH__PUBLIC_KEYS: auth.public_keys[{index}]: ");
        assert!(said.starts_with(&start) && said.contains(part), "{algorithm} {file}: {said}");
    }
}
