//! Where a control plane is, as people write it.

use http::Uri;

use super::transport::TrustError;

/// Why a text is not the address of a control plane.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// There is no text.
    #[error("the server's address is empty; write http://HOST:PORT")]
    Empty,
    /// There is no scheme.
    #[error("the server's address {0:?} has no scheme; write http://{0}")]
    NoScheme(String),
    /// The scheme is not one we speak.
    #[error("the server's address {0:?} has the scheme {1:?}; use https or http")]
    UnknownScheme(String, String),
    /// A user name or password is in the text, which is not repeated.
    #[error(
        "the server's address has a user name or password in it; remove them and give the token \
         in NAVARCH_AUTH_TOKEN"
    )]
    UserInfo,
    /// A query or a fragment is in the text.
    #[error("the server's address {0:?} ends in a query or a fragment; remove it")]
    Query(String),
    /// It is not an address at all.
    #[error("the server's address {0:?} is not one ({1}); write http://HOST:PORT")]
    Malformed(String, String),
    /// The token has characters that no header carries. It is not repeated.
    #[error("the token has a space, a line break or another character that no header carries")]
    Token,
    /// Nobody can be trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Reads an address, and says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Uri, AddressError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(AddressError::NoScheme(text.to_owned()));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(AddressError::UserInfo);
    }
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => {}
        other => {
            return Err(AddressError::UnknownScheme(
                text.to_owned(),
                other.to_owned(),
            ));
        }
    }
    if rest.contains(['?', '#']) {
        return Err(AddressError::Query(text.to_owned()));
    }
    let malformed = |why: String| AddressError::Malformed(text.to_owned(), why);
    let uri: Uri = text
        .parse()
        .map_err(|error: http::uri::InvalidUri| malformed(error.to_string()))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(malformed("it names no host".to_owned()));
    }
    // `http` takes any text after the last colon; only a number is a port.
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    if let Some((_, port)) = after_host.rsplit_once(':')
        && !port.parse::<u16>().is_ok_and(|port| port > 0)
    {
        return Err(malformed(format!("{port:?} is not a port")));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_what_to_write() {
        for (text, wrong) in [
            ("http://localhost:50051", None),
            ("HTTP://127.0.0.1:1/", None),
            (" http://[::1]:50051/behind/a/proxy ", None),
            ("http://fleet.example", None),
            ("", Some("is empty")),
            ("localhost:50051", Some("write http://localhost:50051")),
            ("localhost", Some("write http://localhost")),
            (":50051", Some("has no scheme")),
            ("https://localhost:50051", None),
            ("ftp://localhost", Some("has the scheme \"ftp\"")),
            ("http://", Some("is not one")),
            ("http://:50051", Some("is not one")),
            ("http://host:port", Some("is not one")),
            ("http://host:0", Some("is not a port")),
            ("http://host:65536", Some("is not one")),
            ("http://host:", Some("is not a port")),
            ("http://a b:1", Some("is not one")),
            ("http://host:1/?x=1", Some("a query or a fragment")),
            ("http://host:1#x", Some("a query or a fragment")),
            ("http://me:secret@host:1", Some("NAVARCH_AUTH_TOKEN")),
        ] {
            match (parse(text), wrong) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => {
                    let shown = error.to_string();
                    assert!(shown.contains(part), "{text:?}: {shown}");
                    assert!(!shown.contains("secret"), "{text:?}: {shown}");
                }
                (parsed, _) => panic!("{text:?}: {parsed:?}"),
            }
        }
    }
}
