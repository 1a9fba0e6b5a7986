//! Looks through WASI for what it was not granted. BYTES `ask` says where, one each; `answer` is what is there.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<str>("ask", [ANY]).output::<str>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let asked = request.input("ask")?.to_strings()?;
        let answers: Vec<String> = asked.iter().map(|asked| wasi::answer(asked)).collect();
        Ok(Response::new().output("answer", Tensor::bytes(&answers, [answers.len()])?))
    }
}

#[cfg(target_arch = "wasm32")]
mod wasi {
    use wasip2::cli::{environment, exit, stderr, stdin, stdout};
    use wasip2::clocks::{monotonic_clock, wall_clock};
    use wasip2::filesystem::preopens;
    use wasip2::random::{insecure, random};
    use wasip2::sockets::network::IpAddressFamily;
    use wasip2::sockets::{instance_network, ip_name_lookup, tcp_create_socket, udp_create_socket};

    pub(super) fn answer(asked: &str) -> String {
        let (what, number) = asked.split_once(' ').unwrap_or((asked, "0"));
        let number: u64 = number.parse().unwrap_or(u64::MAX);
        match what {
            "environment" => format!("{:?}", environment::get_environment()),
            "arguments" => format!("{:?}", environment::get_arguments()),
            "folder" => format!("{:?}", environment::initial_cwd()),
            "folders" => format!("{}", preopens::get_directories().len()),
            "stdin" => format!("{:?}", stdin::get_stdin().blocking_read(number)),
            // More than a pipe takes: nobody reads it.
            "stdout" => format!("{:?}", (0..1000).try_for_each(|_| write(&stdout::get_stdout()))),
            "stderr" => format!("{:?}", (0..1000).try_for_each(|_| write(&stderr::get_stderr()))),
            "tcp" => format!("{:?}", tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4).map(drop)),
            "udp" => format!("{:?}", udp_create_socket::create_udp_socket(IpAddressFamily::Ipv6).map(drop)),
            "lookup" => {
                let network = instance_network::instance_network();
                format!("{:?}", ip_name_lookup::resolve_addresses(&network, "localhost").map(drop))
            }
            "random" => format!("{}", random::get_random_bytes(number).len()),
            "insecure" => format!("{}", insecure::get_insecure_random_bytes(number).len()),
            "clock" => format!("{}", wall_clock::now().seconds > 1_600_000_000),
            "wait" => {
                monotonic_clock::subscribe_duration(number).block();
                "awake".to_owned()
            }
            "pollables" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(monotonic_clock::subscribe_duration(u64::MAX));
                }
            }
            "streams" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(stdout::get_stdout());
                }
            }
            "exit" => {
                exit::exit(Ok(()));
                "still here".to_owned()
            }
            _ => format!("what is '{what}'?"),
        }
    }

    fn write(stream: &wasip2::io::streams::OutputStream) -> Result<(), wasip2::io::streams::StreamError> {
        stream.blocking_write_and_flush(&[b'x'; 4096])
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod wasi {
    pub(super) fn answer(_: &str) -> String {
        "for components".to_owned()
    }
}

vespid_plugin::export!(Hostile);
