//! What clients of today's clusters write and 1.20 refuses, added to its sources: of a field that it does not know, a server
//! says so where objects are applied on its side, and drops it elsewhere.
//!
//! The wait before a container ends, `sleep`, is kept, for the pods of the tests are run by something that knows it. Rules in
//! CEL are taken and dropped. Ports of services are those of TCP where nothing else is said, also to who applies them. None of it
//! is part of the protocol buffers: the servers are to be told to speak and store JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// The release that the server says it is, so that charts that ask for a current one are installed.
pub(super) const CLAIMED: (&str, &str) = ("1", "33");

struct Change {
    file: &'static str,
    /// Stands in the file once.
    after: &'static str,
    added: &'static str,
}

const CHANGES: [Change; 7] = [
    Change {
        file: "staging/src/k8s.io/api/core/v1/types.go",
        after: "\tTCPSocket *TCPSocketAction `json:\"tcpSocket,omitempty\" protobuf:\"bytes,3,opt,name=tcpSocket\"`\n",
        added: "\t// +optional\n\
                \tSleep *SleepAction `json:\"sleep,omitempty\" protobuf:\"bytes,4,opt,name=sleep\"`\n\
                }\n\n\
                // SleepAction waits.\n\
                type SleepAction struct {\n\
                \t// Seconds to wait.\n\
                \tSeconds int64 `json:\"seconds\" protobuf:\"bytes,1,opt,name=seconds\"`\n",
    },
    Change {
        file: "staging/src/k8s.io/api/core/v1/types.go",
        after: "\t// The IP protocol for this port. Supports \"TCP\", \"UDP\", and \"SCTP\".\n\
                \t// Default is TCP.\n\
                \t// +optional\n",
        added: "\t// +default=\"TCP\"\n",
    },
    Change {
        file: "pkg/apis/core/types.go",
        after: "\t// TODO: implement a realistic TCP lifecycle hook\n\
                \t// +optional\n\
                \tTCPSocket *TCPSocketAction\n",
        added: "\t// +optional\n\
                \tSleep *SleepAction\n\
                }\n\n\
                // SleepAction waits.\n\
                type SleepAction struct {\n\
                \tSeconds int64\n",
    },
    Change {
        file: "pkg/apis/core/v1/zz_generated.conversion.go",
        after: "\tout.TCPSocket = (*core.TCPSocketAction)(unsafe.Pointer(in.TCPSocket))\n",
        added: "\tout.Sleep = (*core.SleepAction)(unsafe.Pointer(in.Sleep))\n",
    },
    Change {
        file: "pkg/apis/core/v1/zz_generated.conversion.go",
        after: "\tout.TCPSocket = (*v1.TCPSocketAction)(unsafe.Pointer(in.TCPSocket))\n",
        added: "\tout.Sleep = (*v1.SleepAction)(unsafe.Pointer(in.Sleep))\n",
    },
    Change {
        file: "pkg/apis/core/validation/validation.go",
        after: "func validateHandler(handler *core.Handler, fldPath *field.Path) field.ErrorList {\n\
                \tnumHandlers := 0\n",
        added: "\tif handler.Sleep != nil {\n\
                \t\tnumHandlers++\n\
                \t}\n",
    },
    Change {
        file: "staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1/types_jsonschema.go",
        after: "\tXMapType *string `json:\"x-kubernetes-map-type,omitempty\" protobuf:\"bytes,43,opt,name=xKubernetesMapType\"`\n",
        added: "\t// +optional\n\
                \tXValidations *JSON `json:\"x-kubernetes-validations,omitempty\" protobuf:\"bytes,44,opt,name=xKubernetesValidations\"`\n",
    },
];

/// Changes the sources of 1.20 in this folder.
pub(super) fn add(sources: &Path) -> Result<()> {
    for change in &CHANGES {
        let path = sources.join(change.file);
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let places = text.matches(change.after).count();
        ensure!(places == 1, "{} has {places} places for {}", path.display(), change.added);
        let added = [change.after, change.added].concat();
        fs::write(&path, text.replacen(change.after, &added, 1))?;
    }
    Ok(())
}
