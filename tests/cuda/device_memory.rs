//! Volumes and outputs in device memory: no copies through the host, ordered after the caller's stream.

use std::ffi::c_int;

use patchmask::error::Error;
use patchmask::session::{Options, Outputs, Session};
use patchmask::volume::{Extents, Memory, Strides, Volume, VolumeMut, VoxelType};

use crate::fake_driver::FakeDriver;
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

type Allocate = unsafe extern "C" fn(*mut u64, usize) -> c_int;
type Address = unsafe extern "C" fn(u64) -> c_int;
type CopyIn = unsafe extern "C" fn(u64, *const u8, usize, u64) -> c_int;
type CopyOut = unsafe extern "C" fn(*mut u8, u64, usize) -> c_int;
type MakeStream = unsafe extern "C" fn(*mut u64, u32) -> c_int;
type Retain = unsafe extern "C" fn(*mut u64, c_int) -> c_int;
type Release = unsafe extern "C" fn(c_int) -> c_int;

impl<'a> Host<'a> {
    fn new(gpu: &'a FakeDriver) -> Self {
        let (mut context, mut stream) = (0, 0);
        // SAFETY: functions of the driver with their signatures, here and below.
        unsafe {
            let retain: Retain = gpu.function("cuDevicePrimaryCtxRetain");
            let set: Address = gpu.function("cuCtxSetCurrent");
            let create: MakeStream = gpu.function("cuStreamCreate");
            assert_eq!(retain(&raw mut context, 0), 0);
            assert_eq!(set(context), 0);
            assert_eq!(create(&raw mut stream, NON_BLOCKING), 0);
        }
        Self { gpu, stream }
    }

    fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0;
        // SAFETY: as above.
        unsafe {
            let allocate: Allocate = self.gpu.function("cuMemAlloc_v2");
            assert_eq!(allocate(&raw mut address, bytes), 0);
        }
        address
    }

    fn free(&self, address: u64) {
        // SAFETY: as above.
        unsafe {
            let free: Address = self.gpu.function("cuMemFree_v2");
            assert_eq!(free(address), 0);
        }
    }

    /// Copies to the device some time: the work of the host's stream.
    fn copy_in(&self, address: u64, bytes: &[u8]) {
        // SAFETY: as above; the tests keep `bytes` until the call has waited for the stream.
        unsafe {
            let copy: CopyIn = self.gpu.function("cuMemcpyHtoDAsync_v2");
            assert_eq!(copy(address, bytes.as_ptr(), bytes.len(), self.stream), 0);
        }
    }

    fn copy_out(&self, bytes: &mut [u8], address: u64) {
        // SAFETY: as above.
        unsafe {
            let copy: CopyOut = self.gpu.function("cuMemcpyDtoH_v2");
            assert_eq!(copy(bytes.as_mut_ptr(), address, bytes.len()), 0);
        }
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            let destroy: Address = self.gpu.function("cuStreamDestroy_v2");
            let set: Address = self.gpu.function("cuCtxSetCurrent");
            let release: Release = self.gpu.function("cuDevicePrimaryCtxRelease_v2");
            destroy(self.stream);
            set(0);
            release(0);
        }
    }
}

fn volume(case: &Case, address: u64, stream: u64) -> Volume<'static> {
    let extents = Extents::new(case.width as u64, case.height as u64, case.depth as u64, "volume").unwrap();
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
        let host = Host::new(gpu);
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
        let mut bytes = vec![0; voxels];
        host.copy_out(&mut bytes, mask);
        assert_eq!(bytes, expected.mask);
        host.copy_out(&mut bytes, coverage);
        assert_eq!(bytes, expected.coverage);
        let mut bytes = vec![0; 4 * voxels];
        host.copy_out(&mut bytes, probability);
        assert_eq!(bytes, bytes_of(&expected.probability));
        let mut bytes = vec![0; 4 * expected.logits.len()];
        host.copy_out(&mut bytes, logits);
        assert_eq!(bytes, bytes_of(&expected.logits));
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
    let host = Host::new(gpu);
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
    let other = Options { device: patchmask::engine::DeviceChoice::Cuda(vec![1]), ..on_gpu(&case) };
    let other = Session::new(&model, other, &mut |_, _| ()).unwrap();
    refused(&other, good, "another device or context");
    let both = Options { device: patchmask::engine::DeviceChoice::Cuda(vec![0, 1]), ..on_gpu(&case) };
    let both = Session::new(&model, both, &mut |_, _| ()).unwrap();
    refused(&both, good, "a session of that GPU alone");
    let cpu = Session::new(&model, case.options.clone(), &mut |_, _| ()).unwrap();
    refused(&cpu, good, "runs on the CPU");
    host.free(good);
    assert_eq!(gpu.error(), "");
}
