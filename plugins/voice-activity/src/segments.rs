//! Probabilities to segments, as `get_speech_timestamps` of silero-vad 6.2 does by default.
//!
//! Speech begins with a window of 0.5 or more, and ends before windows below 0.35 that last 100 ms without one of 0.5 between them.
//! What is not longer than 250 ms is dropped; the rest is given 30 ms on both sides. Two segments are at least 100 ms apart, so that
//! those sides never meet, and a segment is known when it ends.

use crate::state::WINDOW;

const SPEECH: f32 = 0.5;
const SILENCE: f32 = 0.35;

/// In samples of 16 kHz.
const MIN_SPEECH: i64 = 4000;
const MIN_SILENCE: i64 = 1600;
const SIDE: i64 = 480;

/// Where in the recording it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Windows seen.
    pub(crate) windows: i64,
    /// Where the segment began that is open.
    pub(crate) start: Option<i64>,
    /// Where the silence began that may end it.
    pub(crate) silence: Option<i64>,
}

impl Segments {
    /// Takes the next window; returns the segment that it ends.
    pub(crate) fn window(&mut self, probability: f32) -> Option<[i64; 2]> {
        let at = self.windows * WINDOW as i64;
        self.windows += 1;
        if probability >= SPEECH {
            self.silence = None;
            self.start.get_or_insert(at);
            return None;
        }
        let start = self.start.filter(|_| probability < SILENCE)?;
        // The reference takes 0 for no silence, but no speech begins before one that begins there.
        let silence = *self.silence.get_or_insert(at);
        if at - silence < MIN_SILENCE {
            return None;
        }
        (self.start, self.silence) = (None, None);
        (silence - start > MIN_SPEECH).then_some([(start - SIDE).max(0), silence + SIDE])
    }

    /// Ends with a recording of so many samples; returns the segment that is open.
    pub(crate) fn end(&mut self, samples: i64) -> Option<[i64; 2]> {
        let start = self.start.take()?;
        self.silence = None;
        (samples - start > MIN_SPEECH).then_some([(start - SIDE).max(0), samples])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(probabilities: &[f32]) -> Vec<[i64; 2]> {
        let mut segments = Segments::default();
        let found: Vec<_> = probabilities.iter().filter_map(|p| segments.window(*p)).collect();
        found.into_iter().chain(segments.end(probabilities.len() as i64 * 512)).collect()
    }

    #[test]
    fn speech_has_a_length_and_sides() {
        // Nine windows are more than 250 ms; the silence after them is told with its fifth window.
        assert_eq!(found(&[&[0.1; 2][..], &[0.9; 9], &[0.1; 5]].concat()), [[1024 - 480, 11 * 512 + 480]]);
        assert_eq!(found(&[&[0.1; 2][..], &[0.9; 7], &[0.1; 9]].concat()), [[0; 2]; 0]);
        // One that is open ends with the recording, and begins no earlier than it.
        assert_eq!(found(&[0.9; 9]), [[0, 9 * 512]]);
    }

    #[test]
    fn what_is_neither_speech_nor_silence_changes_nothing() {
        let quiet = [&[0.9; 9][..], &[0.1], &[0.4; 20], &[0.9; 2], &[0.1; 5]].concat();
        assert_eq!(found(&quiet), [[0, 32 * 512 + 480]]);
        // Only what is below 0.35 ends it, as long as it takes.
        let loud = [&[0.9; 9][..], &[0.1], &[0.4; 20], &[0.1]].concat();
        assert_eq!(found(&loud), [[0, 9 * 512 + 480]]);
    }
}
