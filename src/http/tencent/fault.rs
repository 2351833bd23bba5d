//! Why a call of the compatible API failed, with the code that Tencent documents for it.

use crate::auth::UserSigFault;

/// Why a call of the compatible API failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("there is no such command here, or the URL cannot be read")]
    Url,
    #[error("the request is too large, or took too long to arrive")]
    Request,
    #[error("the URL wants the application's sdkappid")]
    NoSdkAppId,
    #[error(transparent)]
    UserSig(#[from] UserSigFault),
    #[error("the body is no JSON object with a `To_Account` that names somebody")]
    Json,
    #[error("`To_Account` is no list of strings")]
    NotStrings,
    #[error("`To_Account` names more than 500 accounts")]
    TooMany,
    #[error("only an administrator may query")]
    MayNotQuery,
    #[error("the store cannot be reached now: try again")]
    QueryFailed,
    #[error("the body is no JSON object whose `UserID` is an account")]
    Parameters,
    #[error("only an administrator may kick")]
    MayNotKick,
    #[error("the store cannot be reached now: try again")]
    KickFailed,
}

impl Fault {
    /// The code that Tencent documents for it.
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
