//! Callbacks in the format of Tencent Cloud IM, for back ends that were written for it.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::Serialize;
use url::Url;

use super::format::PostRequest;
use crate::presence::{Cause, Kicker, Platform, Timestamp, Transition, UserId};

/// The callback command of a state change.
const STATE_CHANGE: &str = "State.StateChange";
/// The callback command of a test.
const TEST: &str = "State.Test";
/// The platform of a change that was made by the server API.
const SERVER_API: &str = "RESTAPI";

/// The settings for callbacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TencentCallbacks {
    /// The app's id.
    pub sdk_app_id: u64,
    /// The token that signs callbacks; if empty, they are not signed.
    pub token: String,
    /// Whether a terminal that a login kicked also sends a callback for its logout.
    pub kick_sends_logout: bool,
}

/// A callback, without the receiver's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The platform of the change (`OptPlatform`).
    pub platform: &'static str,
    /// The client's address (`ClientIP`); empty if unknown.
    pub address: String,
    /// The JSON body.
    pub body: Body,
}

/// The JSON body of a callback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Body {
    callback_command: &'static str,
    event_time: Timestamp,
    info: Info,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kicked_device: Vec<CallbackDevice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Info {
    #[serde(rename = "Action")]
    action: &'static str,
    #[serde(rename = "To_Account")]
    to_account: String,
    #[serde(rename = "Reason")]
    reason: &'static str,
    #[serde(rename = "CustomStatus", skip_serializing_if = "Option::is_none")]
    custom_status: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CallbackDevice {
    platform: &'static str,
}

/// Makes the callback for a transition; `None` if Tencent Cloud IM has no callback for it.
pub fn callback(
    tencent: &TencentCallbacks,
    user: &UserId,
    transition: &Transition,
) -> Option<Callback> {
    let (action, reason) = action(tencent, transition)?;
    let is_by_server = matches!(transition.by, Some(Kicker::Admin { .. }));
    let terminal = transition.terminal.as_ref().filter(|_| !is_by_server);
    let platform = terminal.map_or(SERVER_API, |terminal| opt_platform(terminal.platform));
    let address = transition.evidence.address.map(|address| address.to_string());
    let custom = (transition.cause == Cause::Custom)
        .then(|| transition.status.custom.as_deref().unwrap_or_default().to_owned());
    let kicked =
        transition.kicked.iter().map(|victim| CallbackDevice { platform: kicked(victim.platform) });
    let body = Body {
        callback_command: STATE_CHANGE,
        event_time: transition.at,
        info: Info { action, to_account: user.to_string(), reason, custom_status: custom },
        kicked_device: kicked.collect(),
    };
    Some(Callback { platform, address: address.unwrap_or_default(), body })
}

/// The `Action` and `Reason` of a transition.
fn action(
    tencent: &TencentCallbacks,
    transition: &Transition,
) -> Option<(&'static str, &'static str)> {
    let platform = transition.terminal.as_ref().map(|terminal| terminal.platform);
    match (transition.cause, &transition.by) {
        (Cause::Login | Cause::Resume, _) => Some(("Login", "Register")),
        (Cause::Logout, _) | (Cause::Kicked, Some(Kicker::Admin { .. } | Kicker::Own(_))) => {
            Some(("Logout", "Unregister"))
        }
        (Cause::Kicked, _) => tencent.kick_sends_logout.then_some(("Logout", "Unregister")),
        (Cause::Silence | Cause::NodeLost, _) if platform.is_some_and(Platform::is_native) => {
            Some(("Disconnect", "TimeOut"))
        }
        (
            Cause::Silence
            | Cause::NodeLost
            | Cause::Close
            | Cause::Background
            | Cause::Exit
            | Cause::TokenExpired,
            _,
        ) => Some(("Disconnect", "LinkClose")),
        (
            Cause::Expired | Cause::Recovered | Cause::Visibility | Cause::Idle | Cause::Active,
            _,
        ) => None,
        (Cause::Custom, _) => Some(("CustomStatusChange", "SetCustomStatus")),
    }
}

/// A platform's name in `KickedDevice`.
const fn kicked(platform: Platform) -> &'static str {
    match platform {
        Platform::Android => "Android",
        Platform::Ios => "iOS",
        Platform::Ipad => "iPad",
        Platform::Windows => "Windows",
        Platform::Mac => "Mac",
        Platform::Linux => "Linux",
        Platform::Web | Platform::MiniProgram => "Web",
    }
}

/// A platform's name in `OptPlatform`.
const fn opt_platform(platform: Platform) -> &'static str {
    if matches!(platform, Platform::Ios) { "IOS" } else { kicked(platform) }
}

impl TencentCallbacks {
    pub(super) fn request(&self, url: &Url, callback: &Callback, wall: Timestamp) -> PostRequest {
        let body = serde_json::to_string(&callback.body)
            .unwrap_or_else(|error| unreachable!("plain values make JSON: {error}"));
        self.post(url, STATE_CHANGE, (callback.platform, &callback.address), body, wall)
    }

    pub(super) fn test(&self, url: &Url, wall: Timestamp) -> PostRequest {
        let body = format!("{{\"CallbackCommand\":\"{TEST}\"}}");
        self.post(url, TEST, (SERVER_API, ""), body, wall)
    }

    fn post(
        &self,
        url: &Url,
        command: &str,
        (platform, address): (&str, &str),
        body: String,
        wall: Timestamp,
    ) -> PostRequest {
        let mut url = url.clone();
        let mut query = url.query_pairs_mut();
        query
            .append_pair("SdkAppid", &self.sdk_app_id.to_string())
            .append_pair("CallbackCommand", command)
            .append_pair("contenttype", "json")
            .append_pair("ClientIP", address)
            .append_pair("OptPlatform", platform);
        if !self.token.is_empty() {
            let time = wall.as_secs().to_string();
            let digest = digest(&SHA256, format!("{}{time}", self.token).as_bytes());
            let sign = HEXLOWER.encode(digest.as_ref());
            query.append_pair("Sign", &sign).append_pair("RequestTime", &time);
        }
        drop(query);
        let headers = vec![("content-type", "application/json".to_owned())];
        PostRequest { url, headers, body, wants_json: true }
    }
}
