//! What can be asked of the server: the table behind its OpenAPI document.
//!
//! Contract: every route of [`router`](super::super::router) is here, which a test holds it to. Cost: none but for whom the
//! document is made. Left out on purpose: schemas, which are in `schemas.json`.

use utoipa::openapi::HttpMethod;

/// One operation.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) method: Method,
    /// With `{model}` and `{version}` where it has them.
    pub(super) path: &'static str,
    /// Whether it is also there below `/versions/{version}` of the model.
    pub(super) of_versions: bool,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    /// Parameters of the query, each with its schema.
    pub(super) query: &'static [Content],
    pub(super) body: Body,
    /// The status of success.
    pub(super) status: u16,
    /// The media types of success, each with its schema; none where nothing comes.
    pub(super) answers: &'static [Content],
    /// What else it may come to.
    pub(super) refusals: &'static [u16],
}

/// A media type and the name of a schema.
pub(super) type Content = (&'static str, &'static str);

#[derive(Clone, Copy)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    Optional(&'static [Content]),
    Required(&'static [Content]),
}

pub(super) const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";
const HTML: &str = "text/html; charset=utf-8";

pub(super) const SERVER: &str = "server";
pub(super) const MODELS: &str = "models";
pub(super) const PREDICTION: &str = "prediction";
pub(super) const REPOSITORY: &str = "repository";
pub(super) const BATCHES: &str = "batches";
pub(super) const V1: &str = "version 1";
pub(super) const OPENAI: &str = "OpenAI";

/// Of any path that names a model.
const OF_A_MODEL: &[u16] = &[400, 404, 429, 503];
/// Of what changes a setting.
const OF_A_CHANGE: &[u16] = &[400, 408, 413, 415, 501];
const OF_A_MODEL_S_CHANGE: &[u16] = &[400, 404, 408, 413, 415, 429, 501, 503];
/// Of what runs a model.
const OF_A_CALL: &[u16] = &[400, 404, 406, 408, 413, 415, 429, 500, 501, 503, 504];

impl Operation {
    const fn get(path: &'static str, id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self {
            method: Method::Get,
            path,
            of_versions: false,
            id,
            tag,
            summary,
            query: &[],
            body: Body::None,
            status: 200,
            answers: &[],
            refusals: &[],
        }
    }

    const fn of_model(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let get = Self::get(path, id, MODELS, summary);
        Self { of_versions: true, refusals: OF_A_MODEL, ..get }
    }

    /// A call of a model.
    const fn call(path: &'static str, id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        let get = Self::get(path, id, tag, summary);
        Self { method: Method::Post, refusals: OF_A_CALL, ..get }
    }

    const fn body(self, body: &'static [Content]) -> Self {
        Self { body: Body::Required(body), ..self }
    }

    const fn query(self, query: &'static [Content]) -> Self {
        Self { query, ..self }
    }

    const fn answers(self, answers: &'static [Content]) -> Self {
        Self { answers, ..self }
    }

    const fn refusals(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }

    const fn of_versions(self) -> Self {
        Self { of_versions: true, ..self }
    }

    const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    const fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Whether it is about a model that its path names.
    pub(super) fn names_model(&self) -> bool {
        self.path.contains("{model}")
    }
}

impl From<Method> for HttpMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::Get,
            Method::Post => Self::Post,
            Method::Put => Self::Put,
            Method::Delete => Self::Delete,
        }
    }
}

