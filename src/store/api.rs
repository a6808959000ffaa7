//! Every operation of the store in one form: its path, who may call it, what goes in and comes out, and the handler. The router and
//! `GET /openapi.json` are both made from it, so that neither can say what the other does not.

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Store;
use super::keys::Scope;

/// One operation.
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for what is captured.
    pub path: &'static str,
    /// Its name in the description: `createPermission`.
    pub id: &'static str,
    /// What a key needs to call it.
    pub scope: Scope,
    /// The query parameters, as an object.
    pub query: Option<SchemaOf>,
    /// The JSON body.
    pub body: Option<SchemaOf>,
    /// Status and body of success.
    pub success: (u16, Option<SchemaOf>),
    /// The errors that are particular to it; 401, 404, 422 and the like are common.
    pub errors: &'static [u16],
    /// What carries it out.
    pub handler: MethodRouter<Store>,
}

/// Makes a schema.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Operation {
    fn new<H, T>(
        method: Method,
        filter: MethodFilter,
        scope: Scope,
        path: &'static str,
        id: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Store>,
        T: 'static,
    {
        let handler = on(filter, handler);
        Self { method, path, id, scope, query: None, body: None, success: (200, None), errors: &[], handler }
    }

    /// `GET`: reads.
    pub fn get<H: Handler<T, Store>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(Method::GET, MethodFilter::GET, Scope::Read, path, id, handler)
    }

    /// `POST`: writes, unless said otherwise.
    pub fn post<H: Handler<T, Store>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(Method::POST, MethodFilter::POST, Scope::Write, path, id, handler)
    }

    /// `PUT`: writes.
    pub fn put<H: Handler<T, Store>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(Method::PUT, MethodFilter::PUT, Scope::Write, path, id, handler)
    }

    /// `PATCH`: writes.
    pub fn patch<H: Handler<T, Store>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(Method::PATCH, MethodFilter::PATCH, Scope::Write, path, id, handler)
    }

    /// `DELETE`: writes, and answers nothing.
    pub fn delete<H: Handler<T, Store>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self {
            success: (204, None),
            ..Self::new(Method::DELETE, MethodFilter::DELETE, Scope::Write, path, id, handler)
        }
    }

    /// What a key needs, where the method does not tell.
    pub fn needs(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Its query parameters.
    pub fn asks<Q: JsonSchema>(self) -> Self {
        Self { query: Some(schema_of::<Q>), ..self }
    }

    /// Its JSON body.
    pub fn takes<B: JsonSchema>(self) -> Self {
        Self { body: Some(schema_of::<B>), ..self }
    }

    /// Its answer.
    pub fn gives<A: JsonSchema>(self, status: u16) -> Self {
        Self { success: (status, Some(schema_of::<A>)), ..self }
    }

    /// An answer without a body.
    pub fn gives_nothing(self, status: u16) -> Self {
        Self { success: (status, None), ..self }
    }

    /// Errors of its own.
    pub fn fails(self, errors: &'static [u16]) -> Self {
        Self { errors, ..self }
    }
}
