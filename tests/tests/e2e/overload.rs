//! A server with many models that is asked far more than it can do.

use std::time::Duration;

use vespid_tests::load::{self, Load, Outcome};
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::Server;

const TIME: Duration = Duration::from_secs(5);
/// A second, of each model: more than any machine has room for in flight.
const RATE: u32 = 300;
const OUTSTANDING: u32 = 24;
const IN_FLIGHT: &str = "32";
/// Far more than the models and so many calls take.
const MEMORY: usize = 3 << 30;

#[test]
fn each_request_has_one_answer_and_the_server_recovers() {
    let models = ["iris", "iris-native", "simple", "file-type", "embed", "image-classify"];
    let server = Server::configured(&["--max-in-flight", IN_FLIGHT], &models);
    let load = |model, input: &[&str]| Load::new(model, input, RATE, OUTSTANDING);
    let loads = [
        load("iris", &["measurements=5.1,3.5,1.4,0.2"]),
        load("iris-native", &[]),
        load("simple", &[]),
        load("file-type", &["--file", "README.md"]),
        load("embed", &["text=The train to Vienna leaves at half past seven."]),
        load("image-classify", &["--file", "plugins/image-classify/cases/rgb.png"]),
    ];
    let (outcomes, peak) = load::peak_memory(&server, || load::run(&server, &loads, TIME));
    outcomes.iter().for_each(Outcome::check);
    let sum = |part: fn(&Outcome) -> u64| outcomes.iter().map(part).sum::<u64>();
    assert!(sum(|outcome| outcome.answered) > 0, "some are answered");
    assert!(sum(|outcome| outcome.refused) > 0, "more came than the server takes");
    assert!(peak < MEMORY, "{peak} bytes were resident");
    load::check_recovered(&server);
    assert_setosa(&server.infer("iris", &flower()));
    server.stop();
}
