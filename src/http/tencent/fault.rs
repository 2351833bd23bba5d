//! Errors of the compatible API, with the codes that Tencent documents.

use crate::auth::UserSigFault;

/// An error of the compatible API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallFault {
    #[error("unknown command, or invalid URL parameters")]
    Url,
    #[error("the request is too large, or took too long to arrive")]
    Request,
    #[error("`sdkappid` is missing in the URL, or not a number")]
    NoSdkAppId,
    #[error(transparent)]
    UserSig(#[from] UserSigFault),
    #[error("the body must be a JSON object with a list `To_Account` of 1 to 500 accounts")]
    Json,
    #[error("`To_Account` must be a list of strings")]
    NotStrings,
    #[error("`To_Account` names more than 500 accounts")]
    TooMany,
    #[error("only an administrator may query")]
    MayNotQuery,
    #[error("the store is unavailable: retry later")]
    QueryFailed,
    #[error("the body must be a JSON object with a valid account as `UserID`")]
    Parameters,
    #[error("only an administrator may kick")]
    MayNotKick,
    #[error("the store is unavailable: retry later")]
    KickFailed,
}

impl CallFault {
    /// The code that Tencent documents for this error.
    pub(super) const fn code(self) -> u32 {
        match self {
            Self::Url => 60002,
            Self::Request => 60008,
            Self::NoSdkAppId => 60012,
            Self::UserSig(UserSigFault::Expired) => 70001,
            Self::UserSig(UserSigFault::Unreadable) => 70003,
            Self::UserSig(UserSigFault::WrongKey) => 70009,
            Self::UserSig(UserSigFault::OtherIdentifier) => 70013,
            Self::UserSig(UserSigFault::OtherApp) => 70014,
            Self::Parameters => 70402,
            Self::MayNotKick => 70403,
            Self::KickFailed => 70500,
            Self::Json => 90001,
            Self::NotStrings => 90003,
            Self::MayNotQuery => 90009,
            Self::TooMany => 90011,
            Self::QueryFailed => 90994,
        }
    }
}
