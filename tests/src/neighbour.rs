//! A model beside others that mean harm: it is asked all the while, and each answer must be right.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::archive::Archive;
use crate::http;
use crate::oip::{assert_setosa, flower};
use crate::server::Server;

/// What a neighbour noticed.
#[derive(Debug, Default)]
pub struct Noticed {
    /// How long each answer took, in order.
    pub times: Vec<Duration>,
    /// Answers that were not the right one.
    pub wrong: Vec<String>,
}

/// Uploads the neighbour, whose time limit is so long that its answers do not depend on how busy the machine is.
pub fn move_in(server: &Server) {
    let iris = Archive::built("iris").manifest("timeout = \"1s\"", "timeout = \"60s\"");
    assert_eq!(server.upload("iris", "1", &iris.to_tar()).status, 201);
    check(server);
}

/// Asks the neighbour once.
pub fn check(server: &Server) {
    assert_setosa(&server.infer("iris", &flower()));
}

/// Does `work` while the neighbour is asked, one request each `pace`, or one after the other where it takes longer.
pub fn asked_during<T>(server: &Server, pace: Duration, work: impl FnOnce() -> T) -> (T, Noticed) {
    let (done, body) = (AtomicBool::new(false), serde_json::to_vec(&flower()).unwrap());
    let url = server.url() + "/v2/models/iris/infer";
    let ask = || {
        let mut noticed = Noticed::default();
        while !done.load(Ordering::Relaxed) || noticed.times.is_empty() {
            let began = Instant::now();
            let answer = http::try_send("POST", &url, &[], &body);
            let took = began.elapsed();
            noticed.times.push(took);
            match answer {
                Ok(answer) if answer.status == 200 && answer.to_string().contains("[\"setosa\"]") => {}
                Ok(answer) => noticed.wrong.push(answer.to_string()),
                Err(error) => noticed.wrong.push(error.to_string()),
            }
            thread::sleep(pace.saturating_sub(took));
        }
        noticed
    };
    thread::scope(|scope| {
        let asking = scope.spawn(ask);
        // Set also where the work panics: the scope waits for the thread.
        let end = End(&done);
        let given = work();
        drop(end);
        (given, asking.join().unwrap())
    })
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
