//! Who may do what: where the gateway asks.
//!
//! It admits everyone for now. Tokens and policies come in here, and in no other place: each request passes [`authorize`] once,
//! over HTTP as over gRPC, when the gateway knows what it is about and before a pod or the store hears of it. A gRPC stream names
//! one model (`grpc`), so that what was admitted holds for all of its messages.

use axum::http::request::Parts;
use vespid_types::Error;

/// What a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask a model.
    Predict,
    /// Read what a model, or the server, says of itself.
    Describe,
    /// List the models.
    List,
    /// Add a version of a model.
    Upload,
    /// Remove one.
    Remove,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it would do.
    pub action: Action,
    /// The model; none where it is about none in particular.
    pub model: Option<&'a str>,
    /// The version; none where it names none.
    pub version: Option<u64>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Somebody, whom nobody has asked who he is.
    Anyone,
}

/// Says who asks, where he may do what he would.
///
/// # Errors
/// None, for now: `PERMISSION_DENIED` is what it will be.
pub fn authorize(_parts: &Parts, _subject: &Subject<'_>) -> Result<Principal, Error> {
    Ok(Principal::Anyone)
}
