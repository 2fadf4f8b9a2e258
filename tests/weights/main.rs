//! Loading models: the network that a file becomes, and the error that a bad file becomes.

#[path = "../support/builder.rs"]
mod builder;
mod folding;
mod hostile;
mod layers;
mod metadata;
