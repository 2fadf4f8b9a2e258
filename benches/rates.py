"""What each convolution kernel should reach on a GPU of each compute capability: the predicted rows of src/engine/cuda/rates.rs.

    python benches/rates.py            # prints the rows; no GPU needed

A multiprocessor makes so many fp16 products with f32 sums a clock, and its shared memory moves 128 bytes. A step is a chunk of
input channels and a tap of a tile of 8 x 16 pixels; its loop is in kernels/conv3_mma.cu. With R blocks on a multiprocessor,
while one waits the others have what it does not use, so that a wait counts 1 / R:

    products = 128 * OUTPUTS * CHUNK / products a clock
    shared   = bytes / 128: what ldmatrix reads and cp.async writes
    step     = sqrt(products^2 + shared^2) + 200 / R          the two overlap, but not fully
    tile     = 9 * 256 / CHUNK * step + 2000 / R              with 256 input channels, VGG16's middle

200 clocks: the barrier, and until the first product about 100 instructions of a warp (addresses of the taps, copies) at two
clocks each. 2000 clocks: the tile's tables, the first copies from L2 and the stores. Both are estimates, and so is how far the
two overlap; which kernel a layer gets stays the same with half and with twice of each, and with an overlap that is all but
perfect (tests/gpu/bench_parts.py).

conv3_wgmma_* do two tiles at a time; warps of their own load and wait, which leaves products, shared memory and the stores.
"""

from dataclasses import dataclass

from model import GPUS

TILE_PIXELS = 128
HALO_PIXELS = 180  # about, of a tile
SHARED_BYTES = 128  # a clock
CHANNELS = 256
MMA = [(chunk, outputs) for chunk in (64, 32, 16) for outputs in (128, 64)]


@dataclass
class Rates:
    """Of a GPU: see its maker's white paper. Clocks are those under load, in GHz."""

    gpu: str
    capability: tuple
    multiprocessors: int
    clock: float
    products: float  # a clock of a multiprocessor, by mma.sync
    resident: dict  # blocks on a multiprocessor: the table of kernels/README.md
    wgmma_products: float = 0


def resident(*blocks):
    return dict(zip(MMA, blocks))


# GeForce cards of 8.6 and 8.9 make 256 products with f32 sums a clock, professional ones 512: the choices are the same. On
# Hopper shares of 2048, benches/model.py's: what published matrix products reach, so that their losses count twice.
CAPABILITIES = [
    Rates("A100", (8, 0), 108, 1.41, 1024, resident(1, 1, 2, 3, 2, 4)),
    Rates("RTX 3090", (8, 6), 82, 1.70, 256, resident(0, 1, 1, 2, 2, 4)),
    Rates("RTX 4090", (8, 9), 128, 2.52, 256, resident(0, 1, 1, 2, 2, 4)),
    Rates("H100", (9, 0), 132, 1.70, 2048 * GPUS["H100 mma"].share, resident(2, 2, 2, 4, 2, 4), 2048 * GPUS["H100"].share),
]


@dataclass
class Waits:
    """Clocks that a block alone does nothing."""

    step: float = 200
    tile: float = 2000


def clocks(products, shared_bytes, waits, chunk, blocks, overlap):
    """Of a tile, or of a pair of them."""
    shared = shared_bytes / SHARED_BYTES
    step = (products**overlap + shared**overlap) ** (1 / overlap) + waits.step / blocks
    return 9 * CHANNELS / chunk * step + waits.tile / blocks


def tflops(rates, products, clocks_):
    return 2e-3 * rates.multiprocessors * rates.clock * products / clocks_


def mma(rates, chunk, outputs, waits, overlap):
    """conv3_CHUNK_OUTPUTS. Warps of 64 pixels x 64 outputs with 128 outputs, of 32 x 64 with 64."""
    warp_pixels = outputs // 2
    read = 4 * (warp_pixels + 64) * chunk * 2
    written = outputs * chunk * 2 + HALO_PIXELS * chunk * 2 / 9
    step = TILE_PIXELS * outputs * chunk / rates.products
    of_tile = clocks(step, read + written, waits, chunk, rates.resident[chunk, outputs], overlap)
    return tflops(rates, TILE_PIXELS * outputs * 9 * CHANNELS, of_tile)


def wgmma(rates, outputs, waits, overlap):
    """conv3_wgmma_OUTPUTS: the bytes that the head of kernels/conv3_wgmma.cuh counts."""
    weights = outputs * 64 * 2
    read = 2 * 2 * weights + 2 * TILE_PIXELS * 64 * 2
    written = weights + 2 * HALO_PIXELS * 64 * 2 / 9
    step = 2 * TILE_PIXELS * outputs * 64 / rates.wgmma_products
    of_tiles = clocks(step, read + written, Waits(0, waits.tile), 64, 1, overlap)
    return tflops(rates, 2 * TILE_PIXELS * outputs * 9 * CHANNELS, of_tiles)


def predict(rates, waits=Waits(), overlap=2):
    """{kernel: TFLOP/s}, without kernels that do not fit."""
    found = {f"conv3_{c}_{o}": mma(rates, c, o, waits, overlap) for c, o in MMA if rates.resident[c, o]}
    if rates.wgmma_products:
        found |= {f"conv3_wgmma_{o}": wgmma(rates, o, waits, overlap) for o in (128, 64)}
    return found


def rows(rates):
    """As they stand in src/engine/cuda/rates.rs; tests/gpu/convolutions.rs prints measured ones alike."""
    lines = [f"    // {rates.gpu}, predicted", "    Rates {", f"        capability: {rates.capability},", "        tflops: &["]
    lines += [f'            ("{kernel}", {rate:.1f}),' for kernel, rate in predict(rates).items()]
    return "\n".join([*lines, "        ],", "    },"])


if __name__ == "__main__":
    print("\n".join(map(rows, CAPABILITIES)))
