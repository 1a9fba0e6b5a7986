//! The server's OpenAPI document, and a page that shows it.
//!
//! Left out on purpose: anything that the page would load from elsewhere; a server may stand where there is no way out.

mod document;
mod example;
mod operations;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;
use utoipa_swagger_ui::Config;
use vespid_types::{Error, ErrorCode, ModelRef};

use super::Api;
use super::error::Failure;
use super::target::Target;
use crate::access::Rights;

/// Every path that is described, as the document writes it.
#[cfg(test)]
pub(super) fn paths() -> Vec<String> {
    let document = document::of_server(None);
    document["paths"].as_object().unwrap().keys().cloned().collect()
}

/// What the page loads.
const ASSETS: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

pub(super) async fn page() -> Html<String> {
    show("docs/")
}

pub(super) async fn model_page(
    State(api): State<Api>,
    Target(target): Target,
) -> Result<Html<String>, Failure> {
    api.predictor.check(&target)?;
    Ok(show(if target.version.is_some() { "../../../../docs/" } else { "../../docs/" }))
}

/// The page. Its paths are relative, for the server may stand below a path of somebody else's; its own document is at
/// `docs/dataplane.json` wherever it is, and what it loads in `assets`.
fn show(assets: &str) -> Html<String> {
    let [style, script] = ASSETS;
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Vespid</title>\n\
         <link rel=\"stylesheet\" href=\"{assets}{style}\">\n<div id=\"ui\"></div>\n\
         <script src=\"{assets}{script}\"></script>\n\
         <script>SwaggerUIBundle({{url: \"docs/dataplane.json\", dom_id: \"#ui\", deepLinking: true}})</script>\n"
    ))
}

pub(super) async fn asset(Path(asset): Path<String>) -> Result<Response, Failure> {
    let file = ASSETS
        .contains(&asset.as_str())
        .then(|| utoipa_swagger_ui::serve(&asset, Arc::new(Config::from(""))));
    match file {
        Some(Ok(Some(file))) => {
            let headers = [(header::CONTENT_TYPE, file.content_type)];
            Ok((headers, file.bytes.into_owned()).into_response())
        }
        _ => Err(Error::new(ErrorCode::NotFound, "no such path: the page is at /v2/docs").into()),
    }
}

pub(super) async fn document(State(api): State<Api>, rights: Rights) -> Json<Value> {
    let ready = |name| api.predictor.model(&ModelRef { name, version: None }).ok();
    let model = api.model_names(&rights).into_iter().find_map(ready);
    Json(document::of_server(model.as_ref().map(|model| (model.name(), model.signature()))))
}

pub(super) async fn model_document(
    State(api): State<Api>,
    Target(target): Target,
) -> Result<Json<Value>, Failure> {
    let model = api.predictor.resolve(&target).await?;
    Ok(Json(document::of_model(model.name(), model.signature())))
}
