//! Every driver call fails once, at many places: an error of the right kind, nothing left behind, and the library
//! goes on.

use patchmask::Error;
use patchmask::Model;
use patchmask::{DeviceChoice, DeviceKind};
use patchmask::{Options, Session};
use safetensors::Dtype;

use crate::host::small_case;
use crate::support::{Bits, Case, File, Random, network};
use crate::{bits, fake_driver, on_gpu};

const OUT_OF_MEMORY: i32 = 2;
const LAUNCH_FAILED: i32 = 719;

/// Calls that the engine makes, but for those that give back and those that make a context current: without them nothing
/// can be given back.
const CALLS: [&str; 29] = [
    "cuCtxCreate_v2", "cuDeviceGetUuid", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceGetCount",
    "cuDevicePrimaryCtxRetain", "cuMemGetInfo_v2", "cuMemHostAlloc", "cuMemcpyHtoD_v2", "cuMemcpyDtoH_v2",
    "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2", "cuMemsetD32Async", "cuModuleLoadDataEx",
    "cuModuleGetFunction", "cuFuncSetAttribute", "cuLaunchKernel", "cuStreamBeginCapture_v2", "cuStreamEndCapture",
    "cuStreamCreate", "cuStreamSynchronize", "cuStreamWaitEvent", "cuEventCreate", "cuEventQuery", "cuEventRecord",
    "cuGraphInstantiateWithFlags", "cuGraphLaunch",
];

/// Makes a session and runs it: the errors that may come, or the bits of the outcome.
fn whole(case: &Case, model: &Model) -> Result<Bits, Error> {
    hear(case, model).map(|(bits, _)| bits)
}

/// The same with what the session said.
fn hear(case: &Case, model: &Model) -> Result<(Bits, String), Error> {
    let mut said = String::new();
    let session = Session::new(model, on_gpu(case), &mut |_, text| said += text)?;
    case.try_in(&session, model).map(|outcome| (bits(&outcome), said))
}

#[test]
fn every_call_may_fail() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(7);
    let case = case.with_depth(9); // Slots replay what they have recorded.
    let expected = whole(&case, &model).unwrap();
    let mut failures = 0;
    for call in CALLS {
        gpu.reset();
        whole(&case, &model).unwrap();
        let count = gpu.calls(call);
        assert!(count > 0, "{call} is never called");
        // The first few, the last, and some in between.
        let step = (count / 4).max(1);
        for nth in (1..=count).filter(|nth| nth % step == 0 || *nth == 1 || *nth == count) {
            gpu.reset();
            gpu.fail(call, nth, LAUNCH_FAILED);
            match hear(&case, &model) {
                Err(
                    Error::DeviceFailed(_) | Error::NoDevice(_) | Error::DeviceOutOfMemory(_) | Error::OutOfMemory(_),
                ) => failures += 1,
                Err(other) => panic!("{call} {nth}: {other:?}"),
                // In the self-test it costs the kernel that was at work; the others give other last bits, and the same classes.
                Ok((outcome, said)) if said.contains("left out") => assert!(outcome.0 == expected.0, "{call} {nth}"),
                // At the end of a call, when everything has been waited for already.
                Ok((outcome, _)) => assert!(outcome == expected, "{call} {nth}"),
            }
            assert_eq!(gpu.live(""), 0, "{call} {nth}");
            assert_eq!(gpu.error(), "", "{call} {nth}");
        }
    }
    println!("{failures} failures reported");
    gpu.reset();
    assert!(whole(&case, &model).unwrap() == expected, "and it goes on");
}

/// Any allocation on the device may fail: tiles shrink and the call succeeds, or it is DEVICE_OUT_OF_MEMORY.
#[test]
fn device_memory_may_run_out_at_any_allocation() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(8);
    let expected = whole(&case, &model).unwrap();
    let count = gpu.calls("cuMemAlloc_v2");
    let (mut succeeded, mut refused) = (0, 0);
    for nth in 1..=count {
        gpu.reset();
        gpu.fail("cuMemAlloc_v2", nth, OUT_OF_MEMORY);
        match whole(&case, &model) {
            Ok(mask) => {
                assert!(mask == expected, "allocation {nth}");
                succeeded += 1;
            }
            Err(Error::DeviceOutOfMemory(_)) => refused += 1,
            Err(other) => panic!("allocation {nth}: {other:?}"),
        }
        assert_eq!(gpu.live(""), 0, "allocation {nth}");
        assert_eq!(gpu.error(), "");
    }
    println!("of {count} allocations {succeeded} were tried again, {refused} refused the call");
    assert!(succeeded > 0 && refused > 0);
}

/// A graph only saves time: without memory for it the layers are launched one by one.
#[test]
fn graphs_may_run_out_of_memory() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(14);
    let case = case.with_depth(9);
    let expected = whole(&case, &model).unwrap();
    for call in ["cuGraphInstantiateWithFlags", "cuGraphLaunch"] {
        gpu.reset();
        whole(&case, &model).unwrap();
        let count = gpu.calls(call);
        assert!(count > 0);
        for nth in 1..=count {
            gpu.reset();
            gpu.fail(call, nth, OUT_OF_MEMORY);
            assert!(whole(&case, &model).unwrap() == expected, "{call} {nth}");
            assert_eq!(gpu.live(""), 0);
            assert_eq!(gpu.error(), "");
        }
    }
}

