//! `vespid deploy`: makes a package a model that a cluster serves.

mod document;
mod follow;
mod weights;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use kube::Api;
use kube::api::{Patch, PatchParams};
use vespid_package::oci::{Reference, Wanted};
use vespid_resources::{Model, PackageSource};
use vespid_types::{ModelName, Version};

use self::document::Document;
use self::weights::Weight;
use super::push::{self, Packaged};
use crate::args::Server;
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::failure::{Failure, Hint as _};
use crate::manifest::Manifest;
use crate::registry::{self, RegistryArgs};
use crate::ui::{self, GOOD};

/// Who owns the fields that this command sets.
const FIELD_MANAGER: &str = "vespid-deploy";

const AFTER_HELP: &str = "\
Examples:
  vespid deploy scaler --server https://models.example     builds the folder and hands it to the cluster's gateway
  vespid deploy oci://registry.example/models/scaler:1 --wait
  vespid deploy scaler oci://registry.example/models/scaler   pushed there first
  vespid deploy scaler s3://bucket/models --pool gpu --replicas 2
  vespid deploy oci://registry.example/models/scaler:2 --weight 1=90,2=10
                                             version 2 beside version 1, with one of ten requests
  vespid deploy scaler --output yaml > model.yaml          writes the resource, and does nothing

Name and version come from model.toml in the package. Version and package of a model that is there are added to it; what else it \
says stays. Without --pool, --replicas, --weight and --wait a package goes to the gateway, and the cluster's API server is not asked.";

/// Make a package a model that a cluster serves; a folder is built first
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DeployArgs {
    /// A model's folder, a package that `vespid build` wrote, or oci://HOST[:PORT]/REPOSITORY with :TAG or @DIGEST
    #[arg(value_name = "DIR|TAR|REFERENCE")]
    package: PathBuf,
    /// Where a folder or tar is put for the pods to fetch: an artifact in a registry, or a store in a bucket [default: the gateway]
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// The pool that serves it [default: as it is; at first, the one called `default`]
    #[arg(long, value_name = "POOL", value_parser = parse_name)]
    pool: Option<String>,
    /// Pods that load it before it is asked [default: as it is; at first 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=1000))]
    replicas: Option<i32>,
    /// Its share of the requests that name no version; as VERSION=WEIGHT those of others too
    #[arg(long = "weight", value_name = "[VERSION=]WEIGHT", value_delimiter = ',')]
    weights: Vec<Weight>,
    /// Wait until it is served, so long at most
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "5m", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Write the resource to standard output, and do nothing else
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// The same in this form
    #[arg(long, value_enum, value_name = "FORM", conflicts_with = "wait")]
    output: Option<Form>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// A name as resources have it.
fn parse_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match text.chars().all(plain) && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("use small letters, digits and hyphens".to_owned()),
    }
}

/// How a resource is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Yaml,
    Json,
}

/// A version of a model, and where pods find it.
struct Deployed {
    name: ModelName,
    version: Version,
    source: PackageSource,
}

pub(crate) fn run(args: &DeployArgs) -> anyhow::Result<()> {
    if let Some(form) = args.output.or(args.dry_run.then_some(Form::Yaml)) {
        let deployed = args.described()?;
        let document = Document::new(&deployed, None, args)?;
        return Ok(ui::result(document.text(form)?.trim_end())?);
    }
    let uploaded = args.target.is_none() && !args.is_reference();
    let deployed = args.handed_over()?;
    if uploaded && !args.asks_the_cluster() {
        return Ok(());
    }
    let cluster = Cluster::connect(&args.cluster)?;
    let models: Api<Model> = cluster.api();
    let model = cluster.wait(apply(&models, &deployed, args))?;
    let applied = ui::styled(GOOD, "deployed");
    let Deployed { name, version, .. } = &deployed;
    ui::result(format!("{applied} {name} version {version} to the pool {}", model.spec.pool))?;
    match args.wait {
        Some(limit) => cluster.wait(follow::until_served(models, &deployed, limit)),
        None => Ok(()),
    }
}

/// Writes the resource; as it is then.
async fn apply(models: &Api<Model>, deployed: &Deployed, args: &DeployArgs) -> anyhow::Result<Model> {
    let name = deployed.name.as_str();
    let failed = |error| cluster::failure(error, format!("the model {name} cannot be written"));
    let before = models.get_opt(name).await.map_err(failed)?;
    let document = Document::new(deployed, before.as_ref(), args)?;
    // What this command is told is the user's will; what it is not told, it does not write.
    let settings = PatchParams::apply(FIELD_MANAGER).force();
    models.patch(name, &settings, &Patch::Apply(document.value())).await.map_err(failed)
}

