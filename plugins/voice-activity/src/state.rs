//! What is kept of a recording between two pieces.

use vespid_plugin::prelude::*;

use crate::segments::Segments;

/// Samples that are rated together, and those before them that the graph sees again.
pub(crate) const WINDOW: usize = 512;
pub(crate) const CONTEXT: usize = 64;

/// What the graph remembers: two layers of an LSTM.
const MEMORY: usize = 2 * 128;

/// The form that `save` writes; another number for another one.
const FORM: u8 = 1;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) memory: Vec<f32>,
    pub(crate) context: Vec<f32>,
    pub(crate) segments: Segments,
    /// Bytes that do not make a window yet.
    pending: Vec<u8>,
    /// Samples seen, those in `pending` not among them.
    rated: i64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            memory: vec![0.0; MEMORY],
            context: vec![0.0; CONTEXT],
            segments: Segments::default(),
            pending: Vec::new(),
            rated: 0,
        }
    }
}

impl State {
    /// Takes a piece of the recording.
    pub(crate) fn add(&mut self, audio: &[u8]) -> Result<()> {
        if !audio.len().is_multiple_of(2) {
            let message =
                format!("audio has {} bytes: a sample has two, and a piece whole samples", audio.len());
            return Err(Error::invalid(message));
        }
        self.pending.extend_from_slice(audio);
        Ok(())
    }

    /// The next window; with the last piece also one that is not full.
    pub(crate) fn window(&mut self, last: bool) -> Option<[f32; WINDOW]> {
        let there = (self.pending.len() / 2).min(WINDOW);
        if there == 0 || (there < WINDOW && !last) {
            return None;
        }
        let mut window = [0.0; WINDOW];
        for (sample, bytes) in
            window.iter_mut().zip(self.pending.drain(..2 * there).as_slice().chunks_exact(2))
        {
            if let [low, high] = bytes {
                *sample = f32::from(i16::from_le_bytes([*low, *high])) / 32768.0;
            }
        }
        self.rated += there as i64;
        Some(window)
    }

    /// The samples of the recording so far.
    pub(crate) fn samples(&self) -> i64 {
        self.rated + self.pending.len() as i64 / 2
    }

    /// All of it, little-endian: the form, the graph's memory and context, positions, and what is pending.
    pub(crate) fn save(&self) -> Vec<u8> {
        let Segments { windows, start, silence } = self.segments;
        let mut bytes = vec![FORM];
        let floats = self.memory.iter().chain(&self.context);
        bytes.extend(floats.flat_map(|value| value.to_le_bytes()));
        let numbers = [windows, start.unwrap_or(-1), silence.unwrap_or(-1), self.rated];
        bytes.extend(numbers.into_iter().flat_map(i64::to_le_bytes));
        bytes.extend(&self.pending);
        bytes
    }

    /// What [`State::save`] wrote.
    pub(crate) fn restore(bytes: &[u8]) -> Option<Self> {
        let (form, bytes) = bytes.split_first()?;
        let (floats, bytes) = bytes.split_at_checked(4 * (MEMORY + CONTEXT))?;
        let (numbers, pending) = bytes.split_at_checked(4 * 8)?;
        if *form != FORM || pending.len() >= 2 * WINDOW {
            return None;
        }
        let floats =
            floats.chunks_exact(4).filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?)));
        let mut memory: Vec<f32> = floats.collect();
        let context = memory.split_off(MEMORY);
        let numbers =
            numbers.chunks_exact(8).filter_map(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
        let numbers: Vec<i64> = numbers.collect();
        let [windows, start, silence, rated] = numbers[..] else { return None };
        let some = |number: i64| (number >= 0).then_some(number);
        let segments = Segments { windows, start: some(start), silence: some(silence) };
        Some(Self { memory, context, segments, pending: pending.to_vec(), rated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_full_until_the_last() {
        let mut state = State::default();
        state.add(&[0xff, 0x7f].repeat(700)).unwrap();
        assert_eq!(state.window(false).unwrap()[511], 32767.0 / 32768.0);
        assert_eq!((state.window(false), state.samples()), (None, 700));
        let last = state.window(true).unwrap();
        assert_eq!((last[187], last[188], state.samples()), (32767.0 / 32768.0, 0.0, 700));
        assert!(state.add(&[1]).unwrap_err().to_string().contains("1 bytes"));
    }

    #[test]
    fn it_is_restored_as_it_was_saved() {
        let mut state = State::default();
        state.add(&[1, 2, 3, 4]).unwrap();
        state.segments.start = Some(512);
        state.memory[3] = 0.25;
        let saved = state.save();
        assert_eq!(State::restore(&saved), Some(state));
        assert_eq!(State::restore(&saved[..saved.len() - 5]), None);
        assert_eq!(State::restore(&[&[9], &saved[1..]].concat()), None);
        assert_eq!(State::restore(&[]), None);
    }
}
