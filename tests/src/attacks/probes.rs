//! What WASI shows to a plugin that was granted nothing: what is there and empty, and what is not there.

use super::calls::MEMORY;
use super::{Attack, words};
use crate::archive::Archive;

/// What it asks for, and the status and a part of the text that come of it.
const CASES: [(&str, u16, &str); 23] = [
    ("environment", 200, "\"[]\""),
    ("arguments", 200, "\"[]\""),
    ("folder", 200, "\"None\""),
    ("folders", 200, "\"0\""),
    ("stdin 100", 200, "Closed"),
    ("stdout", 200, "Ok(())"),
    ("stderr", 200, "Ok(())"),
    ("tcp", 200, "access-denied"),
    ("udp", 200, "access-denied"),
    ("lookup", 200, "permanent-resolver-failure"),
    // Clocks and random numbers are there for all.
    ("clock", 200, "true"),
    ("random 32", 200, "\"32\""),
    ("random 1099511627776", 500, "the plugin trapped"),
    ("random 18446744073709551615", 500, "the plugin trapped"),
    ("random 33554432", 500, MEMORY),
    ("insecure 1099511627776", 500, "the plugin trapped"),
    ("wait 1000", 200, "awake"),
    ("wait 18446744073709551615", 504, "the plugin did not answer before the deadline"),
    ("pollables", 500, "the plugin trapped"),
    ("streams", 500, "the plugin trapped"),
    ("stdin 18446744073709551615", 200, "Closed"),
    ("exit", 500, "the plugin trapped: Exited with i32 exit status 0"),
    ("nothing", 200, "what is 'nothing'?"),
];

pub(super) fn attacks() -> Vec<Attack> {
    let one = |(asked, status, message): (&str, u16, &str)| {
        let model = if status == 504 { "probe-hasty" } else { "probe" };
        let package = move || {
            let package =
                Archive::built("probe").manifest("name = \"probe\"", &format!("name = \"{model}\""));
            if status == 504 { package.manifest("60s", "500ms") } else { package }
        };
        Attack::call(&format!("probe: {asked}"), model, package, words(&[asked]), (status, message))
    };
    let unasked = Attack::upload(
        "probe: http, not asked for",
        "outside",
        || {
            let manifest = Archive::built("probe").manifest("probe", "outside").data("model.toml").to_vec();
            Archive::built("outside").file("model.toml", manifest)
        },
        (400, "imports 'wasi:http/"),
    );
    let granted = Attack::upload(
        "probe: what the server does not allow",
        "outside",
        || Archive::built("outside"),
        (403, "asks under [grants] for what this server does not allow"),
    );
    CASES.into_iter().map(one).chain([unasked, granted]).collect()
}
