//! All of it together: a provider, keys and policies as they come and go.

mod keys;
mod policies;
mod tls;
mod tokens;