/// All of them, in the order in which they are shown.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation::get("/v2/health/live", "live", SERVER, "Whether the server lives").answers(&[(JSON, "Live")]),
    Operation::get("/v2/health/ready", "ready", SERVER, "Whether the server takes requests")
        .answers(&[(JSON, "Ready")]),
    Operation::get("/v2", "server", SERVER, "What the server is").answers(&[(JSON, "ServerMetadata")]),
    Operation::get("/", "alive", SERVER, "Whether the server lives, as KServe asks")
        .answers(&[(JSON, "Alive")]),
    Operation::get("/v2/docs", "docs", SERVER, "This document, to be read").answers(&[(HTML, "Page")]),
    Operation::get("/v2/docs/dataplane.json", "document", SERVER, "This document")
        .answers(&[(JSON, "Document")]),
    Operation::get("/v2/models", "models", MODELS, "The names of all models").answers(&[(JSON, "Models")]),
    Operation::of_model("/v2/models/{model}", "model", "What a model takes and gives")
        .answers(&[(JSON, "ModelMetadata")]),
    Operation::of_model("/v2/models/{model}/ready", "modelReady", "Whether a model can be called")
        .answers(&[(JSON, "ModelReady")]),
    Operation::of_model("/v2/models/{model}/config", "modelConfiguration", "How a model is configured")
        .answers(&[(JSON, "ModelConfiguration")]),
    Operation::of_model("/v2/models/{model}/stats", "modelStatistics", "What a model has done")
        .answers(&[(JSON, "ModelStatisticsList")]),
    Operation::get("/v2/models/stats", "statistics", MODELS, "What all models have done")
        .answers(&[(JSON, "ModelStatisticsList")]),
    Operation::of_model("/v2/models/{model}/docs", "modelDocs", "How to ask a model, to be read")
        .answers(&[(HTML, "Page")]),
    Operation::of_model("/v2/models/{model}/docs/dataplane.json", "modelDocument", "How to ask a model")
        .answers(&[(JSON, "Document")]),
    Operation {
        // Nothing may be the content of a file, which is the model's one input.
        body: Body::Optional(&[(JSON, "InferRequest"), (BINARY, "BinaryBody")]),
        ..Operation::call("/v2/models/{model}/infer", "infer", PREDICTION, "Tensors in, tensors out")
    }
    .of_versions()
    .answers(&[(JSON, "InferResponse"), (BINARY, "BinaryBody")]),
    Operation::call(
        "/v2/models/{model}/generate",
        "generate",
        PREDICTION,
        "Named values in, named values out",
    )
    .of_versions()
    .body(&[(JSON, "GenerateRequest")])
    .answers(&[(JSON, "GenerateResponse")]),
    Operation::call(
        "/v2/models/{model}/generate_stream",
        "generateStream",
        PREDICTION,
        "The same with all responses, as they come",
    )
    .of_versions()
    .body(&[(JSON, "GenerateRequest")])
    .answers(&[("text/event-stream", "Event")]),
    Operation {
        method: Method::Post,
        body: Body::Optional(&[(JSON, "RepositoryIndexRequest")]),
        ..Operation::get("/v2/repository/index", "repositoryIndex", REPOSITORY, "Every version and its state")
    }
    .answers(&[(JSON, "RepositoryIndex")])
    .refusals(&[400, 408, 413, 415]),
    Operation {
        method: Method::Post,
        body: Body::Optional(&[(JSON, "LoadRequest")]),
        ..Operation::get(
            "/v2/repository/models/{model}/load",
            "load",
            REPOSITORY,
            "Brings a model into service, as it is stored or otherwise",
        )
    }
    .refusals(&[400, 403, 404, 408, 409, 413, 415, 429, 500, 501, 503]),
    Operation {
        method: Method::Post,
        body: Body::Optional(&[(JSON, "UnloadRequest")]),
        ..Operation::get(
            "/v2/repository/models/{model}/unload",
            "unload",
            REPOSITORY,
            "Takes a model out of service",
        )
    }
    .refusals(&[400, 404, 408, 413, 415, 500, 503]),
    Operation::get("/v2/batches", "batches", BATCHES, "The jobs over files, the newest first")
        .query(&[("limit", "BatchLimit"), ("after", "BatchId")])
        .answers(&[(JSON, "Batches")])
        .refusals(&[400, 404, 501]),
    Operation::get("/v2/batches", "createBatch", BATCHES, "Takes a job over files, which runs beside what is asked online")
        .method(Method::Post)
        .body(&[(JSON, "BatchJob")])
        .status(202)
        .answers(&[(JSON, "Batch")])
        .refusals(&[400, 403, 408, 413, 415, 500, 501, 503]),
    Operation::get("/v2/batches/{batch}", "batch", BATCHES, "A job, and how far it is")
        .answers(&[(JSON, "Batch")])
        .refusals(&[404, 501]),
    Operation::get("/v2/batches/{batch}", "deleteBatch", BATCHES, "Cancels a job that has not ended, and forgets one that has")
        .method(Method::Delete)
        .answers(&[(JSON, "Batch")])
        .refusals(&[404, 500, 501, 503]),
    Operation::get(
        "/v2/repository/models/{model}/traffic",
        "traffic",
        REPOSITORY,
        "Which of a model's versions are served, and how requests are led to them",
    )
    .answers(&[(JSON, "Traffic")])
    .refusals(&[400, 404]),
    Operation::get(
        "/v2/repository/models/{model}/traffic",
        "setTraffic",
        REPOSITORY,
        "Sets which of a model's versions are served, and how requests are led to them",
    )
    .method(Method::Put)
    .body(&[(JSON, "Traffic")])
    .answers(&[(JSON, "Traffic")])
    .refusals(&[400, 404, 408, 413, 415, 500, 503]),
    Operation::get(
        "/v2/repository/models/{model}/versions/{version}",
        "upload",
        REPOSITORY,
        "Uploads a version, or has the server pull it from a registry; it can be called when this has answered",
    )
    .method(Method::Put)
    .body(&[(BINARY, "Package"), (JSON, "PackageSource")])
    .status(201)
    .answers(&[(JSON, "RepositoryIndexEntry")])
    .refusals(&[400, 403, 404, 408, 409, 413, 415, 429, 500, 501, 503]),
    Operation::get(
        "/v2/repository/models/{model}/versions/{version}",
        "remove",
        REPOSITORY,
        "Removes a version; what it is being asked is answered first",
    )
    .method(Method::Delete)
    .status(204)
    .refusals(&[400, 404, 500, 503]),
    Operation::get("/v2/trace/setting", "traceSettings", SERVER, "Which requests are traced")
        .answers(&[(JSON, "TraceSettings")]),
    Operation::get("/v2/trace/setting", "changeTrace", SERVER, "Changes which requests are traced")
        .method(Method::Post)
        .body(&[(JSON, "TraceChange")])
        .answers(&[(JSON, "TraceSettings")])
        .refusals(OF_A_CHANGE),
    Operation::get(
        "/v2/models/{model}/trace/setting",
        "modelTraceSettings",
        MODELS,
        "Which requests of a model are traced",
    )
    .answers(&[(JSON, "TraceSettings")])
    .refusals(OF_A_MODEL),
    Operation::get(
        "/v2/models/{model}/trace/setting",
        "changeModelTrace",
        MODELS,
        "Changes which requests of a model are traced",
    )
    .method(Method::Post)
    .body(&[(JSON, "TraceChange")])
    .answers(&[(JSON, "TraceSettings")])
    .refusals(OF_A_MODEL_S_CHANGE),
    Operation::get("/v2/logging", "logSettings", SERVER, "What of the log is written")
        .answers(&[(JSON, "LogSettings")])
        .refusals(&[501]),
    Operation::get("/v2/logging", "changeLog", SERVER, "Changes what of the log is written")
        .method(Method::Post)
        .body(&[(JSON, "LogChange")])
        .answers(&[(JSON, "LogSettings")])
        .refusals(OF_A_CHANGE),
    Operation::get("/v1/models", "v1Models", V1, "The models, for KServe and for OpenAI")
        .answers(&[(JSON, "V1Models")]),
    Operation::get("/v1/models/{model}", "v1Model", V1, "Whether a model can be called")
        .answers(&[(JSON, "V1Model")])
        .refusals(OF_A_MODEL),
    Operation::call("/v1/models/{model}:predict", "predict", V1, "Rows in, rows out")
        .body(&[(JSON, "PredictRequest")])
        .answers(&[(JSON, "PredictResponse")]),
    Operation::call("/v1/embeddings", "embeddings", OPENAI, "Embeddings of texts")
        .body(&[(JSON, "EmbeddingsRequest")])
        .answers(&[(JSON, "EmbeddingsResponse")]),
    Operation::call("/openai/v1/embeddings", "openAiEmbeddings", OPENAI, "Embeddings of texts")
        .body(&[(JSON, "EmbeddingsRequest")])
        .answers(&[(JSON, "EmbeddingsResponse")]),
    Operation::get("/openai/v1/models", "openAiModels", OPENAI, "The models that can be asked")
        .answers(&[(JSON, "OpenAiModels")]),
    Operation::get("/openai/v1/models/{model}", "openAiModel", OPENAI, "A model")
        .answers(&[(JSON, "OpenAiModel")])
        .refusals(OF_A_MODEL),
];
