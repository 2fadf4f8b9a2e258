//! Requests to stop, and whose they are.
//!
//! A request ends the call that is running, an estimate or a segmentation. While none is running it ends the next segmentation,
//! also where an estimate comes first. A segmentation that returns, for whatever reason, takes with it what was requested until
//! then.

use std::sync::{Mutex, PoisonError};

use crate::engine::Control;

/// The requests of a session.
#[derive(Default)]
pub(super) struct Requests {
    pub segment: Control,
    pub estimate: Control,
    /// An estimate is running.
    estimating: Mutex<bool>,
}

impl Requests {
    /// Asks for a stop. Any thread.
    pub fn request(&self) {
        let estimating = self.estimating.lock().unwrap_or_else(PoisonError::into_inner);
        if *estimating { self.estimate.cancel.request() } else { self.segment.cancel.request() }
    }

    pub fn begin_estimate(&self) {
        *self.estimating.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// A request that came too late for the estimate is for what comes next.
    pub fn end_estimate(&self, cancelled: bool) {
        let mut estimating = self.estimating.lock().unwrap_or_else(PoisonError::into_inner);
        *estimating = false;
        if self.estimate.cancel.take() && !cancelled {
            self.segment.cancel.request();
        }
    }

    pub fn end_segment(&self) {
        self.segment.cancel.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_owner() {
        let requests = Requests::default();
        // While none runs: the next segmentation's, not the estimate's.
        requests.request();
        requests.begin_estimate();
        assert!(requests.estimate.cancel.check().is_ok());
        requests.end_estimate(false);
        assert!(requests.segment.cancel.check().is_err());
        requests.end_segment();
        assert!(requests.segment.cancel.check().is_ok());
        // While an estimate runs: its own, and gone with it.
        requests.begin_estimate();
        requests.request();
        assert!(requests.estimate.cancel.check().is_err() && requests.segment.cancel.check().is_ok());
        requests.end_estimate(true);
        assert!(requests.segment.cancel.check().is_ok());
        // Too late for it.
        requests.begin_estimate();
        requests.request();
        requests.end_estimate(false);
        assert!(requests.segment.cancel.check().is_err());
    }
}
