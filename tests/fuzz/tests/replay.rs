//! Each corpus, and mutations of it: the same ones each time, for a test that fails now and then is none.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::panic::catch_unwind;
    use std::path::{Path, PathBuf};

    use fastrand::Rng;
    use vespid_fuzz::TARGETS;

    /// More than this no mutation has.
    const LONGEST: usize = 32 << 10;

    fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
    }

    /// Words of the target's dictionary, which libFuzzer reads as well.
    fn words(name: &str) -> Vec<Vec<u8>> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("dict").join(name);
        let text = fs::read_to_string(file).unwrap_or_default();
        let word = |line: &str| {
            let quoted = line.strip_prefix('"')?.strip_suffix('"')?;
            Some(quoted.replace("\\\"", "\"").replace("\\\\", "\\").into_bytes())
        };
        text.lines().filter_map(word).collect()
    }

    /// What numbers and lengths are wrong by, and characters that mean something.
    const BYTES: &[u8] = b"\x00\x01\x7f\x80\xff[]{}()\",:;\\'/.-+eE0189 \n\r\tunlt=*";

    fn mutate(rng: &mut Rng, data: &mut Vec<u8>, others: &[(PathBuf, Vec<u8>)], words: &[Vec<u8>]) {
        let at = rng.usize(0..=data.len());
        let end = rng.usize(at..=data.len().min(at + 64));
        match rng.u8(0..9) {
            0 if at < data.len() => data[at] ^= 1 << rng.u8(0..8),
            1 if at < data.len() => data[at] = *rng.choice(BYTES).unwrap(),
            2 if at < data.len() => data[at] = data[at].wrapping_add(rng.u8(0..3).wrapping_sub(1)),
            3 => data.insert(at, *rng.choice(BYTES).unwrap()),
            4 => drop(data.drain(at..end)),
            5 => {
                let again = data[at..end].to_vec();
                data.splice(at..at, again);
            }
            6 if !words.is_empty() => {
                let word = rng.choice(words).unwrap();
                data.splice(at..at, word.iter().copied());
            }
            7 => {
                let (_, other) = rng.choice(others).unwrap();
                let from = rng.usize(0..=other.len());
                data.splice(at.., other[from..].iter().copied());
            }
            _ if rng.u8(0..8) == 0 => data.truncate(at),
            _ => {}
        }
        data.truncate(LONGEST);
    }

    fn replay(name: &str, iterations: usize) {
        vespid_fuzz::bounded();
        let (_, target) = TARGETS.iter().find(|(other, _)| *other == name).unwrap();
        let (corpus, words) = (corpus(name), words(name));
        let check = |data: &[u8], what: &dyn Fn() -> String| {
            if catch_unwind(|| target(data)).is_err() {
                let kept = std::env::temp_dir().join(format!("vespid-fuzz-{name}"));
                fs::write(&kept, data).unwrap();
                panic!("{name} fails over {}, which is in {}", what(), kept.display());
            }
        };
        for (file, data) in &corpus {
            check(data, &|| file.display().to_string());
        }
        let mut rng = Rng::with_seed(7);
        for iteration in 0..iterations {
            let mut data = rng.choice(&corpus).unwrap().1.clone();
            for _ in 0..rng.usize(1..6) {
                mutate(&mut rng, &mut data, &corpus, &words);
            }
            check(&data, &|| format!("mutation {iteration}"));
        }
    }

    /// A test for each target, and how many mutations it has: as many as take a few seconds.
    macro_rules! replayed {
        ($($name:ident: $iterations:literal,)*) => {
            $(
                #[test]
                fn $name() {
                    replay(stringify!($name), $iterations);
                }
            )*

            #[test]
            fn every_target_is_replayed_and_every_corpus_has_one() {
                let replayed = BTreeSet::from([$(stringify!($name)),*].map(str::to_owned));
                assert_eq!(replayed, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
                for (folder, suffix) in [("corpus", ""), ("fuzz_targets", ".rs")] {
                    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
                    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
                    let names = names.map(|name| name.to_str().unwrap().trim_end_matches(suffix).to_owned());
                    assert_eq!(names.collect::<BTreeSet<_>>(), replayed);
                }
            }
        };
    }

    replayed! {
        infer_json: 10_000,
        infer_binary: 10_000,
        predict: 10_000,
        generates: 10_000,
        embeddings: 10_000,
        control: 5_000,
        infer_message: 10_000,
        archive: 2_000,
        manifest: 5_000,
        record: 10_000,
        component: 300,
        csv: 2_000,
        jsonl: 1_000,
        parquet: 2_000,
        ipc: 2_000,
        condition: 10_000,
        messages: 1_000,
        ipc_message: 10_000,
        access: 5_000,
        token: 10_000,
    }
}
