//! A token taken apart without verifying it, for people who debug (`portcullis token inspect`). Nothing here decides
//! anything.

use serde::Serialize;
use serde_json::{Map, Value};

use super::jwt::{Parts, decode};
use super::{TokenError, fault, json};
use crate::domain::TokenFault;

/// What a token says, not what is true.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Always false: no key was consulted.
    pub verified: bool,
    /// The header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// Decodes `token` as strictly as a verifier would, and verifies nothing.
///
/// # Errors
/// [`TokenError`] when it is malformed.
pub fn inspect(token: &str) -> Result<Inspection, TokenError> {
    let parts = Parts::split(token)?;
    let read = |name, part| {
        let mut text = Vec::new();
        decode(name, part, &mut text)?;
        match json::object(&text) {
            Ok(object) => Ok(object.to_map()),
            Err(error) => Err(fault(TokenFault::Malformed, format!("{name}: {error}"))),
        }
    };
    Ok(Inspection { verified: false, header: read("header", parts.header)?, claims: read("payload", parts.payload)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_apart_and_nothing_is_said_about_its_truth() {
        // {"alg":"none"} . {"sub":"eve"} .
        let said = inspect("eyJhbGciOiJub25lIn0.eyJzdWIiOiJldmUifQ.").unwrap();
        assert!(!said.verified);
        assert_eq!((said.header["alg"].as_str(), said.claims["sub"].as_str()), (Some("none"), Some("eve")));
    }

    #[test]
    fn what_is_no_token_is_an_error() {
        for bad in ["", "a.b", "eyJhbGciOiJub25lIn0.e30", "eyJhbGciOiJub25lIn0.W10.", "eyJhbGciOiJub25lIn0=.e30."] {
            assert!(inspect(bad).is_err(), "{bad}");
        }
    }
}
