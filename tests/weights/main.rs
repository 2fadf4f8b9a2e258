//! Loading models: the network that a file becomes, and the error that a bad file becomes.

mod folding;
mod hostile;
mod layers;
mod metadata;
#[path = "../support/mod.rs"]
mod support;
