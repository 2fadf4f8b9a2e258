//! Volumes and outputs in device memory: no copies through the host, ordered after the caller's stream.

use std::ffi::c_int;

use patchmask::Error;
use patchmask::{Memory, Strides, Volume, VolumeMut, VoxelType};
use patchmask::{Options, Outputs, Session};

use crate::fake_driver::{FakeDriver, call, succeed};
use crate::host::small_case;
use crate::support::Case;
use crate::{fake_driver, on_gpu};

/// The host program's own use of the driver, on the primary context of device 0.
struct Host<'a> {
    gpu: &'a FakeDriver,
    stream: u64,
}

/// CU_STREAM_NON_BLOCKING
const NON_BLOCKING: u32 = 1;

impl<'a> Host<'a> {
    fn new(gpu: &'a FakeDriver) -> Self {
        let (mut context, mut stream) = (0, 0);
        succeed!(gpu, "cuDevicePrimaryCtxRetain", (&raw mut context => *mut usize, 0 => c_int));
        succeed!(gpu, "cuCtxSetCurrent", (context => usize));
        succeed!(gpu, "cuStreamCreate", (&raw mut stream => *mut u64, NON_BLOCKING => u32));
        Self { gpu, stream }
    }

    fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0;
        succeed!(self.gpu, "cuMemAlloc_v2", (&raw mut address => *mut u64, bytes => usize));
        address
    }

    fn free(&self, address: u64) {
        succeed!(self.gpu, "cuMemFree_v2", (address => u64));
    }

    /// Copies to the device some time: the work of the host's stream. The tests keep `bytes` until the call has waited for it.
    fn copy_in(&self, address: u64, bytes: &[u8]) {
        succeed!(self.gpu, "cuMemcpyHtoDAsync_v2",
            (address => u64, bytes.as_ptr() => *const u8, bytes.len() => usize, self.stream => u64));
    }

    fn read(&self, address: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        succeed!(self.gpu, "cuMemcpyDtoH_v2", (bytes.as_mut_ptr() => *mut u8, address => u64, count => usize));
        bytes
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        call!(self.gpu.library(), "cuStreamDestroy_v2", (self.stream => u64) -> c_int);
        call!(self.gpu.library(), "cuCtxSetCurrent", (0 => usize) -> c_int);
        call!(self.gpu.library(), "cuDevicePrimaryCtxRelease_v2", (0 => c_int) -> c_int);
    }
}

fn volume(case: &Case, address: u64, stream: u64) -> Volume<'static> {
    let extents = case.extents();
    let strides = Strides::dense(extents, 2, "volume").unwrap();
    let memory = Memory::Cuda { stream: stream as usize };
    // SAFETY: device memory of that size.
    unsafe { Volume::from_raw(address as *const u8, memory, VoxelType::I16, extents, strides, (1.0, 0.0), "volume") }
        .unwrap()
}

fn bytes_of<T>(values: &[T]) -> &[u8] {
    // SAFETY: plain numbers.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

#[test]
fn nothing_goes_through_the_host() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(21);
    let expected = case.run(&model, on_gpu(&case));
    let voxels = case.voxels.len();
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    for seed in 0..4 {
        gpu.completion(2, seed);
        let host = Host::new(&gpu);
        let input = host.allocate(2 * voxels);
        let mask = host.allocate(voxels);
        let coverage = host.allocate(voxels);
        let probability = host.allocate(4 * voxels);
        let logits = host.allocate(4 * expected.logits.len());
        host.copy_in(input, bytes_of(&case.voxels));
        let memory = Memory::Cuda { stream: host.stream as usize };
        // SAFETY: device memory of the right sizes.
        let mut outputs = unsafe {
            Outputs {
                mask: VolumeMut::from_raw(mask as *mut u8, memory, [0; 4]),
                probability: VolumeMut::from_raw(probability as *mut f32, memory, [0; 4]),
                coverage: VolumeMut::from_raw(coverage as *mut u8, memory, [0; 4]),
                logits: VolumeMut::from_raw(logits as *mut f32, memory, [0; 4]),
            }
        };
        let before = gpu.calls("cuMemcpyDtoHAsync_v2");
        let report = session.segment(&volume(&case, input, host.stream), None, &mut outputs, &mut |_, _| true).unwrap();
        let copies = gpu.calls("cuMemcpyDtoHAsync_v2") - before;
        assert_eq!(copies, case.depth as u64, "only the status of each slice comes back");
        assert_eq!(report.nonfinite_voxels, 0);
        assert_eq!(host.read(mask, voxels), expected.mask);
        assert_eq!(host.read(coverage, voxels), expected.coverage);
        assert_eq!(host.read(probability, 4 * voxels), bytes_of(&expected.probability));
        assert_eq!(host.read(logits, 4 * expected.logits.len()), bytes_of(&expected.logits));
        for address in [input, mask, coverage, probability, logits] {
            host.free(address);
        }
        assert_eq!(gpu.error(), "");
    }
}

#[test]
fn wrong_addresses_are_refused() {
    let Some(gpu) = fake_driver::take() else { return };
    gpu.devices(2, 1 << 30);
    let (case, model) = small_case(22);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let host = Host::new(&gpu);
    let bytes = 2 * case.voxels.len();
    let good = host.allocate(bytes + 2);
    let mut mask = vec![7; case.voxels.len()];
    let mut refused = |session: &Session, address: u64, text: &str| {
        let mut outputs = Outputs { mask: Some(VolumeMut::from_slice(&mut mask)), ..Outputs::default() };
        let volume = volume(&case, address, 0);
        let outcome = session.segment(&volume, None, &mut outputs, &mut |_, _| true);
        match outcome {
            Err(Error::InvalidArgument(said)) => assert!(said.contains(text), "{said}"),
            other => panic!("{text}: {other:?}"),
        }
        assert!(mask.iter().all(|&byte| byte == 7));
    };
    refused(&session, good + 1, "multiples of 2 bytes");
    refused(&session, case.voxels.as_ptr() as u64, "not device memory");
    let other = Options { device: patchmask::DeviceChoice::Cuda(vec![1]), ..on_gpu(&case) };
    let other = Session::new(&model, other, &mut |_, _| ()).unwrap();
    refused(&other, good, "another device or context");
    let both = Options { device: patchmask::DeviceChoice::Cuda(vec![0, 1]), ..on_gpu(&case) };
    let both = Session::new(&model, both, &mut |_, _| ()).unwrap();
    refused(&both, good, "a session of that GPU alone");
    let body = Session::new(&model, Options { body: true, ..on_gpu(&case) }, &mut |_, _| ()).unwrap();
    refused(&body, good, "body of a volume in device memory");
    let cpu = Session::new(&model, case.options.clone(), &mut |_, _| ()).unwrap();
    refused(&cpu, good, "runs on the CPU");
    host.free(good);
}
