//! Reaches out of its sandbox in all the ways that there are, as the caller tells it to.

use vespid_plugin::prelude::*;
use vespid_plugin::{assets, http};

struct Outside;

impl Model for Outside {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<str>("ask", [ANY]).output::<str>("answer", [ANY]))
    }

    fn predict(request: Request) -> Result<Response> {
        let asked = request.input("ask")?.to_strings()?;
        let answers = asked.iter().map(|asked| answer(asked)).collect::<Result<Vec<String>>>()?;
        Ok(Response::new().output("answer", Tensor::bytes(&answers, [answers.len()])?))
    }
}

fn answer(asked: &str) -> Result<String> {
    let (verb, what) = asked.split_once(' ').unwrap_or((asked, ""));
    match verb {
        "get" => told(http::get(what)?),
        "post" => told(http::Request::post(what).header("x-asked", "yes").body("a".repeat(100_000)).send()?),
        "host" => told(http::Request::get(what).header("host", "elsewhere").send()?),
        "length" => Ok(http::get(what)?.bytes().len().to_string()),
        "many" => many(what),
        "env" => Ok(format!("{:?}", env(what))),
        "secret" => Ok(format!("{:?}", secret(what))),
        "read" => assets::read_to_string(what),
        _ => Ok(files::change(verb, what)),
    }
}

fn told(answer: http::Response) -> Result<String> {
    Ok(format!("{} {} {}", answer.status(), answer.header("location").unwrap_or("-"), answer.text()?))
}

#[cfg(target_arch = "wasm32")]
fn many(authority: &str) -> Result<String> {
    use vespid_plugin::http_bindings::wasi::http::outgoing_handler::handle;
    use vespid_plugin::http_bindings::wasi::http::types::{Fields, OutgoingRequest, Scheme};

    let open = || {
        let request = OutgoingRequest::new(Fields::from_list(&[]).expect("no headers are headers"));
        request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
        request.set_authority(Some(authority)).expect("an authority");
        request.set_path_with_query(Some("/")).expect("a path");
        handle(request, None).expect("a request is begun")
    };
    let asked: Vec<_> = (0..20).map(|_| open()).collect();
    let outcomes = asked.iter().map(|answer| {
        answer.subscribe().block();
        match answer.get().expect("it is there").expect("and was not taken") {
            Ok(answer) => (answer.status().to_string(), Some(answer)),
            Err(error) => (format!("{error:?}"), None),
        }
    });
    let (outcomes, _answers): (Vec<String>, Vec<_>) = outcomes.unzip();
    Ok(outcomes.join(" "))
}

#[cfg(not(target_arch = "wasm32"))]
fn many(_: &str) -> Result<String> {
    Err(Error::unsupported("for components"))
}

#[cfg(target_arch = "wasm32")]
mod files {
    use vespid_plugin::assets_bindings::wasi::filesystem::preopens::get_directories;
    use vespid_plugin::assets_bindings::wasi::filesystem::types::{
        Descriptor, DescriptorFlags, OpenFlags, PathFlags,
    };

    /// Tries to change something, and says what came of it.
    pub(super) fn change(verb: &str, path: &str) -> String {
        let folders = get_directories();
        let names: Vec<&str> = folders.iter().map(|(_, name)| name.as_str()).collect();
        let Some((folder, _)) = folders.first() else { return "no folder".to_owned() };
        let opened = |open, flags| folder.open_at(PathFlags::SYMLINK_FOLLOW, path, open, flags);
        let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
        let changed = match verb {
            "folders" => return names.join(" "),
            "open" => opened(OpenFlags::empty(), read).map(drop),
            "overwrite" => {
                opened(OpenFlags::empty(), read | write).and_then(|file| file.write(b"x", 0)).map(drop)
            }
            "scribble" => opened(OpenFlags::empty(), read).and_then(|file| file.write(b"x", 0)).map(drop),
            "truncate" => opened(OpenFlags::TRUNCATE, read).map(drop),
            "create" => opened(OpenFlags::CREATE, write).map(drop),
            "mkdir" => folder.create_directory_at(path),
            "unlink" => folder.unlink_file_at(path),
            "rename" => folder.rename_at(path, folder, "renamed"),
            "link" => folder.link_at(PathFlags::empty(), path, folder, "linked"),
            "symlink" => folder.symlink_at(path, "symlinked"),
            "reopen" => reopen(folder).map(drop),
            _ => return format!("what is '{verb}'?"),
        };
        match changed {
            Ok(()) => "done".to_owned(),
            Err(error) => error.name().to_owned(),
        }
    }

    /// The folder once more, with the right to change what is in it.
    fn reopen(
        folder: &Descriptor,
    ) -> Result<Descriptor, vespid_plugin::assets_bindings::wasi::filesystem::types::ErrorCode> {
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        let again = folder.open_at(PathFlags::empty(), ".", OpenFlags::DIRECTORY, flags)?;
        again.create_directory_at("made")?;
        Ok(again)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod files {
    pub(super) fn change(_: &str, _: &str) -> String {
        "for components".to_owned()
    }
}

vespid_plugin::export!(Outside);
