//! A provider that says what a test tells it, keys that sign, and a folder with what `access.yaml` names.
//!
//! Tokens are signed here with aws-lc-rs itself and put together by hand, so that the library that checks them is held to another.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::oidc::Timing;
use crate::{Access, AccessConfig, AccessError, Credentials, Denied, Principal};

/// What the provider says.
struct Script {
    issuer: String,
    jwks: Value,
    is_down: bool,
    delay: Duration,
    max_age: Option<u64>,
}

/// An OpenID provider on this machine.
pub(crate) struct Provider {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    looks: Arc<AtomicUsize>,
}

type Shared = (Arc<Mutex<Script>>, Arc<AtomicUsize>, String);

impl Provider {
    pub(crate) async fn start(keys: &[&Signer]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Script {
            issuer: url.clone(),
            jwks: jwks(keys),
            is_down: false,
            delay: Duration::ZERO,
            max_age: None,
        };
        let (script, looks) = (Arc::new(Mutex::new(script)), Arc::default());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(keys_of))
            .with_state((Arc::clone(&script), Arc::clone(&looks), url.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, script, looks }
    }

    fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub(crate) fn set_keys(&self, keys: &[&Signer]) {
        self.set_jwks(jwks(keys));
    }

    pub(crate) fn set_jwks(&self, jwks: Value) {
        self.change(|script| script.jwks = jwks);
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.change(|script| script.is_down = is_down);
    }

    pub(crate) fn set_issuer(&self, issuer: &str) {
        self.change(|script| script.issuer = issuer.to_owned());
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.change(|script| script.delay = delay);
    }

    pub(crate) fn set_max_age(&self, seconds: u64) {
        self.change(|script| script.max_age = Some(seconds));
    }

    /// How often its keys were asked for.
    pub(crate) fn looks(&self) -> usize {
        self.looks.load(SeqCst)
    }

    /// Claims that are good there, for alice of acme.
    pub(crate) fn claims(&self) -> Value {
        let now = now();
        json!({
            "iss": self.url, "aud": "vespid", "sub": "alice", "tenant": "acme", "roles": ["analyst"],
            "iat": now, "exp": now + 600,
        })
    }
}

async fn discovery(State((script, _, url)): State<Shared>) -> Response {
    let script = script.lock().unwrap();
    if script.is_down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let body = json!({ "issuer": script.issuer, "jwks_uri": format!("{url}/jwks") });
    body.to_string().into_response()
}

async fn keys_of(State((script, looks, _)): State<Shared>) -> Response {
    looks.fetch_add(1, SeqCst);
    let delay = script.lock().unwrap().delay;
    tokio::time::sleep(delay).await;
    let script = script.lock().unwrap();
    match (script.is_down, script.max_age) {
        (true, _) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        (false, None) => script.jwks.to_string().into_response(),
        (false, Some(age)) => {
            ([(CACHE_CONTROL, format!("max-age={age}"))], script.jwks.to_string()).into_response()
        }
    }
}

fn jwks(keys: &[&Signer]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A key with a name.
pub(crate) struct Signer {
    pub(crate) name: String,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(crate) fn rsa(name: &str) -> Self {
        let pair = Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
        Self { name: name.to_owned(), pair }
    }

    pub(crate) fn ec(name: &str) -> Self {
        let pair = Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        Self { name: name.to_owned(), pair }
    }

    pub(crate) fn ed(name: &str) -> Self {
        Self { name: name.to_owned(), pair: Pair::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    /// Its public part.
    pub(crate) fn jwk(&self) -> Value {
        let kid = &self.name;
        match &self.pair {
            Pair::Rsa(_) => {
                let (n, e) = self.components();
                json!({ "kty": "RSA", "kid": kid, "use": "sig", "n": base64(n), "e": base64(e) })
            }
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": base64(x), "y": base64(y) })
            }
            Pair::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(pair.public_key()) })
            }
        }
    }

    /// Modulus and exponent.
    pub(crate) fn components(&self) -> (Vec<u8>, Vec<u8>) {
        let Pair::Rsa(pair) = &self.pair else { panic!("not RSA") };
        let key = pair.public_key();
        let bytes = |number: &[u8]| number.to_vec();
        (
            bytes(key.modulus().big_endian_without_leading_zero()),
            bytes(key.exponent().big_endian_without_leading_zero()),
        )
    }

    /// The public key in DER.
    pub(crate) fn public_der(&self) -> Vec<u8> {
        let Pair::Rsa(pair) = &self.pair else { panic!("not RSA") };
        pair.public_key().as_ref().to_vec()
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.algorithm(), "kid": self.name }), claims)
    }

    /// A token with a header of its own, signed as it is due to this key.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let bytes = message.as_bytes();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let padding = if header["alg"] == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), bytes, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", base64(signature))
    }
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64(header.to_string()), base64(claims.to_string()))
}

/// A token that is signed with a shared secret.
pub(crate) fn hs256(secret: &[u8], kid: &str, claims: &Value) -> String {
    let message = message(&json!({ "alg": "HS256", "kid": kid }), claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", base64(tag))
}

/// A token without a signature.
pub(crate) fn unsigned(alg: &str, kid: &str, claims: &Value) -> String {
    format!("{}.", message(&json!({ "alg": alg, "kid": kid }), claims))
}

/// Times that a test has.
pub(crate) fn quick() -> Timing {
    let millis = Duration::from_millis;
    Timing {
        unknown_key: millis(200),
        first_retry: millis(30),
        longest_retry: millis(60),
        files: millis(20),
        ..Timing::default()
    }
}

/// A folder with what `access.yaml` names.
pub(crate) struct Place {
    folder: TempDir,
}

/// What everybody may.
pub(crate) const PERMIT_ALL: &str = "permit(principal, action, resource);";

impl Place {
    pub(crate) fn new(policies: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("policies.cedar", policies);
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // At once, as whoever deploys it does.
        let written = self.path().join(".written");
        std::fs::write(&written, text).unwrap();
        std::fs::rename(written, self.path().join(name)).unwrap();
    }

    /// With these lines besides the policies.
    pub(crate) fn try_start(&self, lines: &str, timing: Timing) -> Result<Access, AccessError> {
        let text = format!("policies: policies.cedar\n{lines}");
        let config = AccessConfig::parse(&self.path().join("access.yaml"), &text)?;
        Access::start_with(config, timing)
    }

    pub(crate) fn start(&self, lines: &str) -> Access {
        self.try_start(lines, quick()).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Lines for one provider.
pub(crate) fn oidc(provider: &Provider) -> String {
    format!("oidc: [{{ issuer: '{}', audience: vespid, clock_skew: 5s }}]", provider.url)
}

/// Who comes with this token or key.
pub(crate) async fn bearer(access: &Access, token: &str) -> Result<Principal, Denied> {
    let authorization = format!("Bearer {token}");
    access.authenticate(Credentials { authorization: Some(&authorization), ..Credentials::default() }).await
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still not: {what}");
}