impl DeployArgs {
    fn is_reference(&self) -> bool {
        self.package.to_str().is_some_and(registry::is_reference)
    }

    /// Whether there is more to say of it than the gateway does by itself.
    fn asks_the_cluster(&self) -> bool {
        self.pool.is_some() || self.replicas.is_some() || !self.weights.is_empty() || self.wait.is_some()
    }

    fn packaged(&self) -> Packaged<'_> {
        Packaged { path: &self.package, registries: &self.registry }
    }

    /// Puts the package where pods find it.
    fn handed_over(&self) -> anyhow::Result<Deployed> {
        let package = self.packaged();
        match &self.target {
            _ if self.is_reference() => self.described(),
            Some(target) if registry::is_reference(target) => {
                let (manifest, sent) = push::to_registry(&package, &registry::reference(target)?, None)?;
                Ok(Deployed::of(&manifest, from_registry(&sent.reference)))
            }
            Some(target) => {
                let source = from_store(target)?;
                Ok(Deployed::of(&push::to_store(&package, target)?.0, source))
            }
            None => {
                // Built once: the digest is that of what is sent.
                let (file, _kept) = package.packed()?;
                let package = Packaged { path: &file, ..package };
                let (manifest, digest) = package.digest()?;
                // A Model that is made is of this pool from its beginning, and loaded there.
                let query = self.pool.as_ref().map(|pool| format!("?pool={pool}"));
                push::to_server(&package, &self.server.url, &query.unwrap_or_default())?;
                Ok(Deployed::of(&manifest, uploaded(&digest.to_string())))
            }
        }
    }

    /// What would be handed over, with nothing sent.
    fn described(&self) -> anyhow::Result<Deployed> {
        if let Some(reference) = self.package.to_str().filter(|text| registry::is_reference(text)) {
            if self.target.is_some() {
                return Err(Failure::usage(
                    "a package in a registry is served from there: leave the second place out",
                )
                .into());
            }
            return self.resolved(&registry::reference(reference)?);
        }
        let (manifest, digest) = self.packaged().digest()?;
        let source = match &self.target {
            None => uploaded(&digest.to_string()),
            Some(target) if registry::is_reference(target) => {
                let reference = registry::reference(target)?;
                let tagged = match reference.tag() {
                    Some(_) => reference,
                    None => reference
                        .tagged(&manifest.version.to_string())
                        .map_err(|error| Failure::usage(error.to_string()))?,
                };
                from_registry(&tagged.pinned(digest))
            }
            Some(target) => from_store(target)?,
        };
        Ok(Deployed::of(&manifest, source))
    }

    /// What a reference leads to now: its manifest is read, and its digest written down, so that pods that come later serve
    /// the same.
    fn resolved(&self, reference: &Reference) -> anyhow::Result<Deployed> {
        let client = registry::Client::new(&self.registry)?;
        let cache = registry::cache()?;
        let (reference, file) = client.transfer("reading", async |registry, progress| {
            let digest = match reference.digest() {
                Some(digest) => digest,
                None => registry.digest(reference).await?,
            };
            let pinned = reference.pinned(digest);
            let file = registry.pull_file(&pinned, Wanted::Manifest, &cache, progress).await?;
            anyhow::Ok((pinned, file))
        })?;
        Ok(Deployed::of(&read(&file, &reference)?, from_registry(&reference)))
    }
}

fn read(file: &Path, reference: &Reference) -> Result<Manifest, Failure> {
    let text = std::fs::read_to_string(file);
    Manifest::parse(
        &text.hint(format!("the manifest of {reference} cannot be read"), "build the package anew")?,
    )
}

impl Deployed {
    fn of(manifest: &Manifest, source: PackageSource) -> Self {
        Self { name: manifest.name.clone(), version: manifest.version, source }
    }
}

fn from_registry(reference: &Reference) -> PackageSource {
    PackageSource { oci: Some(reference.to_string()), ..PackageSource::default() }
}

fn uploaded(digest: &str) -> PackageSource {
    PackageSource { upload: Some(digest.to_owned()), ..PackageSource::default() }
}

fn from_store(target: &str) -> Result<PackageSource, Failure> {
    if !["s3://", "gs://", "az://"].iter().any(|scheme| target.starts_with(scheme)) {
        let failure = Failure::usage(format!("'{target}' is no place that pods can fetch from"));
        return Err(failure.hint("name oci://, s3://, gs:// or az://, or leave it out for the gateway"));
    }
    Ok(PackageSource { store: Some(target.to_owned()), ..PackageSource::default() })
}
