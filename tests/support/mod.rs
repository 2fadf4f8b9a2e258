//! Shared by the tests: volumes and models made up at random, the reference that results are compared with, and the
//! fake driver.
#![allow(dead_code, unused_imports)] // each test binary uses a part

pub mod agreement;
pub mod cases;
pub mod cxx;
pub mod fake_driver;
pub mod models;
pub mod parameters;
pub mod random;
pub mod reference;

pub use agreement::Agreement;
pub use cases::{Bits, Case, Outcome, bits, in_turn, on_gpu};
pub use models::{File, TestModel, Vgg, network, raw_file, refused};
pub use random::Random;
