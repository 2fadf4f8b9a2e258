"""sweep.py: trials that several commands share."""

import subprocess
import sys

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from training_case import TRAINING, TrainingCase

OPTIONS = "--patch-size 32 --dense 8 --steps 2 --epochs 2 --mine 0 --fold 3/3 --device cpu".split()


class Sweep(TrainingCase):
    def command(self, *words, trials=2, options=()):
        return [sys.executable, TRAINING / "sweep.py", self.folder / "sweep", "--trials", str(trials), "--batch", "4,8",
                "--width", "0.05,0.1", *words, "--", self.lits, *OPTIONS, *options]  # fmt: skip

    def sweep(self, *words, status=0, **kind):
        done = subprocess.run(self.command(*words, **kind), capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def study(self):
        storage = JournalStorage(JournalFileBackend(str(self.folder / "sweep/study.journal")))
        return optuna.load_study(study_name="sweep", storage=storage)

    def test_resumes(self):
        self.assertIn("2 trials; best", self.sweep())
        before = [(trial.params, trial.value) for trial in self.study().trials]
        self.assertEqual(len(before), 2)
        self.assertIn("2 trials; best", self.sweep())  # nothing left to do
        printed = self.sweep(trials=3)
        self.assertIn("3 trials; best", printed)
        trials = self.study().trials
        self.assertEqual([(trial.params, trial.value) for trial in trials][:2], before)
        best = self.study().best_trial
        self.assertTrue(all(best.value >= trial.value for trial in trials))
        self.assertIn(str(self.folder / f"sweep/trial-{best.number}/model.safetensors"), printed)
        for trial in trials:
            self.assertTrue((self.folder / f"sweep/trial-{trial.number}/model.safetensors").exists())
            self.assertEqual(sorted(trial.intermediate_values), [1, 2])
            self.assertEqual(max(trial.intermediate_values.values()), trial.value)
        self.assertIn("made with batch [4, 8], now [8]", self.sweep("--batch", "8", status=1))

    def test_two_at_once(self):
        running = [
            subprocess.Popen(self.command(trials=4), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"
        ]
        for process in running:
            _, errors = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0, errors.decode())
        trials = self.study().trials
        self.assertIn(len(trials), (4, 5))  # the last of either may begin together
        self.assertEqual(len({tuple(trial.params.values()) for trial in trials}), len(trials))

    def test_refused(self):
        self.assertIn("--dropout: is searched", self.sweep(status=1, options=["--dropout", "0.5"]))
        self.assertIn("--fold 0/N: holds out nothing", self.sweep(status=1, options=["--fold", "0/3"]))
        self.assertIn("unrecognized arguments: --nothing", self.sweep(status=2, options=["--nothing"]))
        self.assertFalse((self.folder / "sweep").exists())
