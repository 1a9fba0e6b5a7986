//! The OpenAPI document: of the server, or of one model.
//!
//! Contract: it says of each operation what it takes and every status that it may answer with. That of a model has the model's
//! own inputs and outputs in its schemas, and an example that the model takes, as far as its signature tells. Cost: made
//! anew for whoever asks.

use std::sync::LazyLock;

use serde_json::{Value, json};
use utoipa::openapi::link::{Link, LinkBuilder};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    Content, ContentBuilder, Header, InfoBuilder, ObjectBuilder, OpenApiBuilder, PathItem, Ref, Required,
    Response, ResponseBuilder, Type,
};
use vespid_types::{ModelName, Signature};

use super::super::openai;
use super::example;
use super::operations::{Body, JSON, OPERATIONS, Operation};

/// The schemas that the operations name.
static SCHEMAS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("schemas.json")).unwrap_or_default());

const ABOUT: &str = "Predictions by the Open Inference Protocol v2 with Triton's extensions, by version 1 of the protocol, and \
                     by OpenAI's API. Bodies may be compressed by gzip or deflate, and predictions are where \
                     Accept-Encoding asks for it. Every answer has a header x-request-id, the request's own where it brings one.";

/// The document of the whole server. The examples are about `model`, where there is one.
pub(super) fn of_server(model: Option<(&ModelName, &Signature)>) -> Value {
    let document = build("Vespid", |_| true, str::to_owned, model.map(|(name, _)| name));
    with_schemas(document, &SCHEMAS, model)
}

/// The document of one model.
pub(super) fn of_model(name: &ModelName, signature: &Signature) -> Value {
    let named = |path: &str| path.replace("{model}", name.as_str());
    let document = build(name.as_str(), Operation::names_model, named, None);
    let mut schemas = SCHEMAS.clone();
    if let Some(schemas) = schemas.as_object_mut() {
        schemas.extend(example::schemas(signature));
    }
    with_schemas(document, &schemas, Some((name, signature)))
}

/// Puts the schemas in, and examples beside those of requests.
fn with_schemas(
    document: utoipa::openapi::OpenApi,
    schemas: &Value,
    model: Option<(&ModelName, &Signature)>,
) -> Value {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    if let Some(document) = document.as_object_mut() {
        document.insert("components".to_owned(), json!({"schemas": schemas}));
    }
    if let Some((name, signature)) = model {
        for (schema, example) in example::requests(name, signature) {
            if let Some(schema) = document.pointer_mut(&format!("/components/schemas/{schema}")) {
                schema["examples"] = json!([example]);
            }
        }
    }
    document
}

fn build(
    title: &str,
    wanted: impl Fn(&Operation) -> bool,
    place: impl Fn(&str) -> String,
    example: Option<&ModelName>,
) -> utoipa::openapi::OpenApi {
    let mut paths = PathsBuilder::new();
    for operation in OPERATIONS.iter().filter(|operation| wanted(operation)) {
        let path = place(operation.path);
        paths = paths.path(path.clone(), item(operation, &path, operation.id, example));
        if operation.of_versions {
            let path = place(&operation.path.replace("{model}", "{model}/versions/{version}"));
            paths = paths
                .path(path.clone(), item(operation, &path, &format!("{}OfVersion", operation.id), example));
        }
    }
    let info = InfoBuilder::new().title(title).version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT));
    OpenApiBuilder::new().info(info).paths(paths).build()
}

fn item(operation: &Operation, path: &str, id: &str, example: Option<&ModelName>) -> PathItem {
    let mut built = OperationBuilder::new()
        .operation_id(Some(id))
        .tag(operation.tag)
        .summary(Some(operation.summary))
        .request_body(request_body(operation.body));
    for (name, schema) in [("model", "ModelName"), ("version", "ModelVersion"), ("batch", "BatchId")] {
        if path.contains(&format!("{{{name}}}")) {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(Ref::from_schema_name(schema)))
                .example(example.filter(|_| name == "model").map(|model| model.as_str().into()));
            built = built.parameter(parameter);
        }
    }
    for (name, schema) in operation.query {
        let parameter =
            ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Query).required(Required::False);
        built = built.parameter(parameter.schema(Some(Ref::from_schema_name(*schema))));
    }
    built = built.response(operation.status.to_string(), success(operation));
    for status in refusals(operation) {
        built = built.response(status.to_string(), refusal(operation, status));
    }
    let mut item = PathItem::default();
    item.merge_operations(PathItem::new(HttpMethod::from(operation.method), built));
    item
}

fn request_body(body: Body) -> Option<utoipa::openapi::request_body::RequestBody> {
    let (contents, required) = match body {
        Body::None => return None,
        Body::Optional(contents) => (contents, Required::False),
        Body::Required(contents) => (contents, Required::True),
    };
    let mut built = RequestBodyBuilder::new().required(Some(required));
    for (media_type, schema) in contents {
        built = built.content(*media_type, content(schema));
    }
    Some(built.build())
}

