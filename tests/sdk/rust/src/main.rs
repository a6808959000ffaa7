//! Drives the official Rust SDK (crate `workos`) against a running store, through every method of the areas it serves.
//!
//! Usage: `rust_sdk BASE_URL API_KEY`; the store is empty and its model is the usual one of the tests (multiple roles). Prints each method as
//! it is called, and ends with the first answer that is not what the contract says.

mod access;
mod company;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;
use workos::Client;

/// What a part of the run ends with.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The SDK, and which of its methods were called.
pub struct Sdk {
    pub client: Client,
    called: Mutex<BTreeSet<&'static str>>,
}

impl Sdk {
    /// Notes that a method is called.
    pub fn note(&self, method: &'static str) {
        self.called.lock().unwrap_or_else(PoisonError::into_inner).insert(method);
    }
}

/// Calls a method of an area and waits for what it answers: `call!(sdk.groups.get_organization_group(&organization, &group))`.
#[macro_export]
macro_rules! call {
    ($sdk:ident.$area:ident.$method:ident($($argument:expr),* $(,)?)) => {{
        $sdk.note(concat!(stringify!($area), ".", stringify!($method)));
        $sdk.client.$area().$method($($argument),*).await
    }};
}

/// A body or a part of one, from JSON with the same fields.
pub fn body<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a body of the SDK")
}

/// The call failed with this status.
#[track_caller]
pub fn refused<T>(answer: Result<T, workos::Error>, status: u16) {
    match answer {
        Ok(_) => panic!("{status} expected, nothing happened"),
        Err(error) => assert_eq!(error.status(), Some(status), "{error}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let (base, key) = arguments.next().zip(arguments.next()).ok_or("expected BASE_URL and API_KEY")?;
    let client = Client::builder().api_key(key).client_id("client_test").base_url(base).max_retries(0).build();
    let sdk = Sdk { client, called: Mutex::default() };
    let company = company::found(&sdk).await?;
    access::roles(&sdk, &company).await?;
    let resources = access::resources(&sdk, &company).await?;
    access::assignments(&sdk, &company, &resources).await?;
    access::of_groups(&sdk, &company, &resources).await?;
    access::remove(&sdk, &resources).await?;
    company::dissolve(&sdk, company).await?;
    for method in sdk.called.into_inner()? {
        println!("{method}");
    }
    Ok(())
}
