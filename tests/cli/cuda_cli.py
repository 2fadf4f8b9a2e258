"""`segment` on the fake driver (FAKE_DRIVER: the folder of its libcuda.so): the same masks as on the CPU, and what
happens without a driver, without memory, with a lost device and when interrupted.

    SEGMENT=build/segment FAKE_DRIVER=build/tests/fake_driver python3 tests/cli/cuda_cli.py
"""

import json
import os
import signal
import subprocess
import time
import unittest

from segment_case import SIZES, SegmentCase

FAKE_DRIVER = os.path.abspath(os.environ["FAKE_DRIVER"])


def machine(settings="", driver=True):
    """The environment of a machine with the fake driver, or with no driver at all."""
    environment = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "PATCHMASK_FAKE_DRIVER")}
    if driver:
        environment["LD_LIBRARY_PATH"] = FAKE_DRIVER
        environment["PATCHMASK_FAKE_DRIVER"] = settings
    return environment


class OnTheFakeDriver(SegmentCase):
    def test_same_mask_as_the_cpu(self):
        self.succeed("--logits", "cpu_logits.nrrd", paths=("input.nrrd", "cpu.nrrd"), env=machine())
        self.succeed("--device", "cuda", "--logits", "logits.nrrd", "--report", "report.json", env=machine())
        expected, logits = self.read("cpu_logits.nrrd")[1], self.read("logits.nrrd")[1]
        largest = max(abs(x) for x in expected)
        self.assertEqual(len(expected), len(logits))
        self.assertLessEqual(max(abs(a - b) for a, b in zip(expected, logits)), 1e-2 * largest)
        self.assertNotEqual(expected, logits)  # fp16: another engine
        masks = [self.read(name)[1] for name in ("cpu.nrrd", "mask.nrrd")]
        changed = sum(a != b for a, b in zip(*masks))
        self.assertLessEqual(changed, len(masks[0]) // 100)
        with open(self.path("report.json"), encoding="utf-8") as file:
            report = json.load(file)
        self.assertRegex(report["engine"], r"\Acuda:0 \(Fake GPU 0 \(sm_80\)\)\Z")
        self.assertEqual(report["size"], list(SIZES))
        self.assertGreater(report["device_peak_bytes"], 0)

    def test_auto_takes_the_gpu_where_there_is_one(self):
        for environment, engine in ((machine(), "cuda:0"), (machine(driver=False), "cpu")):
            self.succeed("--device", "auto", "--report", "report.json", env=environment)
            with open(self.path("report.json"), encoding="utf-8") as file:
                self.assertTrue(json.load(file)["engine"].startswith(engine))

    def test_several_gpus_give_the_mask_of_one(self):
        self.succeed("--device", "cuda:1", paths=("input.nrrd", "one.nrrd"), env=machine("devices=2"))
        self.succeed("--device", "cuda:0,1", "--report", "report.json", env=machine("devices=2"))
        self.assertEqual(self.read("one.nrrd"), self.read("mask.nrrd"))
        with open(self.path("report.json"), encoding="utf-8") as file:
            report = json.load(file)
        self.assertRegex(report["engine"], r"\Acuda:0 .*, cuda:1 .*\Z")
        self.assertEqual((report["options"]["device"], report["options"]["cuda_devices"]), ("cuda", 3))

    def test_machines_that_will_not_do(self):
        for settings, says in (
            ("init=34", ("CUDA_ERROR_STUB_LIBRARY", "stub")),
            ("init=100", ("CUDA_ERROR_NO_DEVICE", "no NVIDIA GPU")),
            ("driver=11040", ("CUDA 11.4", "12.4", "update")),
            ("sm=75", ("capability is 7.5", "8.0")),
        ):
            with self.subTest(settings):
                self.refuse(1, "--device", "cuda", env=machine(settings), says=says)
        self.refuse(1, "--device", "cuda:1", env=machine(), says=("cuda:1", "1 CUDA devices"))
        self.refuse(1, "--device", "cuda", env=machine(driver=False), says=("libcuda was not found", "cpu"))

    def test_failures_leave_nothing(self):
        self.refuse(1, "--device", "cuda", env=machine("lose=0:60"), says="CUDA_ERROR")
        self.refuse(1, "--device", "cuda", env=machine("fail=cuMemHostAlloc:3:2"), says="page-locked")
        self.refuse(1, "--device", "cuda", env=machine("memory=100000"), says="bytes of device memory")

    def test_interrupt_leaves_nothing(self):
        command = self.command("--device", "cuda", "--stride", "2")
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=machine(),
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        time.sleep(2)  # in the middle: this takes the fake driver minutes
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
        self.assertEqual((process.returncode, error), (1, b"segment: interrupted\n"))
        self.assertEqual(set(os.listdir(self.folder)), self.inputs)


if __name__ == "__main__":
    unittest.main(verbosity=1)
