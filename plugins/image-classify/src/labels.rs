//! The names of ImageNet's classes, in the order of the graph's outputs: written by build.rs out of labels.txt.

include!(concat!(env!("OUT_DIR"), "/labels.rs"));
