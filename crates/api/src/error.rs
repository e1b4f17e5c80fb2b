//! The errors that calls answer with: a code that programs read and a message for people.

use std::fmt;
use std::time::Duration;

/// What kind of error an answer is, the same in Connect and gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The caller gave up.
    Canceled,
    /// Nobody knows; also what foreign servers answer.
    Unknown,
    /// The request is wrong whatever the state of the fleet.
    InvalidArgument,
    /// Time ran out before there was an answer; what was asked may still happen.
    DeadlineExceeded,
    /// What the request names does not exist.
    NotFound,
    /// What the request makes exists already.
    AlreadyExists,
    /// The caller is known and may not do this.
    PermissionDenied,
    /// A limit is reached; the same request may succeed later.
    ResourceExhausted,
    /// The fleet's state does not allow it.
    FailedPrecondition,
    /// Another change came between.
    Aborted,
    /// The request asks beyond the end.
    OutOfRange,
    /// This server does not do that.
    Unimplemented,
    /// A bug of ours.
    Internal,
    /// Nobody can answer now; the same request may succeed soon.
    Unavailable,
    /// Stored data is damaged.
    DataLoss,
    /// The caller did not say who it is, or nobody believes it.
    Unauthenticated,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 16] = [
        Self::Canceled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The word on the wire, for example `not_found`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid_argument",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out_of_range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data_loss",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// Whether the same request may succeed when it is sent again.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Unavailable | Self::DeadlineExceeded | Self::ResourceExhausted | Self::Aborted
        )
    }

    pub(crate) const fn to_connect(self) -> connectrpc::ErrorCode {
        use connectrpc::ErrorCode as Their;
        match self {
            Self::Canceled => Their::Canceled,
            Self::Unknown => Their::Unknown,
            Self::InvalidArgument => Their::InvalidArgument,
            Self::DeadlineExceeded => Their::DeadlineExceeded,
            Self::NotFound => Their::NotFound,
            Self::AlreadyExists => Their::AlreadyExists,
            Self::PermissionDenied => Their::PermissionDenied,
            Self::ResourceExhausted => Their::ResourceExhausted,
            Self::FailedPrecondition => Their::FailedPrecondition,
            Self::Aborted => Their::Aborted,
            Self::OutOfRange => Their::OutOfRange,
            Self::Unimplemented => Their::Unimplemented,
            Self::Internal => Their::Internal,
            Self::Unavailable => Their::Unavailable,
            Self::DataLoss => Their::DataLoss,
            Self::Unauthenticated => Their::Unauthenticated,
        }
    }

    pub(crate) fn from_connect(theirs: connectrpc::ErrorCode) -> Self {
        Self::ALL
            .into_iter()
            .find(|code| code.word() == theirs.as_str())
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What a call answers when it does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong, with what, and what to do.
    pub message: String,
    /// After how long the same request may succeed, in whole seconds. Callers read it from the
    /// header `retry-after`.
    pub retry_after: Option<Duration>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident = $code:ident;)+) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Into<String>) -> Self {
            Self::new(Code::$code, message)
        }
    )+};
}

impl ApiError {
    /// An error of any code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same error with the time after which the request may succeed.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    constructors! {
        /// The request is wrong whatever the state of the fleet.
        invalid_argument = InvalidArgument;
        /// What the request names does not exist.
        not_found = NotFound;
        /// What the request makes exists already.
        already_exists = AlreadyExists;
        /// The caller is known and may not do this.
        permission_denied = PermissionDenied;
        /// A limit is reached; the same request may succeed later.
        resource_exhausted = ResourceExhausted;
        /// The fleet's state does not allow it.
        failed_precondition = FailedPrecondition;
        /// This server does not do that.
        unimplemented = Unimplemented;
        /// A bug of ours.
        internal = Internal;
        /// Nobody can answer now; the same request may succeed soon.
        unavailable = Unavailable;
        /// The caller did not say who it is, or nobody believes it.
        unauthenticated = Unauthenticated;
        /// Time ran out before there was an answer.
        deadline_exceeded = DeadlineExceeded;
    }

    /// The answer in the protocol of the request with these headers, for layers that refuse a
    /// request before it reaches its handler.
    pub fn into_response(self, request_headers: &http::HeaderMap) -> axum::response::Response {
        connectrpc::ConnectError::from(self)
            .into_http_response(request_headers)
            .map(axum::body::Body::new)
    }
}

impl From<ApiError> for connectrpc::ConnectError {
    fn from(error: ApiError) -> Self {
        let theirs = Self::new(error.code.to_connect(), error.message);
        let Some(wait) = error.retry_after else {
            return theirs;
        };
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, wait.as_secs().into());
        theirs.with_headers(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_connect_and_keep_their_names() {
        for code in Code::ALL {
            assert_eq!(code.to_connect().as_str(), code.word());
            assert_eq!(Code::from_connect(code.to_connect()), code);
        }
    }

    #[test]
    fn a_refusal_before_the_handler_speaks_the_protocol_of_the_request() {
        for (content_type, status, grpc_status) in [
            (Some("application/json"), 403, None),
            (Some("application/proto"), 403, None),
            (None, 403, None),
            (Some("application/connect+proto"), 200, None),
            (Some("application/grpc"), 200, Some("7")),
        ] {
            let mut headers = http::HeaderMap::new();
            if let Some(content_type) = content_type {
                let value = http::HeaderValue::from_static(content_type);
                headers.insert(http::header::CONTENT_TYPE, value);
            }
            let wait = Duration::from_secs(7);
            let error = ApiError::permission_denied("agents may not").retry_after(wait);
            let response = error.into_response(&headers);
            assert_eq!(response.headers()["retry-after"], "7");
            assert_eq!(response.status().as_u16(), status, "{content_type:?}");
            if let Some(expected) = grpc_status {
                assert_eq!(response.headers()["grpc-status"], expected);
            }
        }
    }
}
