//! Plugins that mean harm: each costs its own call alone.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vespid_tests::attacks::calls::{self, MEMORY};
use vespid_tests::attacks::{Attack, GROUPS, graphs, places};
use vespid_tests::neighbour::{self, asked_during};
use vespid_tests::oip::{assert_setosa, flower, kind, output, request};
use vespid_tests::server::{Home, Server};
use vespid_tests::{built, wait};

/// How often the neighbour is asked meanwhile.
const PACE: Duration = Duration::from_millis(20);

/// Has each attack of a group done, twice over where that says more, beside a neighbour that is asked all the while.
fn hold(attacks: &[Attack], rounds: usize) {
    let server = Server::configured(&["--onnxruntime", &built::onnxruntime()], &[]);
    neighbour::move_in(&server);
    let (faults, noticed) = asked_during(&server, PACE, || {
        let mut faults = Vec::new();
        for round in 0..rounds {
            for attack in attacks {
                println!("round {round}: {}", attack.name);
                let began = Instant::now();
                attack.prepare(&server);
                let answer = attack.strike(&server);
                faults.extend(attack.fault(&answer));
                assert_eq!(answer.header("retry-after").is_some(), answer.status == 503, "{answer}");
                neighbour::check(&server);
                println!("    took {:?}", began.elapsed());
            }
        }
        faults
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(noticed.wrong.is_empty(), "of {} answers: {:?}", noticed.times.len(), noticed.wrong);
    // Plugins panic too, and their lines are in the log; those of the server name its thread.
    assert!(!server.log().contains("thread '"), "{}", server.log());
    server.stop();
}

fn hold_group(name: &str, rounds: usize) {
    let (_, attacks) = GROUPS.into_iter().find(|(group, _)| *group == name).unwrap();
    hold(&attacks(), rounds);
}

#[test]
fn a_hostile_plugin_costs_its_own_call_alone() {
    hold_group("calls", 2);
}

#[test]
fn a_trap_and_a_wrong_pointer_in_any_place_cost_one_call_or_upload() {
    hold_group("places", 1);
}

#[test]
fn handles_that_are_not_the_guest_s_end_its_call() {
    hold_group("handles", 1);
}

#[test]
fn what_a_plugin_may_have_held_for_it_is_limited() {
    hold_group("greedy", 1);
}

#[test]
fn wasi_nn_refuses_what_does_not_fit() {
    hold_group("wasi-nn", 1);
}

#[test]
fn wasi_shows_nothing_that_was_not_granted() {
    hold_group("WASI", 1);
}

#[test]
fn what_is_no_component_or_too_much_of_one_is_refused_or_served() {
    hold_group("uploads", 1);
}

/// Two uploads at once, each for the half minute in which a plugin may describe itself.
#[test]
fn a_plugin_that_never_says_what_it_is_is_refused_in_the_end() {
    let server = Server::configured(&[], &[]);
    neighbour::move_in(&server);
    let (answers, noticed) = asked_during(&server, PACE, || {
        thread::scope(|scope| {
            let attacks = places::endless();
            let strikes: Vec<_> = attacks
                .into_iter()
                .map(|attack| {
                    let server = &server;
                    scope.spawn(move || attack.fault(&attack.strike(server)))
                })
                .collect();
            strikes.into_iter().filter_map(|strike| strike.join().unwrap()).collect::<Vec<_>>()
        })
    });
    assert!(answers.is_empty(), "{}", answers.join("\n"));
    assert!(noticed.wrong.is_empty(), "of {} answers: {:?}", noticed.times.len(), noticed.wrong);
    server.stop();
}

/// Compiled code of another plugin, damaged code, and none, each in the place of each.
#[test]
fn what_is_planted_in_the_code_cache_is_made_anew() {
    let home = Home::default();
    let models = ["empty", "error", "iris"];
    let server = home.start();
    models.iter().for_each(|model| server.push(model));
    server.stop();
    let entries: Vec<_> =
        fs::read_dir(home.store().join("code-cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), models.len());
    let good: Vec<_> = entries.iter().map(|entry| fs::read(entry).unwrap()).collect();
    let flipped = |content: &Vec<u8>| content.iter().map(|byte| byte ^ 1).collect();
    let plants: [&dyn Fn(usize) -> Vec<u8>; 4] = [
        &|place| good[(place + 1) % good.len()].clone(),
        &|place| [&good[place][..good[place].len() - 1], &[0xff]].concat(),
        &|place| flipped(&good[place]),
        &|place| good[place][32..].to_vec(),
    ];
    for plant in plants {
        entries.iter().enumerate().for_each(|(place, entry)| fs::write(entry, plant(place)).unwrap());
        let server = home.start();
        neighbour::check(&server);
        server.infer("error", &kind(2)).assert_error(501, "Unsupported, as the caller asked");
        let answer = server.infer("empty", &request("input", "FP32", &[1], vec![2.5]));
        assert_eq!(output(&answer, "output")["data"], json!([2.5]));
        server.stop();
        assert!(entries.iter().zip(&good).all(|(entry, good)| fs::read(entry).unwrap() == *good));
    }
}

#[test]
fn graphs_that_mean_harm_are_refused_or_fail_alone() {
    hold_group("graphs", 1);
}

/// Its lane, and the processor, are there for the next call.
#[test]
fn a_graph_without_end_ends_with_its_caller() {
    let server = Server::configured(&["--onnxruntime", &built::onnxruntime()], &[]);
    let attack = graphs::endless("onnxruntime");
    attack.prepare(&server);
    for _ in 0..2 {
        assert_eq!(attack.fault(&attack.strike(&server)), None);
        let answer = server.infer(&attack.model, &request("go", "BOOL", &[], [false]));
        assert_eq!(output(&answer, "Y")["data"], json!([0]));
    }
    // That a run was ended is nothing to tell anybody of.
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    server.stop();
}

/// Where it cannot be ended, it costs its own model's calls, and not the server's end.
#[test]
fn a_graph_that_cannot_be_ended_holds_up_its_own_model_alone() {
    let server = Server::configured(&[], &[]);
    neighbour::move_in(&server);
    let attack = graphs::endless("embedded");
    attack.prepare(&server);
    for _ in 0..2 {
        assert_eq!(attack.fault(&attack.strike(&server)), None);
        neighbour::check(&server);
    }
    assert_eq!(server.delete(&attack.model, "1").status, 204);
    neighbour::check(&server);
    server.stop();
}

/// A server with these models, of which `loop` alone keeps its time limit of 500 ms: what the others come to must not
/// depend on how busy the machine is.
fn serving(models: &[&str]) -> Server {
    let server = Server::with(&["iris"]);
    for model in models {
        assert_eq!(server.upload(model, "1", &calls::package(model).to_tar()).status, 201);
    }
    server
}

#[test]
fn what_a_plugin_says_by_itself_it_would_say_on_any_host() {
    let server = serving(&["error"]);
    let answer = server.infer("error", &kind(3));
    answer.assert_error(503, "Unavailable, as the caller asked");
    assert_eq!(answer.header("vespid-retry"), None, "{answer}");
}

#[test]
fn what_a_call_held_is_given_back() {
    let server = serving(&["allocate", "hoard"]);
    let ask = |calls: usize| {
        for _ in 0..calls {
            server.infer("allocate", &kind(0)).assert_error(500, MEMORY);
            server.infer("hoard", &kind(1 << 20)).assert_error(500, MEMORY);
        }
        server.resident()
    };
    // Each call holds 16 MiB: what is never given back would show.
    let before = ask(10);
    let after = ask(40);
    assert!(after < before + (64 << 20), "{before} bytes, and after more calls {after}");
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn other_models_answer_while_plugins_loop() {
    let server = serving(&["loop"]);
    let started = Instant::now();
    thread::scope(|scope| {
        // More of them than the server has threads.
        let loops: Vec<_> = (0..16).map(|_| scope.spawn(|| server.infer("loop", &kind(0)))).collect();
        let mut answered = 0;
        while !loops.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert_setosa(&server.infer("iris", &flower()));
            answered += 1;
        }
        assert!(answered > 0, "no other model was asked meanwhile");
        for answer in loops {
            answer.join().unwrap().assert_error(504, "the plugin did not answer before the deadline");
        }
    });
    assert!(started.elapsed() < wait::LIMIT, "the loops took {:?}", started.elapsed());
}

#[test]
fn a_caller_may_wait_for_less_than_the_model_s_own_limit_and_not_for_more() {
    let server = serving(&["loop"]);
    let took = |micros: u64| {
        let mut asked = kind(0);
        asked["parameters"] = json!({"timeout": micros});
        let started = Instant::now();
        server.infer("loop", &asked).assert_error(504, "deadline");
        started.elapsed()
    };
    assert!(took(100_000) >= Duration::from_millis(100));
    assert!(took(3_600_000_000) < wait::LIMIT, "the model's own limit is 500 ms");
}

#[test]
fn a_flood_of_log_lines_is_held_back() {
    let server = serving(&["log-flood"]);
    let answer = server.infer("log-flood", &kind(5000));
    assert_eq!(output(&answer, "answer")["data"], json!([5000]));
    let log = server.log();
    assert!(log.contains("line 1") && log.contains("further lines of this call are left out"), "{log}");
    assert!(log.len() < 100 << 10, "{} bytes of log", log.len());
    assert!(log.lines().all(|line| line.len() < 5 << 10), "a line is longer than 5 KiB");
}
