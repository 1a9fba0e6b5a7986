//! TLS: the server's certificate and its change, and clients' certificates.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use vespid_tests::cli::vespid;
use vespid_tests::server::{Home, Server};
use vespid_tests::wait;

use super::configure;

/// Who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "tests");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// One for the server.
    fn server(&self) -> Pair {
        self.sign(&CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap())
    }

    /// One for a client of that name.
    fn client(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "not this");
        params.subject_alt_names =
            vec![SanType::DnsName("nor.this".try_into().unwrap()), SanType::URI(name.try_into().unwrap())];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// A folder with the files of a server.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        // As a volume of Kubernetes does: never half of it.
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    /// A server with this certificate.
    fn start(&self, pair: &Pair, further: &[&str]) -> Server {
        let certificate = self.write("tls.crt", &pair.certificate);
        let key = self.write("tls.key", &pair.key);
        let arguments = ["--tls-certificate", &certificate, "--tls-key", &key];
        let home = Home::default();
        home.start_with(&[&arguments[..], further].concat()).at(home)
    }
}

/// What a client who trusts `authority`, and may have a certificate, is answered with.
fn get(server: &Server, path: &str, authority: &Authority, own: Option<&Pair>) -> Result<u16, ureq::Error> {
    let roots = RootCerts::from([Certificate::from_pem(authority.pem.as_bytes()).unwrap()]);
    let mut tls = TlsConfig::builder().root_certs(roots);
    if let Some(Pair { certificate, key }) = own {
        let chain = [Certificate::from_pem(certificate.as_bytes()).unwrap()];
        let key = PrivateKey::from_pem(key.as_bytes()).unwrap();
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    let config = Agent::config_builder().http_status_as_error(false).proxy(None).tls_config(tls.build());
    let agent = config.timeout_global(Some(wait::LIMIT)).build().new_agent();
    let answer = agent.get(format!("https://{}{path}", server.address())).call()?;
    Ok(answer.status().as_u16())
}

#[test]
fn the_certificate_may_change_while_it_serves() {
    let (first, second, files) = (Authority::new(), Authority::new(), Files::new());
    let server = files.start(&first.server(), &[]);
    assert_eq!(get(&server, "/v2", &first, None).unwrap(), 200);
    assert!(get(&server, "/v2", &second, None).is_err(), "another authority's");
    let plain = vespid_tests::http::try_send("GET", &format!("http://{}/v2", server.address()), &[], &[]);
    assert!(plain.is_err(), "without TLS: {plain:?}");
    let authority = files.write("ca.pem", &first.pem);
    let url = format!("https://{}", server.address());
    let variables = [("VESPID_CA_FILE", authority.as_str()), ("VESPID_SERVER", &url)];
    vespid(files.folder(), &variables, &["models"]).expect(0);
    // One that does not go with its key changes nothing.
    let Pair { certificate, key } = second.server();
    files.write("tls.crt", &certificate);
    wait::until("the server has seen that they do not go together", || {
        server.log().contains("that was there before stays in use").then_some(())
    });
    assert_eq!(get(&server, "/v2", &first, None).unwrap(), 200);
    files.write("tls.key", &key);
    wait::until("the new certificate is there", || get(&server, "/v2", &second, None).ok());
    assert!(get(&server, "/v2", &first, None).is_err(), "the old one is gone");
    server.stop();
}

#[test]
fn what_cannot_be_a_certificate_is_refused_at_the_start() {
    let (authority, files) = (Authority::new(), Files::new());
    let Pair { certificate, key } = authority.server();
    let (certificate, key) = (files.write("tls.crt", &certificate), files.write("tls.key", &key));
    let empty = files.write("empty.pem", "");
    let other = files.write("other.key", &authority.server().key);
    for (arguments, expected) in [
        (["--tls-certificate", &empty, "--tls-key", &key], "there is no certificate in PEM"),
        (["--tls-certificate", &certificate, "--tls-key", &empty], "has no private key in PEM"),
        (["--tls-certificate", &certificate, "--tls-key", "absent.pem"], "--tls-key absent.pem"),
        (["--tls-certificate", &certificate, "--tls-key", &other], "do not go together"),
    ] {
        let arguments = [&["serve", "--store", "store"], &arguments[..]].concat();
        let refused = vespid(files.folder(), &[], &arguments);
        assert!(refused.expect(1).stderr.contains(expected), "{expected}: {}", refused.stderr);
    }
}

#[test]
fn clients_show_certificates() {
    let (authority, stranger, files) = (Authority::new(), Authority::new(), Files::new());
    let client_ca = files.write("clients.pem", &authority.pem);
    let server = files.start(&authority.server(), &["--tls-client-ca", &client_ca]);
    assert!(get(&server, "/v2", &authority, None).is_err(), "no certificate");
    let known = authority.client("spiffe://tests/known");
    assert_eq!(get(&server, "/v2", &authority, Some(&known)).unwrap(), 200);
    let forged = stranger.client("spiffe://tests/known");
    assert!(get(&server, "/v2", &authority, Some(&forged)).is_err(), "another authority's");
}

#[test]
fn a_certificate_is_who_its_name_is() {
    let (authority, files) = (Authority::new(), Files::new());
    let folder = tempfile::tempdir().unwrap();
    configure(&folder, "certificates: [{name: \"spiffe://tests/known\", roles: [admin]}]");
    let access = folder.path().join("access.yaml");
    let client_ca = files.write("clients.pem", &authority.pem);
    let further = ["--tls-client-ca", &client_ca, "--access", access.to_str().unwrap()];
    let server = files.start(&authority.server(), &further);
    let status = |name: Option<&str>| {
        let own = name.map(|name| authority.client(name));
        get(&server, "/v2", &authority, own.as_ref()).unwrap()
    };
    assert_eq!(status(Some("spiffe://tests/known")), 200);
    assert_eq!(status(Some("spiffe://tests/unknown")), 401);
    assert_eq!(status(None), 401, "a token or a key would do");
}
