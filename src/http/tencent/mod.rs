//! `/v4`: the presence calls of Tencent Cloud IM's server API, so that back ends written for it keep
//! working. Errors are in the body; the HTTP status is always 200.

pub(super) mod application;
mod fault;

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use futures::future::try_join_all;
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::application::{Call, TencentApplication};
use self::fault::CallFault;
use super::access::audit::AuditAction;
use super::calls::users::end_terminals;
use super::extract::{BODY_BYTES_MAX, read_body};
use super::problem::Problem;
use super::state::AppState;
use crate::presence::{DeviceId, Platform, Record, State as UserState, Target, Terminal, UserId};

/// The most accounts that one query may name.
const ACCOUNTS_MAX: usize = 500;
/// The code of an unknown account.
const UNKNOWN_ACCOUNT: u32 = 70107;
/// The code of a user whose record is damaged, so that the status is unknown.
const DAMAGED_ACCOUNT: u32 = 90994;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CallReply {
    action_status: &'static str,
    error_info: String,
    error_code: u32,
    #[serde(flatten)]
    result: Option<QueryReply>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct QueryReply {
    query_result: Vec<Account>,
    error_list: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Account {
    #[serde(rename = "To_Account")]
    to_account: String,
    status: UserState,
    /// The same as `status`; its name in the older `querystate`.
    state: UserState,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detail: Vec<TerminalReply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_status: Option<Arc<str>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TerminalReply {
    platform: &'static str,
    status: UserState,
    #[serde(skip_serializing_if = "Option::is_none")]
    instid: Option<u32>,
}

/// The optional parts of a query's answer.
#[derive(Clone, Copy)]
struct QueryOptions {
    detail: bool,
    instid: bool,
    custom: bool,
}

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/v4/{*path}", any(call))
}

/// `POST /v4/{service}/{command}`.
async fn call(State(app): State<Arc<AppState>>, request: Request) -> Response {
    let settings = app.settings();
    let Some(tencent) = &settings.tencent else { return Problem::not_found().into_response() };
    let answer = answer(&app, tencent, request).await;
    let reply = match answer {
        Ok(result) => {
            CallReply { action_status: "OK", error_info: String::new(), error_code: 0, result }
        }
        Err(fault) => CallReply {
            action_status: "FAIL",
            error_info: fault.to_string(),
            error_code: fault.code(),
            result: None,
        },
    };
    Json(reply).into_response()
}

async fn answer(
    app: &AppState,
    tencent: &TencentApplication,
    request: Request,
) -> Result<Option<QueryReply>, CallFault> {
    let command = Call::of(&request)?;
    let administrator = tencent.authenticate(command, request.uri(), app.hub.clock().wall())?;
    let body =
        read_body(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| CallFault::Request)?;
    match command {
        Call::Query => query(app, tencent, &body).await.map(Some),
        Call::Kick => kick(app, &administrator, &body).await.map(|()| None),
    }
}

/// `openim/query_online_status`: the states of users.
async fn query(
    app: &AppState,
    tencent: &TencentApplication,
    body: &Bytes,
) -> Result<QueryReply, CallFault> {
    let body: Map<String, Value> = serde_json::from_slice(body).map_err(|_| CallFault::Json)?;
    let accounts = accounts(&body)?;
    let is_set = |flag: &str| body.get(flag).is_some_and(|value| *value == 1);
    let wanted = QueryOptions {
        detail: is_set("IsNeedDetail"),
        instid: is_set("IsReturnInstid"),
        custom: is_set("IsReturnCustomStatus"),
    };
    let records = accounts.iter().map(async |account| match account.parse::<UserId>() {
        Ok(user) => match app.hub.record(&user).await {
            Err(error) if error.is_damage() => Ok(Err(DAMAGED_ACCOUNT)),
            record => record.map(Ok),
        },
        Err(_) => Ok(Err(UNKNOWN_ACCOUNT)),
    });
    let records = try_join_all(records).await.map_err(|error| {
        app.hub.store_failed("HTTP request refused: store unavailable", &error, None);
        CallFault::QueryFailed
    })?;
    let mut reply = QueryReply { query_result: Vec::new(), error_list: Vec::new() };
    for (account, record) in accounts.into_iter().zip(records) {
        let is_unknown = |record: &Record| record.version == 0 && tencent.unknown_account_error;
        let record = record.and_then(|record| match is_unknown(&record) {
            true => Err(UNKNOWN_ACCOUNT),
            false => Ok(record),
        });
        match record {
            Ok(record) => reply.query_result.push(Account::new(account, &record, wanted)),
            Err(code) => {
                reply.error_list.push(json!({ "To_Account": account, "ErrorCode": code }));
            }
        }
    }
    Ok(reply)
}

/// The accounts in `To_Account`.
fn accounts(body: &Map<String, Value>) -> Result<Vec<&str>, CallFault> {
    let named = match body.get("To_Account") {
        None | Some(Value::Null) => return Err(CallFault::Json),
        Some(named) => named.as_array().ok_or(CallFault::NotStrings)?,
    };
    match named.len() {
        0 => Err(CallFault::Json),
        1..=ACCOUNTS_MAX => {
            let texts = named.iter().map(Value::as_str);
            texts.collect::<Option<_>>().ok_or(CallFault::NotStrings)
        }
        _ => Err(CallFault::TooMany),
    }
}

/// `im_open_login_svc/kick`: ends all of a user's terminals and revokes the tokens (L9). An unknown
/// user may have tokens too, so this is not an error.
async fn kick(app: &AppState, administrator: &str, body: &Bytes) -> Result<(), CallFault> {
    let body: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| CallFault::Parameters)?;
    // `UserID` was once called `Identifier`.
    let user = ["UserID", "Identifier"].into_iter().find_map(|field| body.get(field)?.as_str());
    let user = user.and_then(|user| user.parse().ok()).ok_or(CallFault::Parameters)?;
    let everything = Target::default();
    let ended = end_terminals(&app.hub, &user, everything, None).await;
    let (kicked, _) = ended.map_err(|_| CallFault::KickFailed)?;
    let what = format!("everything: {} ended, tokens revoked", kicked.len());
    let audited = AuditAction { action: "kick", whom: Some(&user), why: None };
    app.audit_log.audit_administrator(administrator, &audited, &what);
    Ok(())
}

impl Account {
    fn new(account: &str, record: &Record, wanted: QueryOptions) -> Self {
        let terminals = record.terminals.iter().filter(|_| wanted.detail);
        Self {
            to_account: account.to_owned(),
            status: record.state(),
            state: record.state(),
            detail: terminals.map(|terminal| TerminalReply::new(terminal, wanted)).collect(),
            custom_status: wanted.custom.then(|| record.custom.clone().unwrap_or_default()),
        }
    }
}

impl TerminalReply {
    fn new(terminal: &Terminal, wanted: QueryOptions) -> Self {
        Self {
            platform: platform_name(terminal.platform),
            status: terminal.state(),
            instid: wanted.instid.then(|| instid(&terminal.device)),
        }
    }
}

const fn platform_name(platform: Platform) -> &'static str {
    match platform {
        Platform::Android => "Android",
        Platform::Ios => "iPhone",
        Platform::Ipad => "iPad",
        Platform::Linux | Platform::Windows => "PC",
        Platform::Mac => "Mac",
        Platform::MiniProgram | Platform::Web => "Web",
    }
}

/// A number for a device, the same at each login. It fits into a signed 32-bit integer.
fn instid(device: &DeviceId) -> u32 {
    let digest = digest::digest(&digest::SHA256, device.as_str().as_bytes());
    let first = digest.as_ref().iter().take(4);
    first.fold(0, |id, byte| id << 8 | u32::from(*byte)) >> 1
}
