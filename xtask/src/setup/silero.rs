//! Silero VAD's graph, which the voice-activity package wraps, and a recording to try it on.
//!
//! The graph comes out of Silero's own Python package: of its forms the one without branches, which gives the same probabilities to the
//! bit. The recording is put together of five sentences of a novel, read aloud, that Debian's package of test data for PocketSphinx
//! has, with silence before, between and after them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::debian::Suite;
use super::{python, wheel};
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome, Step};

const GRAPH: &str = "silero_vad/data/silero_vad_openvino_16k.onnx";
const RECORDING: &str = "speech.wav";

const SUITE: &str = "bookworm";
const PACKAGE: &str = "pocketsphinx-testdata";
const FOLDER: &str = "./usr/share/pocketsphinx/test/data/librivox";
const SENTENCES: [&str; 5] = ["0870", "0880", "0890", "0920", "0930"];

/// Of a WAV file of 16-bit PCM, as these are.
const HEADER: usize = 44;
const RATE: u32 = 16_000;
/// Bytes of silence: half a second before all, and three quarters of one after each.
const BEFORE: usize = 16_000;
const AFTER: usize = 24_000;

/// Written last: the version that the files beside it belong to.
const VERSION: &str = "VERSION";

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ui::step("Silero's model", |step| {
        let pin = python::SILERO.pinned(cx, "silero-vad")?;
        let cached = cx.cache().join("assets").join(format!("silero-vad-{}", pin.version));
        let assets = cx.root().join("plugins/voice-activity/assets");
        if holds(&assets, &pin.version) {
            return Ok(Outcome::AlreadyThere);
        }
        if !holds(&cached, &pin.version) {
            fetch(cx, step, &pin, &cached)?;
        }
        scratch::remove(&assets)?;
        scratch::create(&assets)?;
        for file in [name(GRAPH), RECORDING, VERSION] {
            scratch::copy_into(&cached.join(file), &assets)?;
        }
        Ok(Outcome::Done)
    })
}

fn fetch(cx: &Context, step: &mut Step<'_>, pin: &python::Pin, place: &Path) -> Result<()> {
    let scratch = Scratch::new(cx, "silero")?;
    let unpacked = wheel::unpack(cx, step, pin, "silero-vad", &scratch)?;
    let finished = scratch.folder("finished")?;
    scratch::copy_into(&unpacked.join(GRAPH), &finished)
        .context("the wheel of silero-vad is laid out anew: adapt xtask/src/setup/silero.rs to it")?;
    let sentences = scratch.folder("sentences")?;
    Suite::open(cx, step, &scratch, SUITE)?.unpack(step, PACKAGE, FOLDER, &sentences)?;
    let recording = recording(&sentences.join(FOLDER))?;
    fs::write(finished.join(RECORDING), recording)?;
    fs::write(finished.join(VERSION), text(&pin.version))?;
    scratch::publish(&finished, place)
}

/// The sentences and the silence, as a WAV file.
fn recording(folder: &Path) -> Result<Vec<u8>> {
    let mut samples = vec![0; BEFORE];
    for sentence in SENTENCES {
        let file = folder.join(format!("sense_and_sensibility_01_austen_64kb-{sentence}.wav"));
        let wav = fs::read(&file).with_context(|| format!("{} is not in {PACKAGE}", file.display()))?;
        ensure!(wav.starts_with(b"RIFF") && wav.len() > HEADER, "{} is no WAV file", file.display());
        samples.extend(wav.iter().skip(HEADER));
        samples.extend([0; AFTER]);
    }
    let length = u32::try_from(samples.len())?;
    let mut wav = Vec::with_capacity(HEADER + samples.len());
    wav.extend(b"RIFF");
    wav.extend((length + 36).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    // Of so many bytes: PCM, one channel, the rate in samples and in bytes, bytes and bits of a sample.
    wav.extend(16_u32.to_le_bytes());
    wav.extend([1_u16, 1].into_iter().flat_map(u16::to_le_bytes));
    wav.extend([RATE, 2 * RATE].into_iter().flat_map(u32::to_le_bytes));
    wav.extend([2_u16, 16].into_iter().flat_map(u16::to_le_bytes));
    wav.extend(b"data");
    wav.extend(length.to_le_bytes());
    wav.extend(samples);
    Ok(wav)
}

fn text(version: &str) -> String {
    format!("silero-vad {version}\n")
}

fn holds(folder: &Path, version: &str) -> bool {
    fs::read_to_string(folder.join(VERSION)).is_ok_and(|found| found == text(version))
        && [name(GRAPH), RECORDING].iter().all(|file| folder.join(file).is_file())
}

fn name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}
