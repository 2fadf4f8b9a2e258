//! The layers as the plan sees them.

use crate::network::{CONVOLUTIONS, POOL_AFTER};

/// A tap that reads nothing but zeros.
pub(crate) const ZERO: i32 = -1;

/// One layer as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// 3x3 convolution; the number counts from 0.
    Convolution(usize),
    /// Max pool 2x2, stride 2, floor.
    Pool,
    /// The first dense layer: a g x g convolution with one output pixel for each patch.
    Head,
}

/// The layers that need tables, in order. Later dense layers work patch by patch.
pub(crate) const STEPS: [Step; CONVOLUTIONS + POOL_AFTER.len() + 1] = {
    let mut steps = [Step::Head; CONVOLUTIONS + POOL_AFTER.len() + 1];
    let (mut next, mut convolution, mut pool) = (0, 0, 0);
    while convolution < CONVOLUTIONS {
        steps[next] = Step::Convolution(convolution);
        (next, convolution) = (next + 1, convolution + 1);
        if POOL_AFTER[pool] == convolution {
            steps[next] = Step::Pool;
            (next, pool) = (next + 1, pool + 1);
        }
    }
    steps
};

/// The last step, the head.
pub(crate) const HEAD: usize = STEPS.len() - 1;

/// Multiply-accumulates of one output pixel of each layer that has weights.
#[derive(Clone, Debug)]
pub(crate) struct MacsPerOutput {
    pub convolutions: Vec<u64>,
    /// One patch, all dense layers.
    pub head: u64,
}

impl MacsPerOutput {
    /// One output pixel of `step`.
    pub fn step(&self, step: Step) -> u64 {
        match step {
            Step::Convolution(i) => self.convolutions[i],
            Step::Pool => 0,
            Step::Head => self.head,
        }
    }

    /// One patch by itself: every output of every layer.
    pub fn patch(&self, patch_size: usize) -> u64 {
        let mut side = patch_size as u64;
        let step = |&step: &Step| match step {
            Step::Convolution(_) => side * side * self.step(step),
            Step::Pool => {
                side /= 2;
                0
            }
            Step::Head => self.head,
        };
        STEPS.iter().map(step).sum()
    }
}
