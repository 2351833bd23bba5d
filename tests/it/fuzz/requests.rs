//! Messages of clients: `wire::parse`.

use presence_hub::wire::{ErrorCode, PartialLogin, Request, TEXT_BYTES_MAX, USERS_MAX, parse};
use serde_json::Value;

use super::engine::fuzz;

const ID_MAX: u64 = (1 << 53) - 1;
/// The longest explanation: one shows at most 60 characters of what was given.
const EXPLANATION_BYTES_MAX: usize = 1024;
const WORDS: &str = r#"
    "type": "id": "login" "subscribe" "unsubscribe" "query" "background" "foreground" "set"
    "idle" "active" "for_ms":300000 "idle_ms":
    "refresh" "ping" "sessions" "kick" "logout" "users":[ "all":true "reason":"exit"
    "custom":null "token":" "platform":"web" "device":" "resume":" "app":" "session":" { } [ ] ,
    \ud800 9007199254740992 -1 1e400 null"#;

#[test]
fn requests() {
    fuzz("requests", WORDS, |input| check(&String::from_utf8_lossy(input)));
}

fn check(text: &str) -> String {
    let partial = PartialLogin::of(text);
    // `None` also for what only an unknown field contains, such as a number that is too large.
    let value: Option<Value> = serde_json::from_str(text).ok();
    match parse(text) {
        Ok((id, request)) => {
            assert!(id <= ID_MAX);
            if let Some(value) = value {
                assert_eq!((&value["id"], &value["type"]), (&id.into(), &name(&request).into()));
                if let Request::Login(login) = &request {
                    assert_eq!(partial.token.as_ref(), Some(&login.token));
                    assert_eq!(partial.platform, Some(login.platform));
                }
            }
            check_bounds(&request);
            name(&request).to_owned()
        }
        Err(malformed) => {
            if let (Some(value), Some(id)) = (&value, malformed.id) {
                assert_eq!(value["id"], id);
            }
            let error = malformed.error;
            let is_type_known = error.code != ErrorCode::UnknownType;
            assert!(is_type_known || malformed.counts, "an unknown type counts");
            assert!((1..EXPLANATION_BYTES_MAX).contains(&error.message.len()), "{}", error.message);
            let (says, _) = error.message.split_once("got").unwrap_or((&error.message, ""));
            let says: String = says.chars().filter(|c| c.is_alphabetic()).take(60).collect();
            format!("{:?} {} {says}", error.code, malformed.is_login)
        }
    }
}

fn check_bounds(request: &Request) {
    match request {
        Request::Login(login) => {
            let texts = [login.custom.clone().flatten(), login.app.clone()];
            assert!(texts.into_iter().flatten().all(|text| text.len() <= TEXT_BYTES_MAX));
        }
        Request::Subscribe(users) | Request::Query(users) => {
            assert!((1..=USERS_MAX).contains(&users.len()));
        }
        Request::Block(users) | Request::Unblock(users) => {
            assert!((1..=USERS_MAX).contains(&users.len()));
        }
        Request::Set { custom: Some(Some(custom)), .. } => assert!(custom.len() <= TEXT_BYTES_MAX),
        Request::Unsubscribe(_)
        | Request::Background(_)
        | Request::Foreground
        | Request::Idle { .. }
        | Request::Active
        | Request::Set { .. }
        | Request::SubscribeList { .. }
        | Request::Blocked
        | Request::Refresh(_)
        | Request::Ping
        | Request::Sessions
        | Request::Kick(_)
        | Request::Logout => (),
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Login(_) => "login",
        Request::Subscribe(_) | Request::SubscribeList { .. } => "subscribe",
        Request::Block(_) => "block",
        Request::Unblock(_) => "unblock",
        Request::Blocked => "blocked",
        Request::Unsubscribe(_) => "unsubscribe",
        Request::Query(_) => "query",
        Request::Background(_) => "background",
        Request::Foreground => "foreground",
        Request::Idle { .. } => "idle",
        Request::Active => "active",
        Request::Set { .. } => "set",
        Request::Refresh(_) => "refresh",
        Request::Ping => "ping",
        Request::Sessions => "sessions",
        Request::Kick(_) => "kick",
        Request::Logout => "logout",
    }
}
