//! A model's weights as engines pack them, shared by its sessions and freed with the last of them.

use std::any::Any;
use std::sync::{Arc, Weak};

use crate::error::Error;
use crate::process::ForkMutex;

/// By key; nothing is kept alive here.
#[derive(Default)]
pub(super) struct PackedCache(ForkMutex<Vec<(String, Weak<dyn Any + Send + Sync>)>>);

impl PackedCache {
    /// The value under `key`, or that of `make`: one session makes it, others wait.
    pub fn get<T: Any + Send + Sync>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Arc<T>, Error> {
        let mut known = self.0.lock();
        known.retain(|(_, value)| value.strong_count() > 0);
        let found = known.iter().find(|(of, _)| of == key);
        if let Some(value) = found.and_then(|(_, value)| value.upgrade())
            && let Ok(value) = value.downcast::<T>()
        {
            return Ok(value);
        }
        let value = Arc::new(make()?);
        let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&(value.clone() as Arc<_>));
        known.push((key.to_owned(), weak));
        Ok(value)
    }
}
