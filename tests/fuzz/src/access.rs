//! What says who may ask.

use vespid_auth::fuzzing;

/// A key as they look.
const KEY: &str = "vespid_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// `access.yaml`, and the file of keys.
pub fn access(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = fuzzing::access(text) {
        assert!(error.to_string().starts_with("access.yaml: "), "{error}");
    }
    if let Err(error) = fuzzing::keys(text, KEY) {
        let told = error.to_string();
        assert!(told.starts_with("keys.yaml: ") && !told.contains(KEY), "{told}");
    }
}

/// A token, and a key, as a request shows it.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // It is what is wrong with it, or nothing is known against it yet.
    let _ = fuzzing::token(text);
    assert!(fuzzing::keys("[]", text).expect("no keys").is_err());
}
