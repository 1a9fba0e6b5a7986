//! The files that patterns find.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::File;
use crate::stamp::stamp;
use crate::{Compression, DataError, Format, Pattern, Place};

/// Files of one format, and the keys of their folders' names.
pub(super) struct Found {
    pub(super) files: Vec<File>,
    pub(super) format: Format,
    pub(super) partitions: Vec<String>,
}

/// How globs are matched: `*` within a folder, `**` over any.
const MATCHING: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Looks for the files of each pattern, in order, each file once.
///
/// # Errors
/// [`DataError::Nothing`], [`DataError::Setting`], [`DataError::Object`].
pub(super) async fn find(patterns: &[Pattern], format: Option<Format>) -> Result<Found, DataError> {
    let (mut files, mut seen): (Vec<File>, HashSet<(String, String)>) = (Vec::new(), HashSet::new());
    let mut chosen: Option<(Format, String)> = format.map(|format| (format, String::new()));
    let mut keys: Option<(Vec<String>, String)> = None;
    for (input, pattern) in patterns.iter().enumerate() {
        let mut found_any = false;
        let (metas, outright) = metas(pattern).await?;
        for meta in metas {
            let place = pattern.place.found(meta.location.clone());
            let by_name = Format::of_name(place.path.as_ref());
            let found = match (format, by_name) {
                (Some(Format::Files), _) => (Format::Files, Compression::None),
                (Some(format), by_name) => {
                    (format, by_name.map(|(_, compression)| compression).unwrap_or_default())
                }
                (None, Some(found)) => found,
                (None, None) if outright => {
                    let reason = format!(
                        "the name of {} tells no format: say parquet, csv, jsonl, arrow or files",
                        place.shown
                    );
                    return Err(DataError::Setting { field: "input.format", reason });
                }
                (None, None) => continue,
            };
            let (first, of) = chosen.get_or_insert_with(|| (found.0, place.shown.to_string()));
            if *first != found.0 {
                let reason =
                    format!("{of} is {first}, and {} is {}: name files of one format", place.shown, found.0);
                return Err(DataError::Setting { field: "input.url", reason });
            }
            let partitions = match found.0 {
                Format::Files => Vec::new(),
                _ => super::partitions::of(&pattern.place.below(&meta.location).unwrap_or_default()),
            };
            let (names, values): (Vec<String>, Vec<String>) = partitions.into_iter().unzip();
            let (expected, of) = keys.get_or_insert_with(|| (names.clone(), place.shown.to_string()));
            if *expected != names {
                let reason = format!(
                    "the folders of {} name the columns {names:?}, and those of {of} name {expected:?}",
                    place.shown
                );
                return Err(DataError::Setting { field: "input.url", reason });
            }
            found_any = true;
            // Where two patterns find it, it is one file, however each names it.
            if seen.insert((store_of(&place), meta.location.to_string())) {
                files.push(File {
                    input,
                    path: meta.location.to_string(),
                    size: meta.size,
                    stamp: stamp(&meta),
                    modified: meta.last_modified.timestamp_micros(),
                    compression: found.1,
                    partitions: values,
                });
            }
        }
        if !found_any {
            return Err(DataError::Nothing { pattern: pattern.shown.to_string() });
        }
    }
    let format = chosen.map(|(format, _)| format);
    let format = format.ok_or_else(|| DataError::Nothing { pattern: "input.url".to_owned() })?;
    Ok(Found { files, format, partitions: keys.map(|(names, _)| names).unwrap_or_default() })
}

/// What tells the stores of places apart: this machine's files, or a bucket's scheme and name.
fn store_of(place: &Place) -> String {
    match place.local {
        Some(_) => String::new(),
        None => place.shown.split('/').take(3).collect::<Vec<_>>().join("/"),
    }
}

/// What a pattern finds, by path, and whether it names one file outright.
async fn metas(pattern: &Pattern) -> Result<(Vec<ObjectMeta>, bool), DataError> {
    let place = &pattern.place;
    let told = |error| DataError::object("list", &*pattern.shown)(error);
    if pattern.glob.is_none() && !place.path.as_ref().is_empty() {
        match place.store.head(&place.path).await {
            Ok(meta) => return Ok((vec![meta], true)),
            Err(object_store::Error::NotFound { .. }) => {}
            // A folder of this machine is no object.
            Err(_) if place.local.as_ref().is_some_and(|path| path.is_dir()) => {}
            Err(error) => return Err(told(error)),
        }
    }
    let prefix = (!place.path.as_ref().is_empty()).then_some(&place.path);
    let mut metas: Vec<ObjectMeta> = match place.store.list(prefix).try_collect().await {
        Ok(metas) => metas,
        Err(object_store::Error::NotFound { .. }) => Vec::new(),
        Err(error) => return Err(told(error)),
    };
    metas.retain(|meta| {
        let Some(name) = place.below(&meta.location) else { return false };
        // What begins so is no data, as Spark and Hive have it, unless it is asked for by that name.
        let mut hidden = name.split('/').filter(|segment| segment.starts_with(['_', '.']));
        let asked = |segment: &str| {
            pattern.glob.as_ref().is_some_and(|glob| glob.as_str().split('/').any(|part| part == segment))
        };
        let matches =
            pattern.glob.as_ref().is_none_or(|glob| glob.matches_with(meta.location.as_ref(), MATCHING));
        matches && hidden.all(asked)
    });
    metas.sort_by(|a, b| a.location.cmp(&b.location));
    Ok((metas, false))
}
