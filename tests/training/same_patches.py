"""For test_processes.py: an epoch on patches that are the same for any number of processes; makes OUT/rank-N.pt."""

from training_case import Group, np, torch, train  # first: it says where the training programs are

import trainer
from patches import MARGIN

torch.set_num_threads(1)
trainer.augmented = lambda patches, size: patches[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
group = Group("cpu")
training = trainer.Training(train.checked(train.parser().parse_args()), group)
sampler, draw = training.sampler, training.sampler.batch
sampler.rng = np.random.default_rng(5)
sampler.batch = lambda size: [part[group.rank :: group.size] for part in draw(size * group.size)]
before = {name: value.clone() for name, value in training.model.state_dict().items()}
training.train_epoch("epoch")
torch.save(
    dict(before=before, weights=training.model.state_dict(), scores=training.held_out_scores()),
    training.args.out / f"rank-{group.rank}.pt",
)
group.close()