fn content(schema: &str) -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build()
}

fn answer(description: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description).header("x-request-id", Header::default())
}

fn success(operation: &Operation) -> Response {
    let mut built = answer("As asked");
    for (media_type, schema) in operation.answers {
        built = built.content(*media_type, content(schema));
    }
    if operation.id == "infer" {
        built = built.header(
            "inference-header-content-length",
            Header::new(ObjectBuilder::new().schema_type(Type::String)),
        );
    }
    for (name, link) in links(operation) {
        built = built.link(name, link);
    }
    built.build()
}

/// What can be done with the names that an operation lists.
fn links(operation: &Operation) -> Vec<(String, Link)> {
    let (suffix, parameters): (_, &[_]) = match operation.id {
        "models" => ("", &[("model", "$response.body#/models/0")]),
        "repositoryIndex" => {
            ("OfVersion", &[("model", "$response.body#/0/name"), ("version", "$response.body#/0/version")])
        }
        _ => return Vec::new(),
    };
    let of_a_model = OPERATIONS.iter().filter(|operation| operation.of_versions);
    of_a_model
        .map(|operation| {
            let id = format!("{}{suffix}", operation.id);
            let link = LinkBuilder::new().operation_id(id.as_str());
            let link = parameters.iter().fold(link, |link, (name, value)| link.parameter(*name, *value));
            (id, link.build())
        })
        .collect()
}

/// What an operation may come to, in order.
fn refusals(operation: &Operation) -> Vec<u16> {
    let mut all = operation.refusals.to_vec();
    if operation.id == "ready" {
        all.push(503);
    }
    all.sort_unstable();
    all
}

fn refusal(operation: &Operation, status: u16) -> Response {
    let schema = match operation.id {
        "ready" if status == 503 => "Ready",
        _ if openai::is_its(operation.path) => "OpenAiError",
        _ => "Error",
    };
    let mut built = answer(meaning(status)).content(JSON, content(schema));
    if matches!(status, 429 | 503) && operation.id != "ready" {
        built = built.header("retry-after", Header::default());
    }
    built.build()
}

/// What a status means here.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is wrong; the text names the field and the remedy",
        403 => "The server is not allowed to do that",
        404 => "There is no such model, version or job",
        406 => "The client admits no encoding that there is",
        408 => "The body did not go on",
        409 => "The version is there already",
        413 => "The body is too large",
        415 => "The body is compressed in a way that is not known",
        429 => "The model or its tenant is at a limit: try again later",
        500 => "The model or the server failed",
        501 => "The model or the server does not do that",
        503 => "Not now: try again later",
        504 => "The deadline passed",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    found.insert(reference);
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    fn signature() -> Signature {
        serde_json::from_value(json!({
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
                {"name": "t", "datatype": "BYTES", "shape": [-1], "optional": true},
            ],
            "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
        }))
        .unwrap()
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = of_server(None);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in &found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        for schema in SCHEMAS.as_object().unwrap().keys() {
            assert!(
                found.contains(format!("#/components/schemas/{schema}").as_str()),
                "{schema} is not used"
            );
        }
    }

    #[test]
    fn every_route_is_in_it() {
        let document = of_server(None);
        let routes = include_str!("../mod.rs")
            .split('"')
            .filter(|text| text.starts_with('/') && !text.contains([' ', '\n']) && *text != "//");
        let paths = document["paths"].as_object().unwrap();
        let mut missing = Vec::new();
        for route in routes {
            // A model's paths are written without what comes before; those of assets are the page's own, and
            // metrics are on the port for probes; of shared memory there is nothing to say.
            let of_model = format!("/v2/models/{{model}}{route}");
            let verb = format!("{route}:predict");
            let known = [route, &of_model, &verb].iter().any(|path| paths.contains_key(*path));
            if !known && !["/v2/", "/v2/docs/{asset}", "/metrics"].contains(&route) && !route.contains("{{") {
                missing.push(route);
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_model_s_document_has_its_inputs_and_an_example() {
        let name = "iris".parse().unwrap();
        let document = of_model(&name, &signature());
        let infer = &document["paths"]["/v2/models/iris/infer"]["post"];
        assert_eq!(infer["operationId"], "infer");
        assert!(document["paths"]["/v2/models/iris/versions/{version}/infer"]["post"].is_object());
        assert!(document["paths"]["/v2/models"].is_null());
        let request = &document["components"]["schemas"]["InferRequest"];
        assert_eq!(
            request["examples"][0],
            json!({"inputs": [
                {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 0.0]},
                {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["text"]},
            ]})
        );
        let input = &document["components"]["schemas"]["InferInput"]["anyOf"][0];
        assert_eq!(input["properties"]["name"]["const"], "x");
    }
}
