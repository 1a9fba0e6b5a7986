//! What is generated of the chart and about its resources: the definitions in it, the table of its values, and the reference
//! of the resources. All of it is committed, so that chart and pages can be used as they are.

mod values;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::ui::{self, Outcome};
use crate::{packages, scratch, setup};

/// Where the base installs it.
const NAMESPACE: &str = "models";

const CHART: &str = "charts/vespid";
const DEFINITIONS: &str = "charts/vespid/templates/crds";
const VALUES: &str = "charts/vespid/values.yaml";
const README: &str = "charts/vespid/README.md";
const REFERENCE: &str = "docs/resources.md";

/// What is installed without helm: the definitions, and what the chart gives by itself.
const BASE: &str = "examples/kubernetes/base";

/// Between these lines of the README lies what is generated.
const MARKS: [&str; 2] = ["<!-- values: written by `cargo xtask chart` -->\n", "<!-- end of values -->\n"];

/// Writes what is generated, or only checks that it is what the code gives. A binary that `VESPID_BIN` names, as for the tests,
/// is taken as it is.
pub(crate) fn run(cx: &Context, check: bool) -> Result<()> {
    let vespid = match env::var_os("VESPID_BIN") {
        Some(vespid) => PathBuf::from(vespid),
        None => packages::binary(cx)?,
    };
    {
        let _lock = setup::lock(cx)?;
        setup::kubernetes::ensure_tools(cx)?;
    }
    step(cx, &vespid, check)
}

/// The same with a binary that is there.
pub(crate) fn step(cx: &Context, vespid: &Path, check: bool) -> Result<()> {
    ui::step("what is generated of the chart", |_| {
        let files = files(cx, vespid)?;
        let different: Vec<_> = files
            .iter()
            .filter(|(path, text)| fs::read_to_string(path).ok().as_ref() != Some(*text))
            .collect();
        if let Some(names) = names(cx, &different).filter(|_| check) {
            bail!("{names} is not what the code gives: run `cargo xtask chart`");
        }
        for (path, text) in &different {
            scratch::create(path.parent().context("a file without a folder")?)?;
            fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(if different.is_empty() { Outcome::AlreadyThere } else { Outcome::Done })
    })
}

fn names(cx: &Context, files: &[(&PathBuf, &String)]) -> Option<String> {
    let names =
        files.iter().map(|(path, _)| path.strip_prefix(cx.root()).unwrap_or(path).display().to_string());
    Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
}

fn files(cx: &Context, vespid: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let definitions = printed(cx, vespid, &["crds"])?;
    for definition in definitions.split("---\n").filter(|text| !text.trim().is_empty()) {
        let name = name(definition).context("`vespid crds` printed a definition without a name")?;
        files.insert(cx.root().join(DEFINITIONS).join(format!("{name}.yaml")), template(definition)?);
    }
    files.insert(cx.root().join(REFERENCE), printed(cx, vespid, &["crds", "--output", "markdown"])?);
    let values = cx.root().join(VALUES);
    let values =
        fs::read_to_string(&values).with_context(|| format!("{} cannot be read", values.display()))?;
    let readme = cx.root().join(README);
    let text = fs::read_to_string(&readme).with_context(|| format!("{} cannot be read", readme.display()))?;
    files.insert(readme, between(&text, &values::table(&values)?)?);
    let base = cx.root().join(BASE);
    files.insert(base.join("definitions.yaml"), definitions);
    files.insert(base.join("vespid.yaml"), rendered(cx)?);
    Ok(files)
}

fn printed(cx: &Context, program: &Path, arguments: &[&str]) -> Result<String> {
    let mut command: Command = cx.command(program);
    let output =
        command.args(arguments).output().with_context(|| format!("{} does not start", program.display()))?;
    if !output.status.success() {
        bail!(
            "`{} {}` failed: {}",
            program.display(),
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The chart's objects without its definitions.
fn rendered(cx: &Context) -> Result<String> {
    let arguments = [
        "template",
        "vespid",
        CHART,
        "--namespace",
        NAMESPACE,
        "--set",
        "crds.install=false",
        "--skip-tests",
    ];
    Ok(format!(
        "# Written by `cargo xtask chart`: `helm {}`.\n{}",
        arguments.join(" "),
        printed(cx, &setup::kubernetes::helm(cx), &arguments)?
    ))
}

/// A definition's name.
fn name(definition: &str) -> Option<&str> {
    let metadata = definition.split("\nmetadata:\n").nth(1)?;
    metadata.lines().take_while(|line| line.starts_with(' ')).find_map(|line| line.strip_prefix("  name: "))
}

/// A definition as a template: a part of the release only where that is wanted, and kept when it goes.
fn template(definition: &str) -> Result<String> {
    // What a description says is no template.
    let definition = definition.replace("{{", "{{ \"{{\" }}");
    let (before, after) = definition.split_once("\nmetadata:\n").context("a definition without metadata")?;
    Ok(format!(
        "{{{{- /* Written by `cargo xtask chart` from host/resources. */ -}}}}\n{{{{- if .Values.crds.install }}}}\n{}\nmetadata:\n  \
         {{{{- if .Values.crds.keep }}}}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{{{- end }}}}\n  labels:\n    \
         {{{{- include \"vespid.labels\" (dict \"root\" . \"component\" \"definitions\") | nindent 4 }}}}\n{}\n{{{{- end }}}}\n",
        before.trim_start(),
        after.trim_end(),
    ))
}

/// The text with another part between the marks.
fn between(text: &str, part: &str) -> Result<String> {
    let [begin, end] = MARKS;
    let (before, rest) =
        text.split_once(begin).with_context(|| format!("{README} lacks the line {begin}"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("{README} lacks the line {end}"))?;
    Ok(format!("{before}{begin}{part}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: models.vespid.dev\n\
                              spec:\n  description: '{{a}}'\n";

    #[test]
    fn a_definition_becomes_a_template() {
        assert_eq!(name(DEFINITION), Some("models.vespid.dev"));
        let template = template(DEFINITION).unwrap();
        assert!(template.contains("\n  name: models.vespid.dev\nspec:\n"), "{template}");
        assert!(template.contains("'{{ \"{{\" }}a}}'"), "{template}");
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let [begin, end] = MARKS;
        let text = format!("before\n{begin}old\n{end}after\n");
        assert_eq!(between(&text, "new\n").unwrap(), format!("before\n{begin}new\n{end}after\n"));
        assert!(between("nothing", "new\n").is_err());
    }
}
