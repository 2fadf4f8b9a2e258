//! Work of single layers and slices.

/// Work of one layer since the session began, all slices and tiles together.
#[derive(Clone, Debug, Default)]
pub struct LayerWork {
    /// As in the original VGG16: conv1_1, pool1, ...; the dense layers together.
    pub name: String,
    /// On the clock, with all threads at work.
    pub seconds: f64,
    /// Multiply-accumulates that its outputs stand for, each computed once.
    pub macs: u64,
    /// Multiply-accumulates done: Winograd's method needs fewer.
    pub products: u64,
    /// Bytes of activations read and written, each once.
    pub bytes: u64,
}

/// A stretch of the work on a slice in the last call, in seconds since the call began.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Such as "cuda:0 upload" and "cuda:0 compute 0"; slices of one size side by side have other numbers.
    pub lane: String,
    /// Its number.
    pub slice: usize,
    /// When it began.
    pub begin: f64,
    /// When it ended.
    pub end: f64,
}