/// Other programs take memory after the session was made, so that there is less than the budget says: smaller tiles,
/// the same mask.
#[test]
fn tiles_shrink_to_the_memory_there_is() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(9);
    let case = crate::repeatability::case(&mut random);
    let model = network(&mut random, case.options.patch_size);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let at_rest = gpu.live("bytes");
    let whole = case.run_in(&session, &model);
    let expected = bits(&whole);
    let needed = gpu.live("bytes") - at_rest;
    let mut tiles = vec![whole.report.work.tiles];
    for percent in [80, 28, 18] {
        session.trim().unwrap();
        gpu.devices(1, at_rest + needed * percent / 100);
        let outcome = case.run_in(&session, &model);
        assert!(bits(&outcome) == expected, "{percent} %");
        tiles.push(outcome.report.work.tiles);
    }
    println!("tiles with 100, 80, 28, 18 % of the memory: {tiles:?}");
    assert!(tiles[3] > tiles[0]);
    session.trim().unwrap();
    gpu.devices(1, at_rest + needed / 100);
    match case.mask_in(&session) {
        Err(Error::DeviceOutOfMemory(text)) => assert!(text.contains("bytes"), "{text}"),
        other => panic!("{other:?}"),
    }
    drop(session);
    assert_eq!(gpu.live(""), 0);
}

#[test]
fn a_lost_device_is_an_error_and_leaves_nothing() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(10);
    for after in [0, 1, 5, 19, 40] {
        gpu.reset();
        let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
        gpu.lose(0, after);
        let outcome = case.mask_in(&session);
        assert!(matches!(outcome, Err(Error::DeviceFailed(_))), "{outcome:?}");
        let again = case.mask_in(&session);
        assert!(matches!(again, Err(Error::DeviceFailed(_))), "{again:?}");
        drop(session);
        assert_eq!(gpu.live(""), 0, "after {after}");
    }
    // `auto` then is the CPU, and says why.
    let mut said = String::new();
    let options = Options { device: DeviceChoice::Auto, ..on_gpu(&case) };
    let session = Session::new(&model, options, &mut |_, text| said += text).unwrap();
    assert!(session.engine_name().starts_with("cpu"), "{said}");
    assert!(said.contains("cuda:0"), "{said}");
    assert_eq!(case.run_in(&session, &model).report.device, DeviceKind::Cpu);
    gpu.reset(); // Forgets the tasks that were lost with the device.
}

/// A kernel that computes something else is left out where there is another, and makes the device unusable where
/// there is none.
#[test]
fn wrong_kernels_are_found_before_they_are_used() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(11);
    let expected = whole(&case, &model).unwrap();
    for kernel in
        ["conv3_first", "gather_max_pool", "gemm", "split_k_reduce", "scores", "write_mask", "histogram", "equalize"]
    {
        gpu.reset();
        gpu.spoil(kernel);
        match whole(&case, &model) {
            Err(Error::NoDevice(text)) => assert!(text.contains("wrong result"), "{text}"),
            other => panic!("{kernel}: {other:?}"),
        }
        assert_eq!(gpu.live(""), 0, "{kernel}");
    }
    // The first of each list is chosen, and each other where those before it are left out.
    let lists: [&[&str]; 2] =
        [&["conv3_32_128", "conv3_32_64", "conv3_16_128"], &["conv3_32_64", "conv3_32_128", "conv3_16_64"]];
    for list in lists {
        for count in 1..=list.len() {
            let kernels = &list[..count];
            gpu.reset();
            kernels.iter().for_each(|kernel| gpu.spoil(kernel));
            let mut said = String::new();
            let session = Session::new(&model, on_gpu(&case), &mut |_, text| said += text).unwrap();
            for kernel in kernels {
                assert!(said.contains(kernel), "{kernels:?}: {said}");
            }
            assert!(case.mask_in(&session).unwrap() == expected.0, "{kernels:?}");
        }
    }
    gpu.reset();
    lists.concat().iter().for_each(|kernel| gpu.spoil(kernel));
    match whole(&case, &model) {
        Err(Error::NoDevice(text)) => {
            assert!(text.contains("no CUDA kernel is left") && text.contains("conv3_16_64"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(gpu.live(""), 0);
}

/// Activations beyond fp16 are an error that names the layer, not a mask made of infinities.
#[test]
fn overflow_names_the_layer() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, _) = small_case(12);
    for (position, name) in [(0, "convolution 1 of 13"), (7, "convolution 4 of 13")] {
        let mut file = File::new(Dtype::F32, false, 1, 1, &[2]);
        for (tensor, values) in &mut file.tensors {
            let scale = if tensor.starts_with(&format!("features.{position}.")) { 30000.0 } else { 0.5 };
            let floats = values.bytes.len() / 4;
            values.bytes = (0..floats).flat_map(|_| f32::to_le_bytes(scale)).collect();
        }
        let model = file.load().unwrap();
        let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
        match case.mask_in(&session) {
            Err(Error::BadModel(text)) => assert!(text.contains(name), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gpu.live(""), 0);
}
