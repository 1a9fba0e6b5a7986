//! A component that exports nothing.
