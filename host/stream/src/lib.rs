//! Continuous consumers: messages in, predictions out, none lost.
