//! Kernels with one fault each, which the tests must find.

/// A change of one file of the kernels.
pub struct Mutant {
    /// The fault.
    pub name: &'static str,
    pub file: &'static str,
    /// Text that is in the file exactly once, and what takes its place.
    pub text: &'static str,
    pub replacement: &'static str,
    /// The test that must fail.
    pub test: &'static str,
}

/// File { test, fault: text => replacement; ... }
macro_rules! mutants {
    ($($file:literal { $($test:ident, $name:literal: $text:literal => $replacement:literal;)* })*) => {
        pub const MUTANTS: &[Mutant] = &[$($(
            Mutant { name: $name, file: $file, text: $text, replacement: $replacement, test: stringify!($test) },
        )*)*];
    };
}

mutants! {
    "conv3_mma.cu" {
        conv3_16_64, "a step does not wait for its own weights":
            "wait_copies<STAGES - 2>();" => "wait_copies<STAGES - 1>();";
        conv3_16_64, "no barrier before a step":
            "wait_copies<STAGES - 2>();\n            barrier();" => "wait_copies<STAGES - 2>();";
        conv3_16_64, "weights are loaded over those that other warps still read":
            "barrier();\n            if (step + STAGES - 1 < steps) {\n                load_weights(step + STAGES - 1);\n            }"
            => "if (step + STAGES - 1 < steps) {\n                load_weights(step + STAGES - 1);\n            }\nbarrier();";
        conv3_16_64, "sources are used before they are there": "barrier();  // sources are there" => "";
        conv3_16_64, "halo of the other chunk":
            "const uint32_t halo = halos_at + chunk % 2 * HALO_BYTES;"
            => "const uint32_t halo = halos_at + (chunk + 1) % 2 * HALO_BYTES;";
        conv3_16_64, "a part of the next halo is left out":
            "load_halo(chunk + 1, tap * halo_part," => "load_halo(chunk + 1, tap * halo_part + 1,";
        conv3_16_64, "weights of another stage":
            "lane_weights + step % STAGES * STAGE_BYTES" => "lane_weights + (step + 1) % STAGES * STAGE_BYTES";
        conv3_16_64, "only one zero pixel is zero": "if (thread < 2 * PIECES) {" => "if (thread < PIECES) {";
        conv3_cancelled, "the cancel word is not read": "if (cancelled(p.cancel)) {" => "if (false) {";
    }
    "conv3.cuh" {
        conv3_16_64, "columns take the tap of the rows":
            "column_taps >> (tap % 3 * 8)" => "column_taps >> (tap / 3 * 8)";
        conv3_16_64, "unwanted pixels are stored":
            "return exists && (!wanted || (wanted[bit / 32] >> bit % 32 & 1));" => "return exists;";
        conv3_16_64, "pixels beyond a section are stored":
            "const bool exists = row < rows.count && column < columns.count;"
            => "const bool exists = row < rows.count;";
        conv3_16_64, "outputs beyond the last are stored":
            "if (wanted && output < p.output_channels) {" => "if (wanted) {";
    }
    "conv3_wgmma.cu" {
        conv3_wgmma_64, "bulk copies may not see their barriers": "            publish_to_async();\n" => "";
        conv3_wgmma_64, "a reader waits for the other round":
            "wait_phase(full(), round, timed_out" => "wait_phase(full(), round ^ 1, timed_out";
        conv3_wgmma_64, "a writer waits for the other round":
            "wait_phase(empty(), round ^ 1, timed_out" => "wait_phase(empty(), round, timed_out";
        conv3_wgmma_64, "rounds are not counted": "round ^= 1;" => "";
        conv3_wgmma_64, "a step does not wait for the one before": "warpgroup_wait<1>();" => "warpgroup_wait<2>();";
        conv3_wgmma_64, "sums are stored before they are complete": "            warpgroup_wait<0>();\n" => "";
        conv3_wgmma_64, "products of registers without a fence": "warpgroup_fence();" => "";
        conv3_wgmma_64, "pixels are loaded over those that products read":
            "make_step(even, odd, step);" => "make_step(even, even, step);";
        conv3_wgmma_64, "steps do not wait for their weights":
            "arrive_expecting(stages.full(), STAGE_BYTES);" => "arrive(stages.full());";
        conv3_wgmma_64, "more bytes are expected than come":
            "arrive_expecting(stages.full(), STAGE_BYTES);" => "arrive_expecting(stages.full(), STAGE_BYTES + 16);";
        conv3_wgmma_64, "a stage is loaded while it is read": "                    stages.wait_empty(timed_out);\n" => "";
        conv3_wgmma_64, "a stage is empty when one warpgroup has read it":
            "init_ring_slot(STAGE_BARRIERS, i, 1, PRODUCT_WARPS);"
            => "init_ring_slot(STAGE_BARRIERS, i, 1, PRODUCT_WARPS / 2);";
        conv3_wgmma_subtiles, "a halo is empty when three warps have read it":
            "init_ring_slot(HALO_BARRIERS, i, 32, 4);" => "init_ring_slot(HALO_BARRIERS, i, 32, 3);";
        conv3_wgmma_64, "a halo is loaded while it is read": "                halos.wait_empty(timed_out);\n" => "";
        conv3_wgmma_64, "a halo is read before it has come":
            "arrive_after_copies(halos.full());" => "arrive(halos.full());";
        conv3_wgmma_64, "a halo is read without waiting for it":
            "                    halos.wait_full(timed_out);\n" => "";
        conv3_wgmma_128, "a halo is never given back": "                    release(halos.empty());\n" => "";
        conv3_wgmma_64, "sources of a halo are used before they are there":
            "        }\n        warp_barrier();\n    }" => "        }\n    }";
        conv3_wgmma_subtiles, "an item is handed out before it is complete":
            "            warp_barrier();\n            if (lane == 0) {\n                arrive(item_ring.full());"
            => "            if (lane == 0) {\n                arrive(item_ring.full());";
        conv3_wgmma_subtiles, "an item counts as read before one of the warpgroups has read it":
            "PRODUCT_WARPS + 1 + WGMMA_SUBTILES;" => "PRODUCT_WARPS / 2 + 1 + WGMMA_SUBTILES;";
        conv3_wgmma_subtiles, "an item is overwritten before all have read it":
            "            item_ring.wait_empty(timed_out);\n" => "";
        conv3_wgmma_64, "only the first subtile's zero pixels are zero":
            "if (thread < WGMMA_SUBTILES * 2 * PIECES) {" => "if (thread < 2 * PIECES) {";
        conv3_wgmma_64, "weights of another stage of the ring":
            "rows_of_64(stage(stages.index))" => "rows_of_64(stage((stages.index + 1) % STAGES))";
        conv3_wgmma_64, "weights of other channels": "weights + k * 2" => "weights + k * 4";
        conv3_wgmma_subtiles, "sums go on from the item before": "            clear(sums);\n" => "";
        conv3_wgmma_64, "both warpgroups make the same subtile": "(has_subtile(item, which) ? which : 0)" => "0";
        conv3_wgmma_64, "weights of the other outputs":
            "int64_t(output_panel()) * steps" => "int64_t((output_panel() + 1) % output_panels) * steps";
        conv3_wgmma_cancelled, "a call that is cancelled goes on":
            "ballot(*p.cancel != 0 || timed_out) != 0 || number >= count" => "number >= count";
        conv3_wgmma_64, "more registers than there are":
            "504 - 2 * Warp::REGISTERS_OF_PRODUCTS" => "512 - 2 * Warp::REGISTERS_OF_PRODUCTS";
    }
    "ptx_90a.cuh" {
        conv3_wgmma_64, "a descriptor of the 64-byte swizzle": "uint64_t(1) << 62" => "uint64_t(2) << 62";
        conv3_wgmma_64, "a descriptor with other rows":
            "uint64_t(1024 >> 4) << 32" => "uint64_t(1024 >> 5) << 32";
    }
    "fragments.cuh" {
        conv3_16_64, "another swizzle than the weights'": "row / (8 / PIECES) % PIECES" => "row % PIECES";
        conv3_16_64, "outputs change places within a quad": "bit <= 2; bit *= 2" => "bit <= 1; bit *= 2";
    }
    "results.cuh" {
        dense_overflow, "an infinite low half is not seen": "0x04000400u" => "0x04000000u";
        split_k_reduce_of_splits, "the last split is left out": "split < splits; split++" => "split < splits - 1; split++";
    }
    "gemm.cu" {
        dense_patch_by_patch, "channels beyond the last are read":
            "source[i] != ZERO && channel < p.input_channels" => "source[i] != ZERO";
        dense_gathers, "a dense step does not wait for its own rows":
            "wait_copies<GEMM_STAGES - 2>();" => "wait_copies<GEMM_STAGES - 1>();";
        dense_gathers, "no barrier before a dense step":
            "wait_copies<GEMM_STAGES - 2>();\n        barrier();" => "wait_copies<GEMM_STAGES - 2>();";
        dense_patch_by_patch, "patches beyond the last are stored":
            "patch < p.patches && output < outputs" => "output < outputs";
        dense_patch_by_patch, "outputs beyond the last are stored":
            "patch < p.patches && output < outputs" => "patch < p.patches";
        dense_gathers, "patches without a list are taken one by one":
            "if (chunk == 0 && p.row_taps) {" => "if (chunk == 0 && p.pixels) {";
        dense_gathers, "weights of the first part for all":
            "int64_t(row) * p.side * chunks" => "int64_t(0) * p.side * chunks";
        dense_gathers, "panels of outputs lie as close as if there were one part":
            "packed_bytes(int64_t(p.side) * p.side * chunks" => "packed_bytes(int64_t(end_row - row) * p.side * chunks";
        dense_gathers, "a part goes beyond the last row of taps": "end_row < p.side ? end_row : p.side" => "end_row";
        dense_gathers, "all taps of a part are those of its first row":
            "                column = 0;\n                row++;"
            => "                column = 0;\n                row = end_row;";
        dense_patch_by_patch, "weights of the last outputs are not read":
            "- first_output + GEMM_PACKED - 1) / GEMM_PACKED" => "- first_output) / GEMM_PACKED";
    }
    "conv3_first.cu" {
        first_windows, "the padding of a patch counts as inside":
            "const float one = inside ? 1.0f : 0.0f;" => "const float one = 1.0f;";
        first_windows, "intensities are used before they are there":
            "    barrier();\n\n    // ---- 8 pixels" => "\n    // ---- 8 pixels";
        first_windows, "a column beyond the crop is read": "column >= p.crop_width" => "column > p.crop_width";
    }
    "intensity.cu" {
        resample_as_the_cpu, "a voxel that is not finite counts wherever it is read":
            "owns(x, voxel_x, p.voxels.width, p.width) &&" => "";
        resample_as_the_cpu, "rows take the weights of the columns":
            "pixel + rows.weights[row] * sum" => "pixel + columns.weights[row] * sum";
        histogram_counts, "counts are added up before they are complete":
            "    barrier();\n\n    for (int i = threadIdx.x; i < LEVELS;"
            => "\n    for (int i = threadIdx.x; i < LEVELS;";
        equalize_as_the_cpu, "sums are overwritten while they are read": "row = LEVELS - row;" => "row = 0;";
    }
    "gather_max_pool.cu" {
        max_of_taps, "a ZERO tap of a pool is read": "from_row == ZERO || from_column == ZERO" => "from_row == ZERO";
    }
    "mask.cu" {
        write_mask_nearest, "the highest of equal classes": "value > most" => "value >= most";
        write_mask_nearest, "a threshold that must be exceeded": "lesion >= p.threshold" => "lesion > p.threshold";
        scores_softmax, "exponentials of another zero than their sum's":
            "sum += expf(logits[i] - largest);" => "sum += expf(logits[i]);";
    }
}
