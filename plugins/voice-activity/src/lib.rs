//! Finds speech in audio that comes piece by piece: Silero VAD, and the segments that its Python package finds.
//!
//! `audio` is 16-bit PCM, little-endian, mono, 16 kHz, in pieces of any length; those of one recording are a sequence. Each answer has the
//! probability of speech for each window of 512 samples that the piece completes, and the segments that end in it. With the last
//! request of a sequence (`sequence_end`) what is left is filled up with silence, and a segment that is open ends.

mod segments;
mod state;

use std::cell::RefCell;

use state::{CONTEXT, State, WINDOW};
use vespid_plugin::prelude::*;

/// Window and what goes before it.
const INPUT: usize = CONTEXT + WINDOW;

struct VoiceActivity;

thread_local! {
    /// Of the sequence that this instance answers.
    static STATE: RefCell<State> = RefCell::new(State::default());
}

impl Model for VoiceActivity {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<[u8]>("audio", [1])
            .output::<f32>("probability", [ANY])
            .output::<i64>("segments", [ANY, 2]))
    }

    fn predict(request: Request) -> Result<Response> {
        let audio = request.input("audio")?.elements()?;
        let audio = audio.first().ok_or_else(|| Error::invalid("audio has no element"))?.to_vec()?;
        let last = matches!(request.parameter("sequence_end"), Some(Parameter::Boolean(true)));
        STATE.with_borrow_mut(|state| {
            state.add(&audio)?;
            let graph = Graph::load("silero")?;
            let (mut probabilities, mut segments) = (Vec::new(), Vec::new());
            while let Some(window) = state.window(last) {
                let probability = rate(&graph, state, &window)?;
                segments.extend(state.segments.window(probability));
                probabilities.push(probability);
            }
            if last {
                segments.extend(state.segments.end(state.samples()));
            }
            let bounds: Vec<i64> = segments.iter().flatten().copied().collect();
            Ok(Response::new()
                .output("probability", Tensor::new(&probabilities, [probabilities.len()])?)
                .output("segments", Tensor::new(&bounds, [segments.len(), 2])?))
        })
    }
}

/// The probability of speech in a window, which changes what the graph remembers.
fn rate(graph: &Graph, state: &mut State, window: &[f32; WINDOW]) -> Result<f32> {
    let mut input = Vec::with_capacity(INPUT);
    input.extend_from_slice(&state.context);
    input.extend_from_slice(window);
    let outputs = graph.compute([
        ("input", Tensor::new(&input, [1, INPUT])?),
        ("state", Tensor::new(&state.memory, [2, 1, state.memory.len() / 2])?),
    ])?;
    let memory = outputs.get("stateN")?.to_vec::<f32>()?;
    if memory.len() != state.memory.len() {
        return Err(Error::internal("the graph's state has another size"));
    }
    state.memory = memory;
    let (_, context) = input.split_at(INPUT - CONTEXT);
    state.context = context.to_vec();
    let rated = outputs.get("output")?.to_vec::<f32>()?;
    rated.first().copied().ok_or_else(|| Error::internal("the graph gave no probability"))
}

impl Session for VoiceActivity {
    fn save() -> Result<Vec<u8>> {
        Ok(STATE.with_borrow(State::save))
    }

    fn restore(state: &[u8]) -> Result<()> {
        let state =
            State::restore(state).ok_or_else(|| Error::invalid("this is no state of this plugin's"))?;
        STATE.set(state);
        Ok(())
    }
}

vespid_plugin::export!(VoiceActivity as Session);
