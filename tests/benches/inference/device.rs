//! A device against the processor of the same machine: equal answers, the ratio of the times, and what batches give there.

use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use vespid_nn::{LaneHandle, LaneOptions};
use vespid_types::{BackendName, Datatype, Device, NamedTensor};

use crate::backends::repeat;
use crate::graphs::{self, Source};
use crate::pairs::{Plan, compare, time};
use crate::table;

const CALLERS: u64 = 16;
/// Calls of each of the callers, at least: the first and the last are not in full company.
const CALLS: u64 = 8;
const ROWS: [u64; 3] = [1, 8, 64];
/// Tokens of a row, where the graph takes texts.
const LENGTH: u64 = 64;

/// By how much of the greatest value the answers may differ. CUDA's matrices are multiplied with ten bits behind the point
/// (TF32) on the processors that have it; on the same device nothing differs.
const TOLERANCE: f32 = 0.02;

pub(crate) fn run(plan: &Plan, device: Device) {
    let (mut times, mut batches) = (Vec::new(), Vec::new());
    for graph in [Source::minilm(), Source::efficientnet()] {
        let cpu = graph.lane(BackendName::Onnxruntime, None);
        let other = on(&graph, device, None);
        for rows in ROWS {
            let inputs = graphs::inputs(cpu.signature(), rows, LENGTH);
            let apart = apart(&cpu, &other, &inputs);
            let compared = compare(
                plan,
                &mut |calls| repeat(&other, &inputs, calls),
                &mut |calls| repeat(&cpu, &inputs, calls),
                || {},
            );
            let [one, other] = [compared.one().median, compared.other().median].map(time);
            let (name, ratio) = (format!("{}, {rows}", graph.name), compared.times().to_string());
            times.push([name, other, one, ratio, format!("{apart:.1e}")]);
        }
        batches.push(with_callers(plan, &graph, device, &other));
    }
    table(
        &format!("ONNX Runtime on {device} against the processor, one caller"),
        ["graph, rows", "cpu", "device", "times as fast", "answers apart"],
        times,
    );
    table(
        &format!("{CALLERS} callers of {device} with a row each: batches against max_rows = 1"),
        ["graph", "calls/s, max_rows = 1", "calls/s, batches", "times as many"],
        batches,
    );
}

/// The graph's lane on the device.
fn on(graph: &Source, device: Device, max_rows: Option<u64>) -> LaneHandle {
    let lane = LaneOptions { max_rows, ..LaneOptions::default() };
    match graph.load(BackendName::Onnxruntime, device, None::<NonZero<usize>>, lane) {
        Ok(graphs) => graphs.get(graph.name).unwrap().lane.clone(),
        Err(error) => {
            eprintln!("error: the graphs do not run on device '{device}' of this machine: {error}");
            eprintln!("  NVIDIA devices in /dev: {}", vespid_nn::onnxruntime::nvidia_devices());
            eprintln!("  `--device cpu` runs the same bench without one");
            std::process::exit(1);
        }
    }
}

/// How far the answers are apart, as a part of the greatest value; more than the tolerance is an error.
fn apart(one: &LaneHandle, other: &LaneHandle, inputs: &[NamedTensor]) -> f32 {
    let runtime = graphs::single();
    let [one, other] = [one, other].map(|lane| runtime.block_on(graphs::compute(lane, inputs)));
    assert_eq!(one.len(), other.len());
    let apart = one.iter().zip(&other).map(|(one, other)| apart_by(&values(one), &values(other)));
    let apart = apart.fold(0.0, f32::max);
    assert!(apart <= TOLERANCE, "the device answers otherwise than the processor: {apart} apart");
    apart
}

fn apart_by(one: &[f32], other: &[f32]) -> f32 {
    assert!(one.len() == other.len() && one.iter().chain(other).all(|value| value.is_finite()));
    let greatest = one.iter().map(|value| value.abs()).fold(f32::MIN_POSITIVE, f32::max);
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max) / greatest
}

fn values(NamedTensor { tensor, .. }: &NamedTensor) -> Vec<f32> {
    assert_eq!(tensor.datatype(), Datatype::Fp32);
    let values = tensor.data().chunks_exact(4);
    values.map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
}

fn with_callers(plan: &Plan, graph: &Source, device: Device, batches: &LaneHandle) -> [String; 4] {
    let none = on(graph, device, Some(1));
    let inputs: Arc<[NamedTensor]> = graphs::inputs(none.signature(), 1, LENGTH).into();
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let calls = |lane: &LaneHandle, calls: u64| -> Duration {
        runtime.block_on(async {
            let began = Instant::now();
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    let (lane, inputs) = (lane.clone(), Arc::clone(&inputs));
                    let own = calls / CALLERS;
                    tokio::spawn(async move {
                        for _ in 0..own {
                            graphs::compute(&lane, &inputs).await;
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.await.unwrap();
            }
            began.elapsed()
        })
    };
    let compared = compare(
        &plan.in_units_of(CALLERS * CALLS),
        &mut |count| calls(&none, count),
        &mut |count| calls(batches, count),
        || {},
    );
    let [one, other] =
        [compared.one().median, compared.other().median].map(|seconds| format!("{:.0}", 1.0 / seconds));
    [graph.name.to_owned(), one, other, compared.throughput().to_string()]
}
