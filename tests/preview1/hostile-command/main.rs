//! Does as the caller asks: what a server must survive.

use std::io::{self, Read, Write};
use std::time::Duration;
use std::{process, thread};

/// The interface itself, for the crate `wasi-nn` lets nothing pass that a safe program would not.
mod wasi_nn {
    #[link(wasm_import_module = "wasi_ephemeral_nn")]
    unsafe extern "C" {
        pub fn load(parts: i32, count: i32, encoding: i32, target: i32, graph: i32) -> i32;
        pub fn load_by_name(name: i32, length: i32, graph: i32) -> i32;
        pub fn init_execution_context(graph: i32, context: i32) -> i32;
        pub fn set_input(context: i32, index: i32, tensor: i32) -> i32;
        pub fn compute(context: i32) -> i32;
        pub fn get_output(context: i32, index: i32, buffer: i32, length: i32, written: i32) -> i32;
    }
}

/// Outside of any memory that this program has.
const NOWHERE: i32 = 0x7fff_ff00;

fn main() {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input).unwrap();
    let kind = input.first_chunk().map(|kind| i32::from_le_bytes(*kind));
    match kind {
        Some(0) => echo(&input),
        Some(1) => told("load_by_name", unsafe { wasi_nn::load_by_name(NOWHERE, 4, NOWHERE) }),
        Some(2) => told("set_input", unsafe { wasi_nn::set_input(context(), 0, NOWHERE) }),
        Some(3) => told("get_output", unsafe { wasi_nn::get_output(computed(), 0, NOWHERE, 12, NOWHERE) }),
        Some(4) => told("load", unsafe { wasi_nn::load(0, 0, 1, 0, NOWHERE) }),
        Some(5) => told("set_input", unsafe { wasi_nn::set_input(7, 0, (&raw const FLOWER) as i32) }),
        Some(6) => loop {
            std::hint::black_box(());
        },
        Some(7) => thread::sleep(Duration::from_secs(3600)),
        Some(8) => {
            eprintln!("it is so,\nas the caller asked");
            process::exit(3);
        }
        Some(9) => panic!("as the caller asked"),
        Some(10) => loop {
            io::stdout().write_all(&[0; 4096]).unwrap();
        },
        Some(11) => loop {
            std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
        },
        Some(12) => loop {
            context();
        },
        Some(13) => io::stdout().write_all(b"13 bytes long").unwrap(),
        Some(14) => {
            (0..5000).for_each(|line| eprintln!("line {line} {}", "x".repeat(1 << 13)));
            echo(&input);
        }
        _ => process::abort(),
    }
}

/// A tensor as the interface has it.
#[repr(C)]
struct Tensor {
    shape: &'static [u32; 2],
    rank: u32,
    datatype: u8,
    data: &'static [f32; 4],
    length: u32,
}

static FLOWER: Tensor =
    Tensor { shape: &[1, 4], rank: 2, datatype: 1, data: &[5.1, 3.5, 1.4, 0.2], length: 16 };

/// Reads past the end, where there is nothing, and answers well.
fn echo(input: &[u8]) {
    let mut more = [0; 16];
    for _ in 0..100 {
        assert_eq!(io::stdin().read(&mut more).unwrap(), 0);
    }
    io::stdout().write_all(input).unwrap();
}

fn context() -> i32 {
    let (mut graph, mut context) = (0_i32, 0_i32);
    let (name, graph_to, context_to) = ("iris".as_ptr() as i32, &raw mut graph, &raw mut context);
    unsafe {
        told("load_by_name", wasi_nn::load_by_name(name, 4, graph_to as i32));
        told("init_execution_context", wasi_nn::init_execution_context(graph, context_to as i32));
    }
    context
}

/// A context that has an output.
fn computed() -> i32 {
    let context = context();
    unsafe {
        told("set_input", wasi_nn::set_input(context, 0, (&raw const FLOWER) as i32));
        told("compute", wasi_nn::compute(context));
    }
    context
}

/// Ends as the interface says.
fn told(what: &str, code: i32) {
    if code != 0 {
        eprintln!("{what} said {code}");
        process::exit(code);
    }
}
