//! Components by hand, for what no compiler would make.

use std::collections::BTreeMap;

use super::{Attack, slug};
use crate::archive::Archive;
use crate::oip::kind;

/// The frame, with the places that can be filled with something else.
const FRAME: &str = include_str!("crude.wat");

/// What a well-behaved plugin has in each place.
const USUAL: [(&str, &str); 6] = [
    ("types", ""),
    (
        "realloc",
        "(local $at i32)
         (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
         (global.set $free (i32.add (local.get $at) (local.get $new)))
         (local.get $at)",
    ),
    ("more", ""),
    ("describe", "(i32.const 1024)"),
    ("predict", "(i32.const 2048)"),
    ("post", ""),
];

/// A component with something else in some of its places.
#[must_use]
pub fn component(places: &[(&str, &str)]) -> Vec<u8> {
    let mut filled: BTreeMap<&str, &str> = USUAL.into();
    for (place, text) in places {
        assert!(filled.insert(place, text).is_some(), "the frame has no place '{place}'");
    }
    let text = filled
        .iter()
        .fold(FRAME.to_owned(), |text, (place, with)| text.replace(&format!("{{{place}}}"), with));
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{places:?}: {error}"))
}

/// A package of a component.
#[must_use]
pub fn package(model: &str, component: Vec<u8>, timeout: &str) -> Archive {
    let manifest = format!(
        "[model]\nname = \"{model}\"\nversion = \"1\"\nplugin = \"crude.wasm\"\n\n\
         [limits]\nmemory = \"16MiB\"\ntimeout = \"{timeout}\"\n"
    );
    Archive::default().file("model.toml", manifest).file("crude.wasm", component)
}

/// How long a call may take: one that never ends shall end soon, and of others nothing shall depend on how busy the machine
/// is.
fn timeout(status: u16) -> &'static str {
    if status == 504 { "500ms" } else { "60s" }
}

/// A call of a component.
pub(super) fn call(name: &str, places: &[(&str, &str)], outcome: (u16, &str)) -> Attack {
    let (model, component) = (slug(name), component(places));
    let package = {
        let model = model.clone();
        move || package(&model, component.clone(), timeout(outcome.0))
    };
    Attack::call(name, &model, package, kind(7), outcome)
}

/// An upload of a component.
pub(super) fn upload(name: &str, places: &[(&str, &str)], outcome: (u16, &str)) -> Attack {
    let component = component(places);
    uploaded(name, move || component.clone(), outcome)
}

/// The same of one that is made when it is wanted.
pub(super) fn uploaded(
    name: &str,
    component: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    outcome: (u16, &str),
) -> Attack {
    let model = slug(name);
    let package = {
        let model = model.clone();
        move || package(&model, component(), "60s")
    };
    Attack::upload(name, &model, package, outcome)
}
