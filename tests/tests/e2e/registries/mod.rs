//! Packages that come from registries and go there, against Docker's own.

mod clients;
mod serve;
mod sources;
mod transfer;
mod trust;
