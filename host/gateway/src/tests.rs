//! The gateway between real connections: clients, and servers that stand for pods.

mod access;
mod grpc;
mod http;
mod limits;
mod pods;
mod waiting;
