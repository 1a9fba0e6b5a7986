//! Jobs that are killed at any moment, and go on.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vespid_tests::random::Random;
use vespid_tests::s3::S3;
use vespid_tests::wait;

use super::Desk;

const ROWS: usize = 60_000;
const GROUP: usize = 2000;
const KILLS: usize = 20;

/// A job that takes a while: calls of few rows.
const SLOW: [&str; 4] = ["--rows-per-call", "8", "--calls", "1"];

/// One that outlasts all kills. Of one call at a time, for calls that meet in a lane may be rounded otherwise than alone.
const SLOWER: [&str; 4] = ["--rows-per-call", "2", "--calls", "1"];

fn flowers(desk: &Desk) {
    desk.flowers("parquet", "in.parquet", ROWS, 0, GROUP);
}

fn killed(desk: &Desk, out: &str, workers: usize) {
    let mut random = Random::new(workers as u64);
    let mut kills = 0;
    let of = workers.to_string();
    let start = |index: usize| -> Child {
        let index = index.to_string();
        let share = ["--worker", &index, "--of", &of];
        desk.spawn(&[&["--input", "in.parquet", "--output", out], &SLOWER[..], &share[..]].concat())
    };
    let mut running: Vec<Child> = (0..workers).map(start).collect();
    let mut done = vec![false; workers];
    let began = Instant::now();
    while !done.iter().all(|done| *done) {
        assert!(began.elapsed() < Duration::from_secs(240), "the job comes to no end");
        thread::sleep(Duration::from_millis(100 + random.number() % 1000));
        for index in 0..workers {
            if done[index] {
                continue;
            }
            match running[index].try_wait().unwrap() {
                Some(status) => {
                    assert!(status.success(), "{status}");
                    done[index] = true;
                }
                None if kills < KILLS => {
                    running[index].kill().unwrap();
                    running[index].wait().unwrap();
                    kills += 1;
                    running[index] = start(index);
                }
                None => {}
            }
        }
    }
    assert_eq!(kills, KILLS, "it was over too soon");
}

#[test]
fn a_job_that_is_killed_twenty_times_gives_the_same_rows() {
    let desk = Desk::default();
    flowers(&desk);
    let report = desk.report(&[&["--input", "in.parquet", "--output", "undisturbed"], &SLOWER[..]].concat());
    assert_eq!(report["rows"], json!(ROWS));
    let expected = desk.rows("undisturbed");
    assert_eq!(expected.len(), ROWS);
    for workers in [1, 2] {
        let out = format!("killed-{workers}");
        killed(&desk, &out, workers);
        assert_eq!(desk.parts(&out).len(), ROWS / GROUP);
        assert!(desk.path(&out).join("_SUCCESS").is_file());
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(desk.path(&out).join("_report.json")).unwrap()).unwrap();
        assert_eq!(report["rows"], json!(ROWS));
        assert!(desk.rows(&out) == expected, "{workers} workers");
    }
}

#[test]
fn a_job_that_is_told_to_stop_finishes_its_parts_and_goes_on_when_it_is_run_again() {
    let desk = Desk::default();
    flowers(&desk);
    let arguments = [&["--input", "in.parquet", "--output", "out"], &SLOW[..]].concat();
    let mut job = desk.spawn(&arguments);
    wait::until("parts are done", || (desk.parts("out").len() > 1).then_some(()));
    vespid_tests::cli::run({
        let mut command = std::process::Command::new("kill");
        command.args(["-TERM", &job.id().to_string()]);
        command
    })
    .expect(0);
    assert_eq!(job.wait().unwrap().code(), Some(75));
    let parts = desk.parts("out").len();
    assert!((2..ROWS / GROUP).contains(&parts), "{parts}");
    assert!(!desk.path("out/_SUCCESS").exists());
    assert_eq!(desk.report(&arguments)["rows"], json!(ROWS));
}

#[test]
fn one_of_two_workers_does_its_share_and_a_second_of_the_same_number_none() {
    let desk = Desk::default();
    flowers(&desk);
    let share = |index: &'static str| {
        [&["--input", "in.parquet", "--output", "out", "--worker", index, "--of", "2"], &SLOW[..]].concat()
    };
    let mut first = desk.spawn(&share("0"));
    wait::until("a part is begun", || desk.path("out/_vespid/leases").is_dir().then_some(()));
    let second = desk.run(&share("0"));
    assert!(second.expect(75).stderr.contains("is being written by"), "{}", second.stderr);
    assert!(first.wait().unwrap().success());
    assert_eq!(desk.parts("out").len(), ROWS / GROUP / 2);
    let last = desk.report(&share("1"));
    assert_eq!(last["rows"], json!(ROWS));
    let other = desk.run(&["--input", "in.parquet", "--output", "out", "--keep", "id"]);
    assert!(other.expect(1).stderr.contains("keep is"), "{}", other.stderr);
}

#[test]
fn a_bucket_that_is_away_for_a_while_costs_time_alone() {
    let mut s3 = S3::start();
    let desk = Desk::beside(&s3);
    flowers(&desk);
    s3.put("in/a.parquet", &std::fs::read(desk.path("in.parquet")).unwrap());
    let (input, out) = (s3.url("in"), s3.url("out"));
    let arguments = [&["--input", &input, "--output", &out], &SLOW[..]].concat();
    let job = desk.iris(&arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait::until("parts are done", || {
        (s3.names("out").iter().filter(|name| !name.contains("/_")).count() > 1).then_some(())
    });
    s3.restart(Duration::from_secs(2));
    let outcome = job.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{told}");
    let folder = desk.path("got");
    std::fs::create_dir(&folder).unwrap();
    for path in s3.names("out").iter().filter(|path| !path.contains("/_")) {
        std::fs::write(folder.join(path.rsplit('/').next().unwrap()), s3.get(path)).unwrap();
    }
    let ids: Vec<_> = super::rows(&folder).iter().map(|row| row["id"].as_u64().unwrap() as usize).collect();
    assert!(ids.iter().copied().eq(0..ROWS));
}
