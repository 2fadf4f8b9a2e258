//! Threads of the standard library, where there are no POSIX ones.

use std::thread::{Builder, JoinHandle};

use super::body::{Body, STACK_BYTES, begin, not_started};
use crate::error::Error;

/// A thread, which is waited for when this is dropped.
pub(crate) struct Thread(Option<JoinHandle<()>>);

impl Thread {
    /// Starts `body`, whose panics end with it. Debuggers show `name`.
    pub fn spawn(name: &str, body: Body) -> Result<Self, Error> {
        let builder = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        builder.spawn(|| begin(body)).map(|thread| Self(Some(thread))).map_err(not_started)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.0.take().map(JoinHandle::join);
    }
}
