//! Imports what no server offers.

use vespid_plugin::prelude::*;

struct Hostile;

impl Model for Hostile {
    fn describe() -> Result<Signature> {
        Ok(Signature::new().input::<i32>("kind", [ANY]).output::<i32>("answer", [ANY]))
    }

    fn predict(mut request: Request) -> Result<Response> {
        delete_everything();
        Ok(Response::new().output("answer", request.take("kind")?))
    }
}

#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "hostile:outside/files@1.0.0")]
unsafe extern "C" {
    #[link_name = "delete-everything"]
    safe fn delete_everything();
}

#[cfg(not(target_arch = "wasm32"))]
fn delete_everything() {}

/// world.wit, as wit-bindgen 0.63 encodes it for the component linker.
#[cfg(target_arch = "wasm32")]
#[unsafe(link_section = "component-type:hostile")]
#[used]
static WORLD: [u8; 227] = *b"\
\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07f\x01A\x02\x01A\x02\x01\
B\x02\x01@\0\x01\0\x04\0\x11delete-everything\x01\0\x03\0\x1bhostile:outside/fil\
es@1.0.0\x05\0\x04\0\x1dhostile:outside/outside@1.0.0\x04\0\x0b\x0d\x01\0\x07out\
side\x03\0\0\0G\x09producers\x01\x0cprocessed-by\x02\x0dwit-component\x070.262.0\
\x10wit-bindgen-rust\x060.63.0";

vespid_plugin::export!(Hostile);
