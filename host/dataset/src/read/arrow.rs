//! Arrow IPC files.
